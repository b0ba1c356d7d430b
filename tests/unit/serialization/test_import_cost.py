"""Importing the package costs little: what only some values need is loaded when one of them comes."""

from __future__ import annotations

import subprocess
import sys

EXPENSIVE = [
    "dataclasses",
    "decimal",
    "hashlib",
    "inspect",
    "pathlib",
    "pickle",
    "pydantic",
    "traceback",
    "uuid",
    "zoneinfo",
]


def test_expensive_modules_are_not_loaded() -> None:
    program = f"import sys, dbos_events.serialization; print([m for m in {EXPENSIVE} if m in sys.modules])"
    output = subprocess.run(
        [sys.executable, "-I", "-S", "-c", f"import sys; sys.path[:0] = {sys.path!r}; {program}"],
        capture_output=True,
        text=True,
        check=True,
    )

    assert output.stdout == "[]\n"

"""Importing the package costs little: what only some values need is loaded when one of them comes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import dbos_events

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


# The package itself is stood in for: what its facade loads is not counted here.
PROGRAM = f"""
import sys
sys.path[:0] = {sys.path!r}
facade = type(sys)("dbos_events")
facade.__path__ = [{str(Path(dbos_events.__file__).parent)!r}]
sys.modules["dbos_events"] = facade
import dbos_events.serialization
print([name for name in {EXPENSIVE} if name in sys.modules])
"""


def test_expensive_modules_are_not_loaded() -> None:
    output = subprocess.run(
        [sys.executable, "-I", "-S", "-c", PROGRAM], capture_output=True, text=True, check=True
    )

    assert output.stdout == "[]\n"

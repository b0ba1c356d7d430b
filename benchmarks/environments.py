"""The contestants' environments: one virtual environment for the peer and one for all others, made once and kept."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks.interpreter import Interpreter, fastest_python

ROOT = Path(__file__).resolve().parent.parent
PEER_VERSION = "3.4.0"
PEER = (f"dbos=={PEER_VERSION}", "confluent-kafka>=2.13", "psycopg[binary]>=3.2")


def peer_python() -> Path:
    """Return the interpreter that has the peer, made on first use.

    `DBOS_EVENTS_BENCHMARK_PEER` names an interpreter to use instead.
    """
    named = os.environ.get("DBOS_EVENTS_BENCHMARK_PEER")
    return Path(named) if named else _environment(f"dbos-{PEER_VERSION}", PEER)


def own_python() -> Path:
    """Return the interpreter that has what our package needs, made on first use; the package is this checkout.

    `DBOS_EVENTS_BENCHMARK_OWN` names an interpreter to use instead.
    """
    named = os.environ.get("DBOS_EVENTS_BENCHMARK_OWN")
    if named:
        return Path(named)
    project = hashlib.sha256((ROOT / "pyproject.toml").read_bytes() + bytes(ROOT)).hexdigest()[:8]
    return _environment(f"dbos_events-{project}", ("--editable", f"{ROOT}[kafka]"))


def _environment(name: str, requirements: Sequence[str]) -> Path:
    interpreter = fastest_python()
    directory = _cache() / f"{name}-{_mark(interpreter)}"
    python = directory / "bin" / "python"
    complete = directory / "complete"
    if not complete.exists():
        sys.stderr.write(f"making {directory} with Python {interpreter.describe()}\n")
        # Its own pip is not needed, and Debian's Python has none to give.
        _run(interpreter.path, "-m", "venv", "--clear", "--without-pip", directory)
        _run(sys.executable, "-m", "pip", "--python", python, "install", "--quiet", *requirements)
        complete.touch()
    return python


def _run(*command: str | Path) -> None:
    subprocess.run(command, check=True)


def _mark(interpreter: Interpreter) -> str:
    path = hashlib.sha256(bytes(interpreter.path)).hexdigest()[:6]
    return f"python{interpreter.version}-{path}"


def _cache() -> Path:
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "dbos_events"

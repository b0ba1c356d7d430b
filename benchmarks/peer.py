"""The peer's environment: a virtual environment of its own, made once and kept."""

from __future__ import annotations

import os
import subprocess
import sys
import venv
from pathlib import Path

VERSION = "3.4.0"
REQUIREMENTS = (f"dbos=={VERSION}", "confluent-kafka>=2.13", "psycopg[binary]>=3.2")


def peer_python() -> Path:
    """Return the interpreter that has the peer, made on first use.

    `DBOS_EVENTS_BENCHMARK_PEER` names an interpreter to use instead.
    """
    named = os.environ.get("DBOS_EVENTS_BENCHMARK_PEER")
    if named:
        return Path(named)
    directory = _cache() / f"dbos-{VERSION}-python{sys.version_info.minor}"
    python = directory / "bin" / "python"
    complete = directory / "complete"
    if not complete.exists():
        _install(directory, python)
        complete.touch()
    return python


def _install(directory: Path, python: Path) -> None:
    sys.stderr.write(f"installing dbos {VERSION} in {directory}\n")
    venv.create(directory, with_pip=True, clear=True)
    subprocess.run([python, "-m", "pip", "install", "--quiet", *REQUIREMENTS], check=True)


def _cache() -> Path:
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "dbos_events"

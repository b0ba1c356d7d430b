"""The Python that all contestants run on: the fastest of this machine.

How an interpreter was built matters as much as what runs on it: one built without profile-guided optimisation
is slower by up to a half (docs/performance.md). It would be measured instead of the programs, and a program that
waits for the disk at each event hides it better than one that does not.
"""

from __future__ import annotations

import functools
import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

NAMES = ("python3", "python3.11", "python3.12", "python3.13", "python3.14")
FOLDERS = ("/usr/bin", "/usr/local/bin")
ROUNDS = 7
CLEARLY = 0.9
"""Another interpreter than the running one is chosen when it takes less than this part of the time."""

PROBE = """
import json, platform, sys, time
import venv  # Debian can leave it out
assert sys.version_info >= (3, 11)

def numbers(n):
    for i in range(n):
        yield {"id": str(i), "next": i + 1}

def work():
    return sum(row["next"] for row in numbers(200_000) if row["id"])

def timed():
    start = time.perf_counter()
    work()
    return time.perf_counter() - start

print(json.dumps([sys.executable, platform.python_version(), min(timed() for _ in range(5))]))
"""


@dataclass(frozen=True)
class Interpreter:
    """A Python of this machine, and how long it took for a fixed piece of work."""

    path: Path
    version: str
    seconds: float

    def describe(self) -> str:
        """The version, and where it lies."""
        return f"{self.version} ({self.path})"


@functools.cache
def fastest_python() -> Interpreter:
    """Return the interpreter to run all contestants on, measured once a process.

    `DBOS_EVENTS_BENCHMARK_PYTHON` names one to use instead.
    """
    named = os.environ.get("DBOS_EVENTS_BENCHMARK_PYTHON")
    if named:
        probed = _probe(named)
        if probed is None:
            raise ValueError(
                f"DBOS_EVENTS_BENCHMARK_PYTHON names {named}: that is no Python 3.11 or later with venv."
            )
        return probed
    found = [probed for path in _candidates() if (probed := _probe(path))]
    again = {probed.path for probed in found}
    return choose(
        found + [probed for _ in range(ROUNDS - 1) for path in again if (probed := _probe(str(path)))]
    )


def choose(probes: list[Interpreter]) -> Interpreter:
    """Return the fastest; the running one where no other is clearly faster."""
    fastest = min(probes, key=lambda probe: probe.seconds)
    running = [probe for probe in probes if probe.path == _running()]
    own = min(running, key=lambda probe: probe.seconds, default=fastest)
    return fastest if fastest.seconds < own.seconds * CLEARLY else own


def _running() -> Path:
    """The running interpreter, without the virtual environment that it may be in."""
    return Path(getattr(sys, "_base_executable", sys.executable)).resolve()


def _candidates() -> list[str]:
    paths = [str(_running()), *(shutil.which(name) for name in NAMES)]
    paths += [shutil.which(name, path=folder) for folder in FOLDERS for name in NAMES]
    return list(dict.fromkeys(str(Path(path).resolve()) for path in paths if path))


def _probe(path: str) -> Interpreter | None:
    """Time `path`; None where it is not to be used: another Python, or the shim of one that is not there."""
    try:
        command = [path, "-I", "-c", PROBE]
        probed = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    if probed.returncode != 0:
        return None
    executable, version, seconds = json.loads(probed.stdout)
    return Interpreter(Path(executable).resolve(), version, seconds)

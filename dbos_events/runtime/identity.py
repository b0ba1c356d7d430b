"""What identifies this process, so that others can tell whether it still exists."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from dbos_events.model.dataclass import dataclass

PROC = Path("/proc")

_STATE, _THREADS, _STARTED = 0, 17, 19
"""Places in /proc/PID/stat behind the name of the program: proc(5), fields 3, 20 and 22."""


@dataclass(frozen=True, slots=True)
class ProcessIdentity:
    """Host and process; two processes of one host share `boot_id` and `pid_namespace`.

    `pid_namespace` names all that the two numbers count in: the namespace of process ids, and that of times since boot.
    """

    boot_id: str
    pid_namespace: str
    pid: int
    started: str


def this_process() -> ProcessIdentity:
    """The identity of the running process; unknown parts are empty."""
    pid = os.getpid()
    return ProcessIdentity(_boot_id(), _namespaces(), pid, _Stat("self").started)


def still_exists(other: ProcessIdentity, here: ProcessIdentity) -> bool | None:
    """Whether a process exists, as far as that can be told from `here`; None when it cannot be told.

    False is said only of a process that surely is gone: the system has no process of that number, or one that began at
    another time, or what has ended and was not waited for. /proc may hide the processes of others (`hidepid`,
    `ProtectProc`), so what cannot be read there may exist.
    """
    same_host = (other.boot_id, other.pid_namespace) == (here.boot_id, here.pid_namespace)
    if not same_host or not here.boot_id or not here.pid_namespace or other.pid <= 0:
        return None
    try:
        os.kill(other.pid, 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):  # it belongs to somebody else, or asking is not allowed
        pass
    if not _proc_counts_as_we_do():
        return None
    stat = _Stat(str(other.pid))
    if not stat.started or not other.started:
        return None
    return stat.started == other.started and not stat.has_ended


def _boot_id() -> str:
    if sys.platform != "linux":
        return ""
    return _read(PROC / "sys/kernel/random/boot_id")


def _namespaces() -> str:
    """Empty when they cannot be read: then nothing can be said of others."""
    try:
        pids = str((PROC / "self/ns/pid").readlink())
    except OSError:
        return ""
    try:
        return f"{pids} {(PROC / 'self/ns/time').readlink()}"
    except FileNotFoundError:  # a kernel that has none, before 5.6
        return pids
    except OSError:
        return ""


def _proc_counts_as_we_do() -> bool:
    """Whether /proc is that of our own namespace; in a container it may be the host's."""
    try:
        return str((PROC / "self").readlink()) == str(os.getpid())
    except OSError:
        return False


class _Stat:
    """What /proc says of a process; `started`, in clock ticks since boot, is empty when it says nothing."""

    def __init__(self, pid: str) -> None:
        fields = _read(PROC / pid / "stat").rpartition(")")[2].split()
        known = len(fields) > _STARTED
        self.started = fields[_STARTED] if known else ""
        # One whose first thread has ended goes on while it has others.
        self.has_ended = known and fields[_STATE] in ("Z", "X", "x") and int(fields[_THREADS]) <= 1


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return ""

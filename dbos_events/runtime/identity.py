"""What identifies this process, so that others can tell whether it still exists."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class ProcessIdentity:
    """Host and process; two processes of one host share `boot_id` and `pid_namespace`."""

    boot_id: str
    pid_namespace: str
    pid: int
    started: str


def this_process() -> ProcessIdentity:
    """The identity of the running process; unknown parts are empty."""
    return ProcessIdentity(_boot_id(), _pid_namespace(), os.getpid(), _process_started(os.getpid()))


def still_exists(other: ProcessIdentity, here: ProcessIdentity) -> bool | None:
    """Whether a process exists, asked on its own host; None when this is another host."""
    same_host = (other.boot_id, other.pid_namespace) == (here.boot_id, here.pid_namespace)
    if not same_host or not here.boot_id:
        return None
    started = _process_started(other.pid)
    return bool(started) and started == other.started


def _boot_id() -> str:
    if sys.platform != "linux":
        return ""
    return _read("/proc/sys/kernel/random/boot_id")


def _pid_namespace() -> str:
    try:
        return str(Path("/proc/self/ns/pid").readlink())
    except OSError:
        return ""


def _process_started(pid: int) -> str:
    """The start time of a process in clock ticks since boot; empty when it does not exist.

    proc(5): field 22 of /proc/PID/stat. A zombie has ended, though its entry is still there.
    """
    fields = _read(f"/proc/{pid}/stat").rpartition(")")[2].split()
    state_and_start = 20
    if len(fields) < state_and_start or fields[0] in ("Z", "X"):
        return ""
    return fields[19]


def _read(path: str) -> str:
    try:
        return Path(path).read_text(encoding="ascii").strip()
    except OSError:
        return ""

"""Processes that end with the tests: a guarded child, its directory, its port."""

import contextlib
import pwd
import random
import shutil
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

from tests.servers.errors import ServerFailed

GUARD = Path(__file__).with_name("guard.py")
STOP_SECONDS = 30.0
LOG_LINES_SHOWN = 20

# Below the range from which systems take the ports of outgoing connections: a client that keeps
# trying to reach a stopped server could otherwise be given that very port and connect to itself.
PORTS = range(20_000, 32_000)


def free_port() -> int:
    """Return a port on the loopback interface that nothing listens on now."""
    for port in random.sample(PORTS, 200):
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    message = f"no free port from {PORTS.start} to {PORTS.stop}"
    raise ServerFailed(message)


def accepts_connections(port: int) -> bool:
    """Tell whether something listens on the port."""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=1):
            return True
    except OSError:
        return False


def open_to_everyone(path: Path) -> bool:
    """Tell whether any user of the machine may enter the directory."""
    return all(parent.stat().st_mode & stat.S_IXOTH for parent in (path, *path.parents))


def make_directory(purpose: str) -> Path:
    """Make a temporary directory that a user other than root may enter."""
    parent = Path(tempfile.gettempdir()).resolve()
    if not open_to_everyone(parent):
        parent = Path("/tmp")  # noqa: S108 - mkdtemp makes an unguessable name in it
    directory = Path(tempfile.mkdtemp(prefix=f"dbos_events-{purpose}-", dir=parent))
    directory.chmod(0o711)
    return directory


def remove_directory(directory: Path) -> None:
    """Remove the directory and what is in it; a missing one is fine."""
    shutil.rmtree(directory, ignore_errors=True)


class Process(Protocol):
    """What a server needs of the place where it runs: a local process, or a container."""

    @property
    def running(self) -> bool:
        """Whether the server is alive."""
        ...

    def start(self) -> None:
        """Start it, the first time or again; does not wait until it serves."""
        ...

    def stop(self) -> None:
        """Ask it to end, and wait until it has."""
        ...

    def kill(self) -> None:
        """End it as a crash would, and wait until it is gone."""
        ...

    def remove(self) -> None:
        """Remove what the dead process leaves behind."""
        ...

    def wait_ready(self, ready: Callable[[], bool], *, seconds: float) -> None:
        """Wait until `ready` says so; raise `ServerFailed` when it does not."""
        ...


class GuardedProcess:
    """One server process, started again and again on the same command, never left behind."""

    def __init__(
        self,
        command: Sequence[str],
        *,
        directory: Path,
        user: pwd.struct_passwd | None = None,
        stop_signal: signal.Signals = signal.SIGTERM,
        kill_signal: signal.Signals = signal.SIGKILL,
    ) -> None:
        self.log = directory / "server.log"
        self.pid: int | None = None
        self._command = list(command)
        self._directory = directory
        self._user = user
        self._stop_signal = stop_signal
        self._kill_signal = kill_signal
        self._guard: subprocess.Popen[str] | None = None

    @property
    def running(self) -> bool:
        """Whether the process is alive."""
        return self._guard is not None and self._guard.poll() is None

    def start(self) -> None:
        """Start the process; does not wait until it serves."""
        if self.running:
            return
        user, group = (str(self._user.pw_uid), str(self._user.pw_gid)) if self._user else ("", "")
        identity = [user, group, str(int(self._stop_signal))]
        self._guard = subprocess.Popen(
            [
                sys.executable,
                "-IS",
                str(GUARD),
                str(self._directory),
                str(self.log),
                *identity,
                *self._command,
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd="/",
            start_new_session=True,  # Ctrl-C is for the tests, which then stop the server in order
        )
        assert self._guard.stdout is not None
        line = self._guard.stdout.readline()
        if not line:
            self._reap()
            message = f"cannot run {self._command[0]}"
            raise ServerFailed(message)
        self.pid = int(line)

    def stop(self) -> None:
        """Ask the process to end, and wait until it has; kill it when it takes too long."""
        self._signal(self._stop_signal)
        self._wait()

    def kill(self) -> None:
        """End the process as a crash would, with no chance to clean up, and wait until it is gone."""
        self._signal(self._kill_signal)
        self._wait()

    def remove(self) -> None:
        """Do nothing: what the process leaves is in its directory, and that belongs to the caller."""

    def wait_ready(self, ready: Callable[[], bool], *, seconds: float) -> None:
        """Wait until `ready` says so; raise `ServerFailed` with the log's tail when it does not."""
        deadline = time.monotonic() + seconds
        while not ready():
            if not self.running:
                self._reap()
                message = f"{self._command[0]} ended while starting:\n{self._log_tail()}"
                raise ServerFailed(message)
            if time.monotonic() > deadline:
                message = f"{self._command[0]} was not ready after {seconds:.0f} s:\n{self._log_tail()}"
                raise ServerFailed(message)
            time.sleep(0.05)

    def _signal(self, number: signal.Signals) -> None:
        if self._guard is None or self._guard.stdin is None or not self.running:
            return
        with contextlib.suppress(BrokenPipeError):  # it has ended by itself just now
            self._guard.stdin.write(f"{int(number)}\n")
            self._guard.stdin.flush()

    def _wait(self) -> None:
        if self._guard is None:
            return
        try:
            self._guard.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._signal(signal.SIGKILL)
            self._guard.wait()
        self._reap()

    def _reap(self) -> None:
        guard, self._guard, self.pid = self._guard, None, None
        if guard is None:
            return
        for pipe in (guard.stdin, guard.stdout):
            if pipe is not None:
                pipe.close()
        guard.wait()

    def _log_tail(self) -> str:
        lines = self.log.read_text(errors="replace").splitlines() if self.log.exists() else []
        return "\n".join(lines[-LOG_LINES_SHOWN:]) or "(its log is empty)"

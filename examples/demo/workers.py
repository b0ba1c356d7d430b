"""The worker processes of the demo: start them, kill them, stop them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

PROGRAM = """
import os, signal, sys, threading

def end_with_parent():
    sys.stdin.read()
    os.kill(os.getpid(), signal.SIGKILL)

threading.Thread(target=end_with_parent, daemon=True).start()
from dbos_events.cli import main
main()
"""
"""`dbos-events`, in a process that does not outlive the demo: its input ends when the demo does."""


@dataclass
class Worker:
    """One process of `dbos-events run`."""

    name: str
    process: subprocess.Popen[bytes]
    log: Path
    killed: bool = False

    @property
    def state(self) -> str:
        code = self.process.poll()
        if self.killed:
            return "killed with kill -9"
        if code is None:
            return "running"
        # One that is asked to end before it listens for that ends by the signal itself: it has begun nothing.
        return "stopped" if code in (0, -signal.SIGTERM) else f"failed with exit code {code}"

    @property
    def is_reading(self) -> bool:
        """Whether it has partitions, by its log."""
        return b": reading " in self.log.read_bytes()

    def kill(self) -> None:
        """End it as the kernel would: without a signal that it could handle."""
        self.killed = True
        self.process.kill()
        self.process.wait()

    def last_words(self) -> str:
        """The end of its log, for people."""
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-5:])

    def stop(self, seconds: float) -> None:
        """Let it drain; kill it when it takes too long."""
        if self.process.poll() is None:
            self.process.terminate()
        try:
            self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


class Workers:
    """All that were started, in order."""

    def __init__(self, folder: Path, application: str, settings: Mapping[str, str]) -> None:
        self._folder = folder
        self.application = application
        kept = {name: value for name, value in os.environ.items() if not name.startswith("DBOS")}
        self._environment = {**kept, **settings, "PYTHONPATH": python_path()}
        self.all: list[Worker] = []

    def start(self) -> Worker:
        name = f"worker-{len(self.all) + 1}"
        log = self._folder / f"{name}.log"
        with log.open("wb") as output:
            process = subprocess.Popen(  # noqa: S603 - our own program
                [sys.executable, "-c", PROGRAM, "run", "examples.demo.worker", "--fail-fast"],
                cwd=self._folder,
                env={**self._environment, "DBOS_EVENTS_EXECUTOR_ID": name},
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=subprocess.STDOUT,
            )
        worker = Worker(name, process, log)
        self.all.append(worker)
        return worker

    def stop(self) -> None:
        """Stop those that still run, all at once."""
        threads = [threading.Thread(target=worker.stop, args=(15.0,)) for worker in self.all]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    def end(self) -> None:
        """Kill whatever still runs."""
        for worker in self.all:
            if worker.process.poll() is None:
                worker.process.kill()
                worker.process.wait()

    def command(self, *words: str) -> bytes:
        """What a `dbos-events` command prints, asked as an operator would ask."""
        done = subprocess.run(  # noqa: S603 - our own program
            [sys.executable, "-c", "from dbos_events.cli import main; main()", *words],
            cwd=self._folder,
            env=self._environment,
            check=True,
            capture_output=True,
        )
        return done.stdout


def python_path() -> str:
    """The repository first, so that `examples.demo.worker` is found from any folder."""
    rest = os.environ.get("PYTHONPATH")
    return os.pathsep.join([str(ROOT), rest]) if rest else str(ROOT)

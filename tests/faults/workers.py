"""Worker processes: started, stopped, frozen and killed by the tests that own them."""

import itertools
import json
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from types import TracebackType
from typing import Any, ClassVar, Protocol, Self

from tests.faults.effects import Effects
from tests.faults.rows import Rows
from tests.faults.waiting import wait_until
from tests.faults.worker import Options

ROOT = Path(__file__).parents[2]
TICKS = os.sysconf("SC_CLK_TCK")


class Labelled(Protocol):
    """A dataclass that says what one worker process does."""

    __dataclass_fields__: ClassVar[dict[str, Any]]

    @property
    def label(self) -> str: ...


class Worker:
    """One process. `harmed` are its executors to which something was done that explains a repeated step."""

    def __init__(self, options: Labelled, log: Path, module: str = "tests.faults.worker") -> None:
        self.options = options
        self.label = options.label
        self.harmed: set[int] = set()
        self.log = log
        with log.open("wb") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-m", module, json.dumps(asdict(options))],
                cwd=ROOT,
                env={**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'connectors'}"},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=output,
            )

    @property
    def running(self) -> bool:
        return self.process.poll() is None

    def wait_launched(self, seconds: float = 30.0) -> Self:
        """Return when the App has launched."""
        assert self.process.stdout is not None
        os.set_blocking(self.process.stdout.fileno(), False)
        wait_until(
            lambda: self.process.stdout.read() or not self.running,  # type: ignore[union-attr]
            f"{self.label} did not launch",
            seconds=seconds,
        )
        assert self.running, self.log.read_text()
        return self

    def kill(self) -> None:
        """End it as a crash would."""
        self.process.kill()
        self.process.wait(30)

    def freeze(self) -> None:
        self.process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self.process.send_signal(signal.SIGCONT)

    def terminate(self) -> None:
        """Ask it to drain, and do not wait."""
        self.process.send_signal(signal.SIGTERM)

    def wait_ended(self, seconds: float = 30.0) -> int:
        return self.process.wait(seconds)

    def threads(self) -> int:
        return int(self._status("Threads"))

    def resident_mb(self) -> float:
        return int(self._status("VmRSS").split()[0]) / 1024

    def cpu_seconds(self) -> float:
        """User and system time so far; proc(5), fields 14 and 15."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / TICKS

    def log_lines(self) -> int:
        return len(self.log.read_text(errors="replace").splitlines())

    def _status(self, name: str) -> str:
        for line in Path(f"/proc/{self.process.pid}/status").read_text().splitlines():
            key, _, value = line.partition(":")
            if key == name:
                return value.strip()
        raise KeyError(name)


class Fleet:
    """All workers of a test; whatever still runs at its end is killed."""

    def __init__(self, options: Options, folder: Path) -> None:
        self.options = options
        self.folder = folder
        self.workers: list[Worker] = []
        self._numbers = itertools.count(1)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for worker in self.workers:
            if worker.running:
                worker.process.kill()
            worker.process.wait(30)
            if worker.process.stdout is not None:
                worker.process.stdout.close()
            print(f"--- {worker.label}, the end of its log")  # pytest shows it when the test fails
            print("\n".join(worker.log.read_text(errors="replace").splitlines()[-40:]))

    def start(self, label: str = "", **changes: object) -> Worker:
        """Start a worker under a label that no other has had, without waiting for it."""
        name = f"{label or 'w'}{next(self._numbers)}"
        options = replace(self.options, label=name, **changes)  # type: ignore[arg-type]
        worker = Worker(options, self.folder / f"{name}.log")
        self.workers.append(worker)
        return worker

    def executors(self, worker: Worker) -> list[int]:
        """The process starts that this worker has been, oldest first."""
        return [
            row[0]
            for row in self.rows.query(
                "SELECT id FROM {t}executors WHERE label = ? ORDER BY id", (worker.label,)
            )
        ]

    def sound(self) -> set[int]:
        """Executors to which nothing was done: those of unharmed workers, and what a thawed one became."""
        return {
            executor
            for worker in self.workers
            for executor in self.executors(worker)
            if executor not in worker.harmed
        }

    def harm(self, worker: Worker) -> None:
        """Note that what the worker runs now may run again elsewhere."""
        worker.harmed.update(self.executors(worker))

    @property
    def rows(self) -> Rows:
        return Rows(self.options.database)

    @property
    def effects(self) -> Effects:
        return Effects(self.options.effects)


def end_gracefully(workers: Sequence[Worker], seconds: float = 30.0) -> None:
    """Drain these, all at once; each must end well."""
    for worker in workers:
        worker.terminate()
    for worker in workers:
        assert worker.wait_ended(seconds) == 0, worker.log.read_text()[-3000:]

"""`dbos-events` in processes that are forked from one that has imported everything: they start in a tenth of the time.

The process that forks is Python's forkserver: it has no threads, and nothing of a test runs in it.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerContext
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import IO, Any

from tests.cli.service import Service, clean_environment

IMPORTED = [
    "alembic.command",
    "dbos_events.cli.http",
    "dbos_events.cli.httphead",
    "dbos_events.cli.root",
    "dbos_events.launched",
    "dbos_events.storage.opening",
    "dbos_events_webhooks.connector",
    "psycopg",
    "tests.cli.warm",
    "uvicorn",
]


def _context() -> ForkServerContext:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(IMPORTED)
    return context


def _work(folder: str, words: Sequence[str], environment: dict[str, str], out: Connection) -> None:
    """The command, as a process that the shell starts: in its folder, with its environment, output and arguments."""
    from dbos_events.cli import main

    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    sys.path[:0] = [folder, *filter(None, environment.get("PYTHONPATH", "").split(":"))]
    errors = os.open("stderr.txt", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(errors, 2)
    os.dup2(out.fileno(), 1)
    out.close()
    for number, mode in ((1, "w"), (2, "w")):
        setattr(sys, {1: "stdout", 2: "stderr"}[number], os.fdopen(os.dup(number), mode, buffering=1))
    sys.argv = ["dbos-events", *words]
    main()


class _Process:
    """What a `Service` asks of its process, of one that was forked."""

    def __init__(self, folder: Path, words: Sequence[str], environment: dict[str, str]) -> None:
        context = _context()
        out, given = context.Pipe(duplex=False)
        self._forked: BaseProcess = context.Process(
            target=_work, args=(str(folder), words, environment, given), daemon=False
        )
        self._forked.start()
        given.close()
        self.stdout: IO[str] = os.fdopen(os.dup(out.fileno()), "r")
        out.close()
        assert self._forked.pid is not None
        self.pid: int = self._forked.pid

    def poll(self) -> int | None:
        return self._forked.exitcode

    def wait(self, timeout: float | None = None) -> int:
        self._forked.join(timeout)
        code = self._forked.exitcode
        if code is None:
            raise subprocess.TimeoutExpired("dbos-events", timeout or 0.0)
        return code

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        self._forked.kill()


class WarmService(Service):
    """A `Service` that was forked."""

    def start(self, folder: Path, words: Sequence[str], environment: dict[str, str]) -> Any:
        return _Process(folder, words, environment)


def command(folder: Path, *words: str, **environment: str) -> tuple[int, str]:
    """Exit code and output of a command, what it says on standard error behind the rest."""
    process = _Process(folder, words, clean_environment(**environment))
    with process.stdout:
        said = process.stdout.read()
    return process.wait(60.0), said + (folder / "stderr.txt").read_text()

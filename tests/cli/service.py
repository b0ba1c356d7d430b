"""`dbos-events run` as a process of its own, with its log to wait for and its probes to ask."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

PROGRAM = str(Path(sys.executable).parent / "dbos-events")
SECONDS = 60.0


def clean_environment(**more: str) -> dict[str, str]:
    """The environment without what configures dbos_events."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("DBOS_")}
    return kept | {"NO_COLOR": "1"} | more


def eventually(holds: Callable[[], bool], what: str) -> None:
    """Wait until it holds; fail when it does not in time."""
    deadline = time.monotonic() + SECONDS
    while not holds():
        assert time.monotonic() < deadline, f"not within {SECONDS:g} s: {what}"
        time.sleep(0.02)


class Service:
    """A running service; its log is read line by line. Killed at the end of the block if it still runs."""

    def __init__(self, folder: Path, *arguments: str, **environment: str) -> None:
        self.log: list[dict[str, Any]] = []
        self.printed: list[str] = []
        self._read = threading.Condition()
        self._errors = folder / "stderr.txt"
        self.process: subprocess.Popen[str] = self.start(
            folder, ["run", *arguments], clean_environment(**environment)
        )
        self._reader = threading.Thread(target=self._follow, daemon=True)
        self._reader.start()

    def start(self, folder: Path, words: Sequence[str], environment: dict[str, str]) -> Any:
        """The process of the command."""
        with self._errors.open("w") as errors:
            return subprocess.Popen(
                [PROGRAM, *words],
                cwd=folder,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.process.kill()
        self.process.wait()
        self._reader.join()
        assert self.process.stdout is not None
        self.process.stdout.close()

    @property
    def errors(self) -> str:
        """What it wrote to standard error."""
        return self._errors.read_text()

    def wait_for(self, text: str, *, after: int = 0) -> dict[str, Any]:
        """The first record of the log, from number `after`, whose message has this text."""
        deadline = time.monotonic() + SECONDS
        with self._read:
            while True:
                for record in self.log[after:]:
                    if text in record["message"]:
                        return record
                assert self._reader.is_alive(), f"ended without {text!r}:\n{self._story()}"
                assert self._read.wait(max(0.0, deadline - time.monotonic())), (
                    f"no {text!r}:\n{self._story()}"
                )

    def ended(self) -> int:
        """Its exit code, once it has ended."""
        try:
            code = self.process.wait(SECONDS)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"still runs:\n{self._story()}") from None
        self._reader.join()
        return code

    def signalled(self, number: signal.Signals) -> bool:
        """Send the signal; tells whether the service has ended."""
        self.process.send_signal(number)
        return self.process.poll() is not None

    def probe(self, path: str) -> tuple[int, Mapping[str, Any]]:
        """Status and body of one of its probes."""
        port = self.wait_for("Health probes")["extra"]["port"]
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=10) as answer:
                return answer.status, json.load(answer)
        except urllib.error.HTTPError as error:
            with error:
                return error.code, json.load(error)

    def wait_until(self, path: str, code: int) -> Mapping[str, Any]:
        """The body of a probe, once it answers with this status."""
        eventually(lambda: self.probe(path)[0] == code, f"{path} answers {code}\n{self._story()}")
        return self.probe(path)[1]

    def _follow(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            with self._read:
                if line.startswith("{"):
                    self.log.append(json.loads(line))
                else:
                    self.printed.append(line)
                self._read.notify_all()
        with self._read:
            self._read.notify_all()

    def _story(self) -> str:
        return "\n".join([*(record["message"] for record in self.log), *self.printed, self.errors])

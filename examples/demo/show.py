"""What the demo shows while it runs: a live table on a terminal, plain lines elsewhere."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Self

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from examples.demo.proof import Proof
from examples.demo.workers import Worker

LINE_SECONDS = 1.0
WORTH_SHOWING = ("reading ", "is dead", "Took up")


@dataclass(frozen=True)
class Moment:
    """How far everything is."""

    sent: int
    shipped: int
    total: int
    workers: Sequence[Worker]
    counts: Mapping[tuple[str, str], int]


class Screen:
    """Shows moments and happenings; `say` is for what is worth a line of its own."""

    def __init__(self) -> None:
        self._console = Console(highlight=False)
        self._began = time.monotonic()
        self._printed_at = 0.0
        self._read: dict[str, int] = {}
        self._live: Live | None = None
        if sys.stdout.isatty():
            self._live = Live(console=self._console, refresh_per_second=8, transient=True)

    def __enter__(self) -> Self:
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Take the live table away; what was said stays."""
        if self._live is not None:
            self._live.stop()

    @property
    def seconds(self) -> float:
        return time.monotonic() - self._began

    def say(self, text: str, style: str = "") -> None:
        line = Text(f"{self.seconds:5.1f} s  ", "dim")
        self._console.print(line.append(text, style), soft_wrap=True)

    def update(self, moment: Moment) -> None:
        for worker in moment.workers:
            self._say_what_is_new(worker)
        if self._live is not None:
            self._live.update(_picture(moment))
        elif time.monotonic() - self._printed_at >= LINE_SECONDS:
            self._printed_at = time.monotonic()
            self.say(_line(moment))

    def _say_what_is_new(self, worker: Worker) -> None:
        """The lines of a worker's log that tell how the crash is met."""
        with worker.log.open("rb") as log:
            log.seek(self._read.get(worker.name, 0))
            for line in log:
                if not line.endswith(b"\n"):
                    break
                self._read[worker.name] = self._read.get(worker.name, 0) + len(line)
                message = _message(line)
                if any(words in message for words in WORTH_SHOWING):
                    self.say(f"{worker.name}: {message}", "cyan")


def _message(line: bytes) -> str:
    try:
        return str(json.loads(line)["message"])
    except (ValueError, KeyError, TypeError):
        return ""


def _line(moment: Moment) -> str:
    each = ", ".join(
        f"{worker.name} {moment.counts.get((worker.name, 'charge'), 0)}/"
        f"{moment.counts.get((worker.name, 'ship'), 0)}{' (killed)' if worker.killed else ''}"
        for worker in moment.workers
    )
    return f"{moment.sent} of {moment.total} sent, {moment.shipped} shipped; charges/shipments: {each}"


def _picture(moment: Moment) -> Group:
    bar = Table.grid(padding=(0, 1))
    bar.add_row("sent   ", ProgressBar(moment.total, moment.sent, width=50), f"{moment.sent}")
    bar.add_row("shipped", ProgressBar(moment.total, moment.shipped, width=50), f"{moment.shipped}")
    return Group(bar, _workers_table(moment.workers, moment.counts))


def _workers_table(workers: Sequence[Worker], counts: Mapping[tuple[str, str], int]) -> Table:
    table = Table("worker", "process", "state", box=None, pad_edge=False)
    table.add_column("charge calls", justify="right")
    table.add_column("ship calls", justify="right")
    for worker in workers:
        style = {"running": "green", "killed with kill -9": "red"}.get(worker.state, "")
        table.add_row(
            worker.name,
            str(worker.process.pid),
            Text(worker.state, style),
            str(counts.get((worker.name, "charge"), 0)),
            str(counts.get((worker.name, "ship"), 0)),
        )
    return table


def show_proof(proof: Proof, workers: Sequence[Worker], counts: Mapping[tuple[str, str], int]) -> None:
    """The ledger: who did what, what the crash repeated, and each claim with its verdict."""
    console = Console(highlight=False)
    console.print()
    console.print(_workers_table(workers, counts))
    console.print()
    charges = sum(call.kind == "charge" for call in proof.calls)
    repeats = len(proof.calls) - len({call.key for call in proof.calls})
    console.print(
        f"{charges} charge calls and {len(proof.calls) - charges} ship calls; {repeats} of them repeated a step "
        "whose outcome the killed worker could not record any more:",
        soft_wrap=True,
    )
    for key in proof.repeated[:5]:
        first, *later = [call for call in proof.calls if call.key == key]
        console.print(
            f"  {first.kind} {first.order_id}: {first.worker}, then {later[-1].worker}; one key, acted on once ({key})",
            soft_wrap=True,
        )
    if len(proof.repeated) > 5:
        console.print(f"  and {len(proof.repeated) - 5} more")
    console.print()
    for check in proof.checks:
        verdict = Text("  holds  ", "green") if check.holds else Text("  FAILS  ", "bold red")
        console.print(verdict.append(check.claim if check.holds else f"{check.claim}: {check.against}", ""),
                      soft_wrap=True)  # fmt: skip

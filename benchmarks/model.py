"""What a workload is made of: its contestants, what is measured, and how much of it is run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

COLOURS = ("async", "sync")
OURS = "dbos_events"
PEER = "dbos"


@dataclass(frozen=True)
class Contestant:
    """One program that does the work, run as a process of its own, or several."""

    name: str
    module: str
    """Under `benchmarks.contestants`."""
    framework: str = OURS
    share: float = 1.0
    """Its part of the work: a slow one gets less, or it would take an hour."""
    minimum: int = 1
    colours: tuple[str, ...] = COLOURS
    reads_topic: bool = True
    options: Mapping[str, Any] = field(default_factory=dict)
    executions: int = 1
    """How often its handler (or step) is to be counted for each unit of `count`."""
    extra_executions: int = 0

    @property
    def in_peer_environment(self) -> bool:
        """Whether it runs where the peer is installed."""
        return self.framework == PEER

    def count(self, requested: int) -> int:
        """How much work it gets when the suite was asked for `requested`."""
        return min(requested, max(self.minimum, round(requested * self.share)))

    def expected(self, count: int) -> int:
        """How many executions there must be, no more and no fewer."""
        return count * self.executions + self.extra_executions


@dataclass(frozen=True)
class Topic:
    """The topic that a run reads: how it is cut and what is in it."""

    partitions: int = 4
    keys: int = 1_000
    skewed: bool = False
    """Whether few keys have most of the records (Zipf, exponent 1), as in life."""
    value_bytes: int = 100
    filled: bool = True
    """Whether the records are there before the run starts."""


@dataclass(frozen=True)
class Column:
    """One measured number in the table."""

    metric: str
    title: str
    form: str = ",.0f"


@dataclass(frozen=True)
class Size:
    """How much is run: `count` events, workflows or calls, in so many rounds, with these kinds of handler."""

    count: int
    rounds: int = 1
    colours: tuple[str, ...] = COLOURS


ASYNC = ("async",)
"""One kind of handler is enough for a quick look."""

RATE = Column("per_second", "events/s")
CPU = Column("cpu_microseconds", "cpu µs")
COSTS = (
    Column("statements_each", "statements", ".2f"),
    Column("commits_each", "commits", ".2f"),
    Column("wal_bytes_each", "WAL bytes"),
)


@dataclass(frozen=True)
class Workload:
    """Work that several contestants do, each at its own pace."""

    name: str
    kind: str
    """The file that it stands in."""
    title: str
    contestants: tuple[Contestant, ...]
    columns: tuple[Column, ...]
    full: Size
    quick: Size | None = None
    """None: it is left out of a quick run."""
    baseline: str = "dbos"
    """The contestant that the others' ratios are taken against."""
    limit: str | None = None
    """The contestant that shows what could be reached at all."""
    better: Literal["more", "less"] = "more"
    """Which way the first column is good."""
    topic: Topic | None = None
    database: Literal["postgres", "sqlite"] = "postgres"
    processes: int = 1
    options: Mapping[str, Any] = field(default_factory=dict)

    @property
    def headline(self) -> Column:
        """The number that ratios are made of."""
        return self.columns[0]

    def select(self, names: list[str] | None) -> tuple[Contestant, ...]:
        """Return the contestants of these names, or all of them."""
        return tuple(c for c in self.contestants if names is None or c.name in names)

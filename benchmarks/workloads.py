"""What is measured, and who takes part in it."""

from __future__ import annotations

from dataclasses import dataclass, replace

COLOURS = ("async", "sync")


@dataclass(frozen=True)
class Contestant:
    """One program that does the work, run as a process of its own."""

    name: str
    module: str
    share: float = 1.0
    """Its part of the events: a slow one gets fewer, or it would take an hour."""
    minimum: int = 1_500
    colours: tuple[str, ...] = COLOURS
    reads_topic: bool = True
    in_peer_environment: bool = False
    ordering: str = "none"

    def events(self, requested: int) -> int:
        """How many events it gets when the suite was asked for `requested`."""
        return min(requested, max(self.minimum, round(requested * self.share)))


@dataclass(frozen=True)
class Workload:
    """Work that several contestants do, each at its own pace."""

    name: str
    title: str
    contestants: tuple[Contestant, ...]
    baseline: str = "dbos"
    """The contestant that the others' ratios are taken against."""
    limit: str = "sql_only"
    """The contestant that shows what could be reached at all."""
    value_bytes: int = 100
    keys: int = 1_000
    partitions: int = 4

    def select(self, names: list[str] | None) -> tuple[Contestant, ...]:
        """Return the contestants of these names, or all of them."""
        known = {contestant.name for contestant in self.contestants}
        unknown = set(names or ()) - known
        if unknown:
            message = (
                f"no contestant {', '.join(sorted(unknown))} in {self.name}: "
                f"choose from {', '.join(sorted(known))}"
            )
            raise ValueError(message)
        return tuple(c for c in self.contestants if names is None or c.name in names)


ONE_STEP = Workload(
    name="kafka-one-step",
    title="Kafka record to a handler with one step, values of 100 bytes, 4 partitions",
    contestants=(
        Contestant(
            "dbos",
            "benchmarks.contestants.dbos_kafka",
            share=0.03,
            in_peer_environment=True,
        ),
        Contestant("ours", "benchmarks.contestants.ours_kafka"),
        Contestant("handwritten", "benchmarks.contestants.handwritten", share=0.2),
        Contestant(
            "sql_only",
            "benchmarks.contestants.sql_only",
            colours=("sync",),
            reads_topic=False,
        ),
    ),
)

BY_PARTITION = Workload(
    name="by-partition",
    title="The same, each partition's events one after the other, 4 partitions",
    contestants=(
        Contestant(
            "dbos",
            "benchmarks.contestants.dbos_kafka",
            share=0.003,
            minimum=150,
            in_peer_environment=True,
            ordering="partition",
        ),
        Contestant("ours", "benchmarks.contestants.ours_kafka", share=0.4, ordering="partition"),
    ),
)

BY_MANY_PARTITIONS = replace(
    BY_PARTITION,
    name="by-32-partitions",
    title="The same, each partition's events one after the other, 32 partitions",
    partitions=32,
    keys=1_024,
)

BY_KEY = Workload(
    name="by-key",
    title="The same, each key's events one after the other, 1,000 keys in 4 partitions, beside unordered",
    contestants=(
        Contestant("unordered", "benchmarks.contestants.ours_kafka"),
        Contestant("by_key", "benchmarks.contestants.ours_kafka", ordering="key"),
    ),
    baseline="unordered",
)

WORKLOADS = {workload.name: workload for workload in (ONE_STEP, BY_PARTITION, BY_MANY_PARTITIONS, BY_KEY)}

"""Values and streams: how late they are, and how many entries of one stream a second."""

from __future__ import annotations

from benchmarks.model import PEER, Column, Contestant, Size, Workload

COLUMNS = (
    Column("entries_per_second", "entries/s"),
    Column("entry_p50_ms", "entry p50 ms", ",.1f"),
    Column("entry_p99_ms", "entry p99 ms", ",.1f"),
    Column("value_p50_ms", "value p50 ms", ",.1f"),
    Column("value_p99_ms", "value p99 ms", ",.1f"),
)

PUBLISHED = Workload(
    name="published",
    kind="published",
    title="One stream, written and read; values, set and waited for",
    contestants=(
        Contestant("dbos", "published", framework=PEER, reads_topic=False, share=0.05),
        Contestant("ours", "published", reads_topic=False),
    ),
    columns=COLUMNS,
    full=Size(20_000, 3, colours=("sync",)),
)

WORKLOADS = (PUBLISHED,)

"""The model of the intake: what may be in the database of a topic, and what must be there in the end.

An executable form of docs/protocol.md, rules 7 and 8, and of the promise that an event is taken in exactly once.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

Offset = int


@dataclass
class Log:
    """One partition in one life of the topic. None stands where no record is: a marker of a transaction."""

    records: list[bytes | None] = field(default_factory=list)
    low: Offset = 0
    cut_at: Offset | None = None
    """Where an unclean election has made another log of it, if it has."""
    ever: dict[Offset, set[bytes | None]] = field(default_factory=dict)

    @property
    def end(self) -> Offset:
        return len(self.records)

    def append(self, record: bytes | None) -> None:
        self.ever.setdefault(self.end, set()).add(record)
        self.records.append(record)


@dataclass
class Life:
    """One life of the topic: no id is used twice."""

    topic_id: str
    logs: dict[int, Log]


@dataclass
class Found:
    """What the database holds of one life and one partition."""

    watermark: Offset
    events: Mapping[Offset, bytes]
    gaps: Iterable[tuple[Offset, Offset, str]]
    halted: bool = False


class IntakeModel:
    """Remembers what was seen, since a watermark never goes back and what is durable stays."""

    def __init__(self) -> None:
        self._watermarks: dict[tuple[str, int], Offset] = {}
        self._events: dict[tuple[str, int], dict[Offset, bytes]] = {}

    def check(self, life: Life, partition: int, found: Found) -> None:
        key, log = (life.topic_id, partition), life.logs[partition]
        assert found.watermark >= self._watermarks.get(key, 0), "a watermark went back"
        before = self._events.get(key, {})
        assert before.items() <= found.events.items(), "an event was lost or changed"
        for offset, value in found.events.items():
            assert offset < found.watermark, (
                f"{offset} is taken in and not below the watermark {found.watermark}"
            )
            assert value in log.ever.get(offset, ()), (
                f"{offset} holds {value!r}, which is not of {life.topic_id}"
            )
        explained = set(found.events)
        for first, following, reason in found.gaps:
            for offset in range(first, following):
                assert offset not in explained, f"{offset} is explained twice"
                explained.add(offset)
                absent = reason == "missing" and None in log.ever.get(offset, {None})
                deleted = reason == "retention" and offset < log.low
                assert absent or deleted, f"the gap at {offset} is called {reason}, and a record was there"
        assert explained == set(range(found.watermark)), (
            f"not explained: {sorted(set(range(found.watermark)) ^ explained)}"
        )
        self._watermarks[key], self._events[key] = found.watermark, dict(found.events)

    def check_committed(self, life: Life, partition: int, committed: Offset) -> None:
        """Kafka is told of nothing that is not durable."""
        assert committed <= self._watermarks.get((life.topic_id, partition), 0), (
            "committed before it was durable"
        )

    def check_end(self, life: Life, partition: int, found: Found) -> None:
        """With nothing in its way, all is read of the life in use, but for a log that was cut below the watermark."""
        log = life.logs[partition]
        left = [offset for offset, one in enumerate(log.records) if one is not None and offset >= log.low]
        if found.halted:
            assert log.cut_at is not None, "halted for nothing"
        else:
            assert found.watermark > max(left, default=-1), f"read up to {found.watermark} only, of {log}"

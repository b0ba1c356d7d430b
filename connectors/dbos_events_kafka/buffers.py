"""Records between the poll thread and the intake thread: a bounded buffer per partition."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Collection, Iterable
from typing import NamedTuple

from dbos_events.connect import Record

LIMIT_BYTES = 16 << 20


class Place(NamedTuple):
    """A partition of a topic."""

    topic: str
    partition: int


class Buffers:
    """Holds what was polled and not yet taken in. Only opened partitions accept records.

    `limit` bounds each partition's buffer in records, LIMIT_BYTES in bytes; `changed` wakes the
    intake thread for other work, too.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.changed = threading.Condition()
        self._records: dict[Place, deque[Record]] = {}
        self._bytes: dict[Place, int] = {}

    def open(self, place: Place) -> None:
        """Accept records of a partition, which has just been positioned."""
        with self.changed:
            self._records[place] = deque()
            self._bytes[place] = 0

    def drop(self, places: Iterable[Place]) -> None:
        """Forget partitions with all that is buffered of them."""
        with self.changed:
            for place in places:
                self._records.pop(place, None)
                self._bytes.pop(place, None)
            self.changed.notify_all()

    def add(self, records: Iterable[tuple[Place, Record]]) -> None:
        """Append what was polled; records of partitions that are not open are discarded."""
        with self.changed:
            was_empty = not any(self._records.values())
            for place, record in records:
                buffer = self._records.get(place)
                if buffer is not None:
                    buffer.append(record)
                    self._bytes[place] += _size(record)
            if was_empty:
                self.changed.notify_all()

    def fullness(self) -> dict[Place, float]:
        """How full each partition's buffer is; 1 at its limit, and more when it was overrun."""
        with self.changed:
            return {place: self._fullness(place) for place in self._records}

    def opened(self) -> Collection[Place]:
        return tuple(self._records)

    def wait_for_space(self, seconds: float) -> bool:
        """Wait until some partition has space; False when the time ran out."""
        with self.changed:
            return self.changed.wait_for(self._has_space, seconds)

    def take(self, room: Callable[[Place], int], most: int) -> dict[str, list[Record]]:
        """Remove up to `most` records in all, by topic, as far as each partition has room."""
        taken: dict[str, list[Record]] = {}
        with self.changed:
            for place, buffer in self._records.items():
                count = min(len(buffer), most, max(0, room(place))) if buffer else 0
                if count:
                    records = [buffer.popleft() for _ in range(count)]
                    self._bytes[place] -= sum(map(_size, records))
                    taken.setdefault(place.topic, []).extend(records)
                    most -= count
            if taken:
                self.changed.notify_all()
        return taken

    @property
    def waiting(self) -> bool:
        """Whether anything is buffered."""
        return any(self._records.values())

    def _has_space(self) -> bool:
        return not self._records or any(self._fullness(place) < 1 for place in self._records)

    def _fullness(self, place: Place) -> float:
        return max(len(self._records[place]) / self.limit, self._bytes[place] / LIMIT_BYTES)


def _size(record: Record) -> int:
    return len(record.value or b"") + len(record.key or b"")

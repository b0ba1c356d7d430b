"""Records between the poll thread and the intake thread: a bounded buffer per partition."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import NamedTuple

from dbos_events.connect import Record

LIMIT_BYTES = 16 << 20
TAKE_BYTES = 4 << 20
"""So much of keys, values and headers, and the rest of one record, goes into a transaction. It copies it several times."""


class Place(NamedTuple):
    """A partition of a topic."""

    topic: str
    partition: int


class Buffer:
    """What was polled of one partition since it was positioned: all of it, without an omission.

    So a jump between two of its records is the log's own. Whoever has left anything out seals or drops the buffer, and
    the partition is read again from its watermark into another one.

    The numbers count records: `added` all of them, `confirmed` those that are known to come from the life of
    the topic that was positioned, `taken` those that have left the buffer, `taken_in` is the last take that some were in.
    """

    __slots__ = (
        "added", "bytes", "confirmed", "following", "reached", "records", "sealed", "taken", "taken_in", "uncounted",
    )  # fmt: skip

    def __init__(self) -> None:
        self.records: deque[Record] = deque()
        self.bytes = self.uncounted = 0
        self.added = self.confirmed = self.taken = 0
        self.following = -1
        self.reached = -1
        self.taken_in = 0
        self.sealed = False

    @property
    def ready(self) -> int:
        """How many records may be taken in."""
        return self.confirmed - self.taken

    def pop(self, most: int, most_bytes: int) -> list[Record]:
        """Remove up to `most` records, until they come to `most_bytes` or more; at least one."""
        popped: list[Record] = []
        for _ in range(most):
            popped.append(record := self.records.popleft())
            size = _size(record)
            self.bytes -= size
            self.uncounted -= size - len(record.value or b"")
            most_bytes -= size
            if most_bytes <= 0:
                break
        self.taken += len(popped)
        return popped


Mark = list[tuple[Buffer, int]]
"""How much of each buffer was polled at some moment."""


class Buffers:
    """Holds what was polled and not yet taken in. Only opened partitions accept records.

    `limit` bounds each partition's buffer in records, LIMIT_BYTES in bytes; `changed` wakes the
    intake thread for other work, too.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.changed = threading.Condition()
        self._buffers: dict[Place, Buffer] = {}
        self._takes = 0
        self._sealed = False

    def open(self, place: Place) -> None:
        """Accept records of a partition, which has just been positioned."""
        with self.changed:
            self._buffers[place] = Buffer()

    def drop(self, places: Iterable[Place]) -> None:
        """Forget partitions with all that is buffered of them."""
        with self.changed:
            for place in places:
                self._buffers.pop(place, None)
            self.changed.notify_all()

    def seal(self) -> None:
        """Add nothing more to what is open: something was left out behind it. What is buffered may be taken in."""
        with self.changed:
            for buffer in self._buffers.values():
                buffer.sealed = True
            self._sealed = True
            self.changed.notify_all()

    def drained(self) -> Collection[Place]:
        """The sealed partitions of which all has been taken: they are to be read again from their watermarks."""
        if not self._sealed:
            return ()
        with self.changed:
            sealed = [place for place, buffer in self._buffers.items() if buffer.sealed]
            self._sealed = bool(sealed)
            return [place for place in sealed if not self._buffers[place].records]

    def add(self, records: Iterable[tuple[Place, Record]]) -> None:
        """Append what was polled; records of partitions that are not open, or sealed, are discarded."""
        with self.changed:
            was_empty = not any(buffer.records for buffer in self._buffers.values())
            for place, record in records:
                buffer = self._buffers.get(place)
                if buffer is not None and not buffer.sealed:
                    buffer.records.append(record)
                    buffer.added += 1
                    size = _size(record)
                    buffer.bytes += size
                    buffer.uncounted += size - len(record.value or b"")
                    buffer.following = record.offset + 1
            if was_empty:
                self.changed.notify_all()

    def at_end(self, place: Place, offset: int) -> None:
        """The client has read to the end of the log, past what is no record."""
        with self.changed:
            buffer = self._buffers.get(place)
            if buffer is not None:
                buffer.reached = offset

    def reached(self, place: Place) -> int | None:
        """How far the log was read, if all that was polled is taken in; None when that is not known."""
        with self.changed:
            buffer = self._buffers.get(place)
            if buffer is None or buffer.records or buffer.reached < 0:
                return None
            return buffer.reached

    def progress(self) -> dict[Place, int]:
        """The offset up to which each partition was polled, of those that nothing waits of.

        -1 when nothing came since it was positioned.
        """
        with self.changed:
            return {
                place: max(buffer.following, buffer.reached)
                for place, buffer in self._buffers.items()
                if not buffer.records
            }

    def unconfirmed(self) -> dict[str, Mark]:
        """By topic, what was polled up to now of partitions that have something to confirm."""
        marks: dict[str, Mark] = {}
        with self.changed:
            for place, buffer in self._buffers.items():
                if buffer.added > buffer.confirmed:
                    marks.setdefault(place.topic, []).append((buffer, buffer.added))
        return marks

    def confirm(self, mark: Mark) -> None:
        """These records come from the life of the topic that they are taken for."""
        with self.changed:
            for buffer, added in mark:
                buffer.confirmed = max(buffer.confirmed, added)
            self.changed.notify_all()

    def fullness(self) -> dict[Place, float]:
        """How full each partition's buffer is; 1 at its limit, and more when it was overrun."""
        with self.changed:
            return {place: self._fullness(buffer) for place, buffer in self._buffers.items()}

    def swollen(self, place: Place) -> bool:
        """Whether a full buffer is full of keys and headers, which the client does not count: it would fetch on."""
        buffer = self._buffers.get(place)
        return buffer is not None and buffer.uncounted >= LIMIT_BYTES // 2

    def followed(self) -> dict[Place, int]:
        """The offset that comes next in each partition that is read, after all that was polled; -1 when nothing was."""
        with self.changed:
            return {place: one.following for place, one in self._buffers.items() if not one.sealed}

    def opened(self) -> Collection[Place]:
        return tuple(self._buffers)

    def wait_for_space(self, seconds: float) -> bool:
        """Wait until some partition has space; False when the time ran out."""
        with self.changed:
            return self.changed.wait_for(self._has_space, seconds)

    def take(self, room: Callable[[Place], int], most: int) -> Mapping[str, list[Record]]:
        """Remove up to `most` confirmed records in all, by topic, as far as each partition has room.

        Of each partition about as many: its keys are its own, so more of them can run side by side. Of large
        ones until they come to TAKE_BYTES. The next take begins with the partitions that got none.
        """
        taken: dict[str, list[Record]] = {}
        left = TAKE_BYTES
        with self.changed:
            wanted = {
                place: count
                for place in sorted(self._buffers, key=lambda place: self._buffers[place].taken_in)
                if (ready := self._buffers[place].ready) and (count := min(ready, room(place))) > 0
            }
            shares = _shares(wanted, most)
            self._takes += 1
            for number, place in enumerate(place for place in wanted if place in shares):
                if left <= 0:
                    break
                buffer = self._buffers[place]
                buffer.taken_in = self._takes
                before = buffer.bytes
                popped = buffer.pop(shares[place], left // (len(shares) - number))
                taken.setdefault(place.topic, []).extend(popped)
                left -= before - buffer.bytes
            if taken:
                self.changed.notify_all()
        return taken

    @property
    def waiting(self) -> bool:
        """Whether anything may be taken in."""
        return any(buffer.ready for buffer in self._buffers.values())

    def _has_space(self) -> bool:
        return not self._buffers or any(self._fullness(buffer) < 1 for buffer in self._buffers.values())

    def _fullness(self, buffer: Buffer) -> float:
        return max(len(buffer.records) / self.limit, buffer.bytes / LIMIT_BYTES)


def shown(places: Iterable[Place]) -> str:
    """For people."""
    return ", ".join(f"{place.topic}[{place.partition}]" for place in sorted(places)) or "nothing"


def _shares(wanted: Mapping[Place, int], most: int) -> dict[Place, int]:
    """How many of each, at most `most` in all: what one does not want goes to the others; the first ones come first."""
    shares: dict[Place, int] = {}
    places = sorted(list(wanted)[: max(most, 0)], key=lambda place: wanted[place])
    for number, place in enumerate(places):
        share = min(wanted[place], -(-most // (len(places) - number)))
        if share > 0:
            shares[place] = share
            most -= share
    return shares


def _size(record: Record) -> int:
    return record.size or len(record.value or b"") + len(record.key or b"")

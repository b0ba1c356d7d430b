"""Poll in a checked way: no record that the client has handed out is left out without a word.

Whatever raises between the client and the buffers may have thrown records away: those that were polled at once, or one that
was just taken from the client. The buffers would go on behind them, and the intake would take the jump for a gap of the
log. So nothing more is added to the buffers then, and all partitions are read again from their watermarks, when what was
buffered before is taken in. By that it is known whether a jump is the log's own: nothing was left out between two
records of one buffer.
"""

from __future__ import annotations

import time
from collections.abc import Collection
from contextlib import suppress
from typing import NamedTuple

from confluent_kafka import Consumer, KafkaError, Message, TopicPartition

from dbos_events.connect import Record
from dbos_events_kafka.buffers import Buffers, Place
from dbos_events_kafka.records import place_of, record_of

POLL_SECONDS = 0.1
CHUNK = 64
"""So many records are taken from the client at once at most: their sizes are not known before."""
POLL_BYTES = 4 << 20
"""About so much is polled at once."""
CAREFUL_SECONDS = 15.0
"""So long after an error records are taken one by one, so that the next one tells which record it comes from."""
PATIENCE = 3
"""A record that was lost so often by an error is not asked for any more: its partition halts."""


class Polled(NamedTuple):
    """What one poll has given."""

    records: list[tuple[Place, Record]]
    errors: list[tuple[Message, KafkaError]]


class Reading:
    """Belongs to the poll thread."""

    def __init__(self, batch_size: int, buffers: Buffers) -> None:
        self._batch_size = batch_size
        self._buffers = buffers
        self._typical = 1
        self._careful_until = 0.0
        self._lost: dict[tuple[Place, int], int] = {}

    @property
    def careful(self) -> bool:
        """Whether an error was met a moment ago."""
        return bool(self._careful_until)

    def poll(self, consumer: Consumer) -> Polled | None:
        """One blocking poll for the first record, then whatever is there already.

        After anything but a return, `interrupted` must be called.
        """
        first = consumer.poll(POLL_SECONDS)
        if self._careful_until and time.monotonic() > self._careful_until:
            self._careful_until = 0.0
            self._lost.clear()
        if first is None:
            return None
        polled = Polled([], [])
        size = self._sort([first], polled)
        left = 0 if self._careful_until else self._batch_size - 1
        while left > 0 and size < POLL_BYTES:
            wanted = max(1, min(left, CHUNK, (POLL_BYTES - size) // self._typical))
            messages = consumer.consume(wanted, 0)
            size += self._sort(messages, polled)
            left -= len(messages)
            if len(messages) < wanted:
                break
        if polled.records:
            self._typical = max(1, size // len(polled.records))
        return polled

    def _sort(self, messages: Collection[Message], polled: Polled) -> int:
        """Add what was polled; gives how many bytes it is."""
        size = 0
        for message in messages:
            error = message.error()
            if error is None:
                record = record_of(message)
                size += record.size
                polled.records.append((place_of(message), record))
            else:
                polled.errors.append((message, error))
        return size

    def interrupted(self, consumer: Consumer, why: str) -> dict[Place, str]:
        """Seal everything; gives the partitions that are not to be read on, and what to say of each."""
        lost = self._behind(consumer)
        was_careful = self.careful
        self._careful_until = time.monotonic() + CAREFUL_SECONDS
        self._buffers.seal()
        with suppress(Exception):  # what would come is discarded; whoever positions a partition resumes it
            consumer.pause([TopicPartition(*place) for place in self._buffers.opened()])
        if not was_careful:
            return {}  # several may have been polled at once
        stopped = {}
        for place, offset in lost.items():
            self._lost[place, offset] = times = self._lost.get((place, offset), 0) + 1
            if times >= PATIENCE:
                stopped[place] = (
                    f"the record at offset {offset} cannot be taken from the client ({why}); nothing of it is known, "
                    "so it is not skipped"
                )
                del self._lost[place, offset]
        return stopped

    def _behind(self, consumer: Consumer) -> dict[Place, int]:
        """The partitions of which the client has handed out more than was buffered, with the last offset of that."""
        followed = self._buffers.followed()
        found: dict[Place, int] = {}
        with suppress(Exception):
            for at in consumer.position([TopicPartition(*place) for place in followed]):
                place = Place(at.topic, at.partition)
                if at.offset >= 0 and at.offset > followed[place]:
                    found[place] = at.offset - 1
        return found

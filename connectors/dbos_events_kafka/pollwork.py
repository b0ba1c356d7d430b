"""What the intake thread wants the poll thread to do with the client."""

from __future__ import annotations

import threading
from collections.abc import Collection, Mapping
from typing import NamedTuple

from dbos_events_kafka.buffers import Place


class Target(NamedTuple):
    """Where to read a partition; the position may lie a record further, see `Position.witness`."""

    offset: int
    leader_epoch: int | None
    next_offset: int
    incarnation: int = 0


class Durable(NamedTuple):
    """What the database has: up to which offset, the leader epoch of the last record, and its incarnation."""

    offset: int
    leader_epoch: int | None = None
    incarnation: int = 0


class Commands:
    """Written by the intake thread, taken by the poll thread between two polls."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._positions: dict[Place, Target] = {}
        self._durable: dict[Place, Durable] = {}
        self._reached: dict[Place, Durable] = {}
        self._renew = False
        self._last: dict[Place, int] = {}
        self._doubtful: set[Place] = set()
        self._created: set[str] = set()
        self.ends: dict[Place, int] = {}
        self._fetched: dict[Place, int] = {}

    def fetched(self, place: Place, end: int) -> None:
        """The end of a partition, as the last fetch told it, however long ago that was.

        A paused partition is not fetched: what it told stays as it was, and the watch asks the cluster instead.
        """
        if self._fetched.get(place) != end:
            self._fetched[place] = self.ends[place] = end

    def prove(self, places: Collection[Place]) -> None:
        """Ask the coordinator, by a synchronous commit, whether these partitions are still ours."""
        with self._lock:
            self._doubtful.update(places)

    def take_doubtful(self) -> dict[Place, Durable]:
        """These, each with the last offset that we know to be durable."""
        with self._lock:
            doubtful, self._doubtful = self._doubtful, set()
            return {place: self._reached[place] for place in doubtful if place in self._reached}

    def created(self, topic: str) -> None:
        """Tell the client of a topic that it did not find before."""
        with self._lock:
            self._created.add(topic)

    def take_created(self) -> set[str]:
        with self._lock:
            created, self._created = self._created, set()
        return created

    def renew(self) -> None:
        """Go on with a new client: this one has gone silent."""
        self._renew = True

    def take_renewal(self) -> bool:
        renew, self._renew = self._renew, False
        return renew

    def position(self, positions: Mapping[Place, Target]) -> None:
        """Seek to these offsets and begin to read."""
        with self._lock:
            self._positions.update(positions)
            self._reached.update(
                {
                    place: Durable(target.next_offset, target.leader_epoch, target.incarnation)
                    for place, target in positions.items()
                }
            )
            self._last.update({place: target.offset for place, target in positions.items()})

    def last_position(self, place: Place) -> int:
        """Where the partition was to be read when it was last ours; 0 when it never was."""
        return self._last.get(place, 0)

    def take_positions(self) -> dict[Place, Target]:
        with self._lock:
            positions, self._positions = self._positions, {}
        return positions

    def durable(self, offsets: Mapping[Place, Durable]) -> None:
        """These offsets are in the database and may be committed to Kafka."""
        with self._lock:
            self._durable.update(offsets)
            self._reached.update(offsets)

    def take_durable(self) -> dict[Place, Durable]:
        with self._lock:
            offsets, self._durable = self._durable, {}
        return offsets

    def forget(self, places: Collection[Place]) -> None:
        """Do not begin to read these: they are to be positioned anew."""
        with self._lock:
            for place in places:
                self._positions.pop(place, None)

    def abandon(self, places: Collection[Place]) -> None:
        """Forget all about partitions that are not ours any more."""
        self.forget(places)
        with self._lock:
            self._doubtful.difference_update(places)
            for place in places:
                self._durable.pop(place, None)
                self._reached.pop(place, None)
                self._fetched.pop(place, None)
                self.ends.pop(place, None)

"""How many bytes of events that were read back from the database are in this process."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Collection, Iterator, Mapping

from dbos_events.engine.run import Run

HEAVY_BYTES = 64 << 10
"""Events from this size on are weighed; a thousand lighter ones are no burden."""

MOST_BYTES = 128 << 20
"""So much of heavy events may have been read back and not have left; the others wait as rows."""

READ_AT_ONCE = 16 << 20
"""So much is read in one answer: the driver holds it several times over while it reads."""

REMEMBERED = 10_000


def portions(sizes: Mapping[str, int]) -> Iterator[list[str]]:
    """The ids, in portions that are not too large for one answer."""
    some: list[str] = []
    total = 0
    for id_, size in sizes.items():
        if some and total + size > READ_AT_ONCE:
            yield some
            some, total = [], 0
        some.append(id_)
        total += size
    if some:
        yield some


class Weights:
    """Weighs the events of runs that were made of rows. Any thread may ask and tell.

    Those that an intake has just received are weighed by the places of their consumer.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._bytes = 0
        self._too_heavy: set[str] = set()

    @property
    def full(self) -> bool:
        """Whether those who gave back events that were too heavy should take none for now."""
        return self._bytes > MOST_BYTES // 2

    def fitting(self, sizes: Mapping[str, int]) -> set[str]:
        """The first of these that may be in memory beside what is; one always may when nothing is."""
        found: set[str] = set()
        with self._lock:
            total = self._bytes
            for id_, size in sizes.items():
                if size >= HEAVY_BYTES:
                    if total and total + size > MOST_BYTES:
                        break
                    total += size
                found.add(id_)
            if len(self._too_heavy) > REMEMBERED:
                self._too_heavy.clear()
            self._too_heavy |= sizes.keys() - found
            self._too_heavy -= found
        return found

    def are_too_heavy(self, ids: Collection[str]) -> bool:
        """Whether each of these was left out for its weight when it was taken last."""
        return bool(ids) and self._too_heavy.issuperset(ids)

    def weigh(self, run: Run, size: int) -> None:
        """Count a run's event until the run has left, or is forgotten without having been started."""
        if size < HEAVY_BYTES:
            return
        with self._lock:
            self._bytes += size
        weight = _Weight(self, size)
        run.when_ended(weight)
        weakref.finalize(run, weight.wake).atexit = False

    def relieve(self, weight: _Weight) -> None:
        """Count it no more; once."""
        with self._lock:
            self._bytes -= weight.size
            weight.size = 0


class _Weight:
    """What one run weighs; woken when it has left."""

    __slots__ = ("_weights", "size")

    def __init__(self, weights: Weights, size: int) -> None:
        self._weights = weights
        self.size = size

    def wake(self) -> None:
        self._weights.relieve(self)

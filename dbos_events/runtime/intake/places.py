"""The places that the events of one consumer take up in this process."""

from __future__ import annotations

import threading
from collections.abc import Callable

from dbos_events.engine.run import Run
from dbos_events.model.event import ConsumerOptions


class Places:
    """Counts events that run, and events that wait in memory behind one of their lane; from any thread.

    `freed` is called when a place has become free.
    """

    def __init__(self, options: ConsumerOptions, freed: Callable[[], object]) -> None:
        self.options = options
        self._freed = freed
        self._in_flight = 0
        self._cached = 0
        self._places = threading.Condition()

    @property
    def in_flight(self) -> int:
        """Events that run in this process."""
        return self._in_flight

    @property
    def free(self) -> int:
        if self.options.queue_name is not None:
            return self.options.batch_size
        return self.options.max_in_flight - self._in_flight

    @property
    def capacity(self) -> int:
        return self.options.max_in_flight

    @property
    def cache_room(self) -> int:
        return self.capacity - self._cached

    def cache(self, count: int) -> None:
        with self._places:
            self._cached += count

    def wait_for_room(self, seconds: float) -> None:
        with self._places:
            if self.options.ordering != "none" or self._in_flight > self.options.max_in_flight // 2:
                self._places.wait(seconds)

    def left(self, run: Run) -> None:
        """One of our runs has left this process; called on the committer's thread."""
        self.give_back(1)

    def occupy(self, count: int) -> None:
        with self._places:
            self._in_flight += count

    def give_back(self, count: int) -> None:
        with self._places:
            self._in_flight -= count
            if self._in_flight <= self.options.max_in_flight // 2:
                self._places.notify_all()
        self._freed()

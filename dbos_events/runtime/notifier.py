"""Wakes other processes: a signal of this one goes out at once, those that follow are gathered in one NOTIFY.

NOTIFY takes a lock that all committing transactions of the database share, so it never rides on
a write's own transaction. Who misses it finds the work by polling.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from time import monotonic, sleep

from dbos_events.engine.waking import Hub
from dbos_events.runtime.service import Service
from dbos_events.storage.protocol import Storage

GATHER_SECONDS = 0.005


class NotifierService(Service):
    """Sends what `announce` collected, and hands what others sent to the hub."""

    name = "notifier"
    in_tests = False  # there is no other process

    def __init__(self, storage: Storage, hub: Hub, *, enabled: bool) -> None:
        super().__init__(interval=60.0)
        self._storage = storage
        self._hub = hub
        self._enabled = enabled
        self._lock = threading.Lock()
        self._channels: set[str] = set()
        self._sent = float("-inf")
        self._end_listening: Callable[[], None] | None = None

    def start(self) -> None:
        if self._enabled:
            self._end_listening = self._storage.listen(self._hub.signal)
        super().start()

    def stop(self, seconds: float = 5.0) -> None:
        super().stop(seconds)
        if self._end_listening is not None:
            self._end_listening()

    def announce(self, channel: str) -> None:
        """Tell the other processes that something changed on `channel`."""
        if self._end_listening is None:
            return
        with self._lock:
            self._channels.add(channel)
        self.wake()

    def tick(self) -> float | None:
        early = self._sent + GATHER_SECONDS - monotonic()
        if early > 0:
            sleep(early)
        with self._lock:
            channels, self._channels = self._channels, set()
        if channels:
            self._storage.notify(sorted(channels))
            self._sent = monotonic()
        return None

"""Who waits in this process for what workflows show: told from memory what has become durable here.

A value or an entry that a workflow of this process publishes need not be read back from the database by whoever waits for
it here. What the listener has missed, what other processes publish, and the end of the workflow it looks up, as before.
"""

from __future__ import annotations

import threading
import weakref
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from typing import TYPE_CHECKING

from dbos_events.engine.waking import A_MOMENT

if TYPE_CHECKING:
    from dbos_events.engine.waking import Hub
    from dbos_events.storage.writes import SetValue, StreamEntry

MOST = 1000
MOST_CHARACTERS = 1_000_000
"""What one listener keeps that it was told; it looks instead, when it is slower than that."""


def here(channel: str) -> str:
    """The channel of the hub on which those hear that are told from memory."""
    return f"here:{channel}"


class Listener:
    """One who waits for what is published on a channel; a waker of the hub.

    It looks in the database when something was `heard` that it was not told.
    """

    __slots__ = ("__weakref__", "_characters", "_hub", "_lock", "_told", "also", "channel", "heard", "own")

    def __init__(self, hub: Hub, channel: str, also: Sequence[str]) -> None:
        self._hub = hub
        self._lock = threading.Lock()
        self._told: deque[SetValue | StreamEntry] = deque()
        self._characters = 0
        self.channel = channel
        self.also = (channel, *also)
        self.own = here(channel)
        """What a wait of it listens on."""
        self.heard = True
        """Whether it is worth while to look; cleared before a look."""

    def wake(self) -> None:
        """Something may have come."""
        self.heard = True
        self._hub.signal(self.own)

    def offer(self, change: SetValue | StreamEntry) -> None:
        """Something has become durable; followed by a signal on `own`."""
        with self._lock:
            self._characters += len(change.value or "")
            if len(self._told) < MOST and self._characters <= MOST_CHARACTERS:
                self._told.append(change)
                return
            self._told.clear()
            self._characters = 0
        self.heard = True

    def told(self) -> SetValue | StreamEntry | None:
        """The next thing that it was told, once."""
        if not self._told:
            return None
        with self._lock:
            if not self._told:
                return None
            change = self._told.popleft()
            self._characters -= len(change.value or "")
            return change

    def last_told(self) -> SetValue | StreamEntry | None:
        """The last thing that it was told, where those before it count no more."""
        last = None
        while (change := self.told()) is not None:
            last = change
        return last

    def missed(self) -> None:
        """What it was told does not follow what it has: it has to look."""
        with self._lock:
            self._told.clear()
            self._characters = 0
        self.heard = True


class Audience:
    """The listeners of this process, by channel."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._listeners: dict[str, tuple[Listener, ...]] = {}
        # A reader may be freed anywhere, also within a lock of the hub: then its listener leaves later.
        self._left: deque[Listener] = deque()

    def join(self, hub: Hub, channel: str, also: Sequence[str] = (), of: object | None = None) -> Listener:
        """Listen on a channel, and to signals on `also`; until it leaves, or until `of` is freed."""
        self._drop_left(hub)
        listener = Listener(hub, channel, also)
        with self._lock:
            self._listeners[channel] = (*self._listeners.get(channel, ()), listener)
        for one in listener.also:
            hub.subscribe(one, listener)
        if of is not None:
            weakref.finalize(of, self._left.append, listener).atexit = False
        return listener

    def leave_soon(self, hub: Hub, listener: Listener) -> None:
        """It listens no more; for a caller that may be a generator which is freed within one of the locks."""
        self._left.append(listener)
        if hub.is_free() and self._lock.acquire(timeout=A_MOMENT):
            self._lock.release()
            self._drop_left(hub)

    def _drop_left(self, hub: Hub) -> None:
        with suppress(IndexError):
            while True:
                self.leave(hub, self._left.popleft())

    def leave(self, hub: Hub, listener: Listener) -> None:
        """It listens no more."""
        for one in listener.also:
            hub.unsubscribe(one, listener)
        with self._lock:
            others = tuple(
                other for other in self._listeners.get(listener.channel, ()) if other is not listener
            )
            if others:
                self._listeners[listener.channel] = others
            else:
                self._listeners.pop(listener.channel, None)

    def tell(self, channel: str, change: SetValue | StreamEntry) -> None:
        """Something has become durable; to be followed by a signal on `here(channel)`."""
        for listener in self._listeners.get(channel, ()):
            listener.offer(change)

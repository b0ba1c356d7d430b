"""What runs of this process know of what they wait for: their mailboxes, whose turn it is, what was heard, what was seen."""

from __future__ import annotations

import threading
import weakref
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Protocol
from weakref import WeakKeyDictionary

from dbos_events.model.message import StoredMessage

if TYPE_CHECKING:
    from collections.abc import Mapping

    from dbos_events.clock import Clock
    from dbos_events.engine.waking import Hub
    from dbos_events.storage.protocol import Storage
    from dbos_events.storage.writes.send import PlacedMessage, Send

STALE = 0.25
"""Seconds for which an empty mailbox counts as empty, where nothing was heard: nobody may be able to tell this process."""

MOST_MESSAGES = 64
MOST_CHARACTERS = 100_000
"""Of one topic, that a run keeps in memory before it receives them."""


def channel_of(workflow_id: str) -> str:
    """The channel of the hub that tells of messages to a workflow."""
    return f"message:{workflow_id}"


def turn_of(workflow_id: str) -> str:
    """The channel on which calls of one run hear that it is worth while to look again."""
    return f"mailbox:{workflow_id}"


class _Present(Protocol):
    @property
    def active(self) -> Mapping[str, Receiver]: ...


class Post(Protocol):
    """What mailboxes use of the engine."""

    clock: Clock
    hub: Hub
    storage: Storage
    mailboxes: Mailboxes

    @property
    def runner(self) -> _Present: ...

    def signal(self, channel: str) -> None:
        """Wake who waits on `channel`, here and in other processes."""
        ...


class Receiver(Protocol):
    """A run, as the one that receives messages."""

    @property
    def id(self) -> str: ...

    @property
    def core(self) -> Post: ...


class Ear:
    """Whether something was heard since the last look; as a waker of the hub."""

    def __init__(self) -> None:
        self._heard = True

    def wake(self) -> None:
        """Something may have come."""
        self._heard = True

    @property
    def has_heard(self) -> bool:
        """Whether it is worth while to look."""
        return self._heard

    def looks(self) -> None:
        """The caller is about to look."""
        self._heard = False


class Topic(Ear):
    """One topic of a run's mailbox: what waits there, as far as the run knows it.

    All that waits with a number up to `_tail` is in `_ahead`, but for what the run has taken: that is marked in the
    database a moment later. So a message may be added from memory when nothing waits between it and the tail.
    """

    def __init__(self) -> None:
        super().__init__()
        self.turns: deque[object] = deque()
        self._lock = threading.Lock()
        self._ahead: deque[StoredMessage] = deque()
        self._characters = 0
        self._tail = 0
        self._page = 1
        self._looked_at = float("-inf")
        self._taken: set[int] = set()
        """What calls have taken, where that may not be durable yet: a look shows it as if it waited."""
        self._forgotten = 0
        self._is_behind = False
        """Whether messages may be there again that a look has not come to; then none is added from memory."""

    def first(self) -> StoredMessage | None:
        """The oldest message that is known to wait."""
        return self._ahead[0] if self._ahead else None

    def take(self, message: StoredMessage, *, all_durable: bool) -> None:
        """The oldest one is handed over to be consumed; `all_durable` where that holds of all that was taken before."""
        with self._lock:
            if all_durable:
                self._taken.clear()
            self._taken.add(message.number)
            if self._ahead and self._ahead[0] is message:
                self._ahead.popleft()
                self._characters -= len(message.value or "")

    def is_known_empty(self, core: Post) -> bool:
        """Whether the database need not be asked: it was a moment ago, and nothing was heard since."""
        if self.has_heard or core.clock.manual:
            return False
        return core.clock.monotonic() - self._looked_at < STALE

    def look(self, core: Post, workflow_id: str, topic: str | None) -> StoredMessage | None:
        """Read on in the database; gives the oldest message that waits."""
        self.looks()
        done = False
        while not done:
            done = self._read_page(core, workflow_id, topic)
        return self.first()

    def _read_page(self, core: Post, workflow_id: str, topic: str | None) -> bool:
        """Read a page; gives whether a message is known now, or none waits."""
        now, most, forgotten = core.clock.monotonic(), self._page, self._forgotten
        found = core.storage.messages.look(workflow_id, topic, self._tail, most)
        is_whole = len(found) < most
        with self._lock:
            if self._forgotten != forgotten:  # it may have missed what was given back meanwhile
                return False
            for message in found:
                if message.number in self._taken:
                    self._tail = max(self._tail, message.number)
                elif message.number > self._tail:  # else it was added from memory meanwhile
                    self._add(message)
            self._looked_at = now
            self._is_behind = self._is_behind and not is_whole
        if not is_whole:
            self.wake()
        large = self._characters > MOST_CHARACTERS
        self._page = 1 if large or not found else min(MOST_MESSAGES, most * 4)
        return is_whole or self.first() is not None

    def offer(self, placed: PlacedMessage) -> bool:
        """Add a message that has become durable; False where the database has to be asked for it."""
        message = placed.message
        size = len(message.value or "")
        with self._lock:
            if placed.number <= self._tail:
                return True
            follows = placed.previous is None or placed.previous <= self._tail
            if (
                self._is_behind
                or not follows
                or len(self._ahead) >= MOST_MESSAGES
                or self._characters + size > MOST_CHARACTERS
            ):
                return False
            self._add(StoredMessage(placed.number, message.codec, message.value))
        return True

    def _add(self, message: StoredMessage) -> None:
        self._ahead.append(message)
        self._characters += len(message.value or "")
        self._tail = message.number

    def forget(self) -> None:
        """What was taken may be there again."""
        with self._lock:
            self._ahead.clear()
            self._characters = self._tail = 0
            self._forgotten += 1
            self._is_behind = True
        self.wake()


class Mailbox:
    """The topics of which a run has received; a waker of the hub, for as long as the run lives."""

    def __init__(self, core: Post, run: Receiver) -> None:
        self._core = core
        self._turn = turn_of(run.id)
        self.topics: dict[str | None, Topic] = {}
        self.channel = channel_of(run.id)
        core.hub.subscribe(self.channel, self)

    def wake(self) -> None:
        """A message has come."""
        for topic in tuple(self.topics.values()):
            topic.wake()
        self._core.hub.signal(self._turn)

    def offer(self, placed: Sequence[PlacedMessage]) -> None:
        """Messages to this run have become durable."""
        for one in placed:
            topic = self.topics.get(one.message.topic)
            if topic is not None and not topic.offer(one):
                topic.wake()
        self._core.hub.signal(self._turn)

    def topic(self, name: str | None) -> Topic:
        """One of its topics."""
        known = self.topics.get(name)
        if known is None:
            known = self.topics[name] = Topic()
        return known

    def forget(self) -> None:
        """Messages were given back."""
        for topic in tuple(self.topics.values()):
            topic.forget()


class Mailboxes:
    """The mailboxes of the runs in this process, and the publications that each run has seen."""

    def __init__(self) -> None:
        self._boxes: WeakKeyDictionary[Receiver, Mailbox] = WeakKeyDictionary()
        self._seen: WeakKeyDictionary[Receiver, dict[str, int]] = WeakKeyDictionary()
        # A run may be freed anywhere, also within a lock of the hub: so its mailbox is dropped later.
        self._left: deque[Mailbox] = deque()

    def of(self, run: Receiver) -> Mailbox:
        """The mailbox of a run that receives."""
        known = self._boxes.get(run)
        if known is None:
            self._drop_left(run.core)
            known = self._boxes[run] = Mailbox(run.core, run)
            weakref.finalize(run, self._left.append, known).atexit = False
        return known

    def _drop_left(self, core: Post) -> None:
        with suppress(IndexError):
            while True:
                left = self._left.popleft()
                core.hub.unsubscribe(left.channel, left)

    def known(self, run: Receiver | None) -> Mailbox | None:
        """The mailbox of a run, if it has received before."""
        return None if run is None else self._boxes.get(run)

    def seen(self, run: Receiver) -> dict[str, int]:
        """By anchor, the number of the last publication that the run has got."""
        return self._seen.setdefault(run, {})


class Delivery:
    """The waker of a write that sends: receivers here get what is durable from memory, all others are told to look."""

    __slots__ = ("_core", "_send")

    def __init__(self, core: Post, send: Send) -> None:
        self._core = core
        self._send = send

    def wake(self) -> None:
        """The write has met its fate; whoever looks in vain loses nothing."""
        core = self._core
        elsewhere = False
        for destination in {one.destination for one in self._send.messages}:
            run = core.runner.active.get(destination)
            placed = [one for one in self._send.placed if one.message.destination == destination]
            box = core.mailboxes.known(run)
            if run is None:
                core.signal(channel_of(destination))
                elsewhere = True
            elif box is None or len(placed) < self._count(destination):
                core.hub.signal(channel_of(destination))
            else:
                box.offer(placed)
        if elsewhere:
            core.signal("timers")

    def _count(self, destination: str) -> int:
        return sum(one.destination == destination for one in self._send.messages)


class Turn:
    """The turn of one call among those that receive of a topic."""

    def __init__(self, topic: Topic) -> None:
        self.topic = topic
        topic.turns.append(self)

    @property
    def is_first(self) -> bool:
        """Whether it is the turn of this call."""
        turns = self.topic.turns
        return bool(turns) and turns[0] is self

    @property
    def must_look(self) -> bool:
        """Whether there may be more in the database, for this call."""
        return self.is_first and self.topic.has_heard


@contextmanager
def in_turn(core: Post, run: Receiver, topic: str | None) -> Iterator[Turn]:
    """Wait for the turn at a topic within the block: its calls receive one after the other."""
    mine = Turn(core.mailboxes.of(run).topic(topic))
    turns = mine.topic.turns
    try:
        yield mine
    finally:
        turns.remove(mine)
        if turns:
            core.hub.signal(turn_of(run.id))

"""One reader of a stream: where it stands, and what of the stored entries it gets."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, NamedTuple

from dbos_events.errors import DBOSNonExistentWorkflowError
from dbos_events.model.stream import StreamMode, StreamReset
from dbos_events.model.workflow import FINISHED
from dbos_events.storage.writes import StreamEntry

if TYPE_CHECKING:
    from dbos_events.engine.audience import Listener
    from dbos_events.engine.run import Engine
    from dbos_events.storage.subjects.streams import StoredEntry, StreamPage

FIRST_PAGE = 16
MOST_ENTRIES = 256
MOST_CHARACTERS = 256_000
"""What a page holds at first, and what it may grow to; large entries are read one by one."""


class Item(NamedTuple):
    """One thing that a reader gets: an entry as it is stored, a reset, or the end of the stream."""

    position: int
    codec: str | None = None
    text: str | None = None
    reset: StreamReset | None = None
    ends: bool = False


class StreamReader:
    """Reads on from a position, page by page: at most one page is in memory, however slow its user is."""

    __slots__ = (
        "__weakref__", "_core", "_items", "_listener", "_page", "mode", "position", "stream", "workflow_id",
    )  # fmt: skip

    def __init__(self, core: Engine, workflow_id: str, stream: str, position: int, mode: StreamMode) -> None:
        self._core = core
        self._items: deque[Item] = deque()
        self._page = FIRST_PAGE
        self._listener: Listener | None = None
        self.workflow_id = workflow_id
        self.stream = stream
        self.mode = mode
        self.position = position
        """Of the next entry that was not given away yet."""

    def listen(self, channel: str) -> Listener:
        """Be told from now on what becomes durable here; `channel` is that of the stream."""
        if self._listener is None:
            audience = self._core.mailboxes.audience
            self._listener = audience.join(self._core.hub, channel, [f"workflow:{self.workflow_id}"], of=self)
        return self._listener

    def close(self) -> None:
        """Be told nothing more."""
        listener, self._listener = self._listener, None
        if listener is not None:
            self._core.mailboxes.audience.leave_soon(self._core.hub, listener)

    def take(self) -> Item | None:
        """The next thing that was read already, or told, if there is one."""
        if not self._items and not self.hear():
            return None
        item = self._items.popleft()
        self.position = item.position if item.reset is not None else item.position + 1
        return item

    def hear(self) -> bool | None:
        """Go on with what was told, when all before was taken; None when that is nothing, or does not follow.

        An entry that has become durable here is what a look would find: only the run that has the token writes into the
        streams of its workflow, and those of before a cut have lower positions.
        """
        listener = self._listener
        while listener is not None and (entry := listener.told()) is not None:
            if not isinstance(entry, StreamEntry) or entry.position < self.position:
                continue
            if entry.position > self.position or (self.mode == "committed" and not entry.committed):
                listener.missed()
                break
            self._give(entry)
            return True
        return None

    def skip(self, position: int) -> None:
        """Go on from a position: what lies before it was given away in an earlier run."""
        self.position = position
        self._items.clear()

    def look(self) -> bool | None:
        """Read the next page, when all before was taken; None when there is nothing to go on with yet.

        Raises:
            DBOSNonExistentWorkflowError: There is no such workflow.
        """
        if self._listener is not None:
            self._listener.heard = False
        count = self._page
        page = self._core.storage.streams.read(self.workflow_id, self.stream, self.position, count)
        if page is None:
            raise DBOSNonExistentWorkflowError(self.workflow_id)
        self._resize(page)
        over = page.status in FINISHED
        position, at_end = self.position, len(page.entries) < count
        for entry in page.entries:
            missing = entry.position > position and not over and page.take <= entry.take  # on its way
            wanted = None if missing else self._wanted(entry, page)
            if wanted is None:
                at_end = False
                break
            position = entry.position + 1
            if wanted:
                self._give(entry)
                if entry.ends:
                    at_end = False
                    break
        moved = position > self.position
        if not self._items:
            self.position = position
        if over and at_end:
            self._items.append(Item(position, ends=True))
        return True if moved or self._items else None

    def _resize(self, page: StreamPage) -> None:
        """Ask for more the next time, or for less, as the entries are large."""
        size = sum(len(entry.value or "") for entry in page.entries)
        if size > MOST_CHARACTERS:
            self._page = max(1, len(page.entries) * MOST_CHARACTERS // size)
        elif len(page.entries) == self._page:
            self._page = min(MOST_ENTRIES, self._page * 4)

    def _give(self, entry: StoredEntry | StreamEntry) -> None:
        if entry.resets is not None and self.mode == "live":
            self._items.append(Item(entry.position, reset=StreamReset(entry.step, entry.resets)))
        self._items.append(Item(entry.position, entry.codec, entry.value, ends=entry.ends))

    def _wanted(self, entry: StoredEntry, page: StreamPage) -> bool | None:
        """Whether the reader gets this entry; None while that is not known."""
        if entry.cut_in is not None and (entry.ends or self.mode == "committed"):
            return False
        if self.mode != "committed" or entry.committed is not None:
            return self.mode != "committed" or bool(entry.committed)
        lost = page.status in FINISHED or entry.take < page.take or entry.generation < page.generation
        return False if lost else None

"""What runs of this process know of what they wait for: whose turn it is to receive, what was heard, what was seen."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

from dbos_events.engine.waits import subscribed

if TYPE_CHECKING:
    from dbos_events.engine.core import Core
    from dbos_events.engine.run import Run


def channel_of(workflow_id: str) -> str:
    """The channel of the hub that tells of messages to a workflow."""
    return f"message:{workflow_id}"


class Mailboxes:
    """The calls of runs in this process that wait for messages, and the publications that each run has seen."""

    def __init__(self) -> None:
        self._lines: WeakKeyDictionary[Run, dict[str | None, deque[object]]] = WeakKeyDictionary()
        self._seen: WeakKeyDictionary[Run, dict[str, int]] = WeakKeyDictionary()

    def line(self, run: Run, topic: str | None) -> deque[object]:
        """Those of one topic, the first of which may look."""
        return self._lines.setdefault(run, {}).setdefault(topic, deque())

    def seen(self, run: Run) -> dict[str, int]:
        """By anchor, the number of the last publication that the run has got."""
        return self._seen.setdefault(run, {})


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


class Line(Ear):
    """The place of one call in the line of a topic, and what it has heard there."""

    def __init__(self, line: deque[object]) -> None:
        super().__init__()
        self._line = line

    def may_look(self) -> bool:
        """Whether it is the turn of this call, which is about to look."""
        self.looks()
        return bool(self._line) and self._line[0] is self


@contextmanager
def in_line(core: Core, run: Run, topic: str | None) -> Iterator[Line]:
    """Stand in line for a topic within the block."""
    line = core.mailboxes.line(run, topic)
    mine = Line(line)
    line.append(mine)
    channel = channel_of(run.id)
    try:
        with subscribed(core, mine, [channel]):
            yield mine
    finally:
        line.remove(mine)
        if line:
            core.hub.signal(channel)

"""Whose turn it is to receive: one call of a topic at a time, in the order of the calls."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

if TYPE_CHECKING:
    from dbos_events.engine.core import Core
    from dbos_events.engine.run import Run


def channel_of(workflow_id: str) -> str:
    """The channel of the hub that tells of messages to a workflow."""
    return f"message:{workflow_id}"


class Mailboxes:
    """The calls of runs in this process that wait for messages."""

    def __init__(self) -> None:
        self._lines: WeakKeyDictionary[Run, dict[str | None, deque[object]]] = WeakKeyDictionary()

    def line(self, run: Run, topic: str | None) -> deque[object]:
        """Those of one topic, the first of which may look."""
        return self._lines.setdefault(run, {}).setdefault(topic, deque())


class Line:
    """The place of one call in the line of a topic, and what it has heard there."""

    def __init__(self, line: deque[object]) -> None:
        self._line = line
        self._heard = True

    def wake(self) -> None:
        """Something may have come; as a waker of the hub."""
        self._heard = True

    @property
    def has_heard(self) -> bool:
        """Whether it is worth while to look."""
        return self._heard

    def may_look(self) -> bool:
        """Whether it is the turn of this call, which is about to look."""
        self._heard = False
        return bool(self._line) and self._line[0] is self


@contextmanager
def in_line(core: Core, run: Run, topic: str | None) -> Iterator[Line]:
    """Stand in line for a topic within the block."""
    line = core.mailboxes.line(run, topic)
    mine = Line(line)
    line.append(mine)
    channel = channel_of(run.id)
    core.hub.subscribe(channel, mine)
    try:
        yield mine
    finally:
        core.hub.unsubscribe(channel, mine)
        line.remove(mine)
        if line:
            core.hub.signal(channel)

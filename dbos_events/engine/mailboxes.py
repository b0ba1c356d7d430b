"""Whose turn it is to receive: one call of a topic at a time, in the order of the calls."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
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


@contextmanager
def waits_for_turn(core: Core, run: Run, topic: str | None) -> Iterator[Callable[[], bool]]:
    """Stand in line for a topic within the block; gives what tells whether it is the caller's turn."""
    line = core.mailboxes.line(run, topic)
    mine = object()
    line.append(mine)
    try:
        yield lambda: bool(line) and line[0] is mine
    finally:
        line.remove(mine)
        if line:
            core.hub.signal(channel_of(run.id))

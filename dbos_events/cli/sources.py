"""Lines of `status` for consumers and processes that have no partition."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from dbos_events.cli import pausing

if TYPE_CHECKING:
    from dbos_events.model.consumer import ConsumerState, SourceRow

UNCOUNTED = (None,) * 10
IN_TROUBLE = ("connecting", "waiting", "no process")
"""What is shown before a pause: it would stand in the way when the pause has ended, too."""
NO_PROCESS = "no live process has this consumer"


def source_fields(row: SourceRow, keys: Iterable[str]) -> dict[str, Any]:
    """One process as `--json` prints it, with the keys of a partition."""
    known = {
        "application": row.application,
        "consumer": row.consumer,
        "group": row.group,
        "topic": _topics(row),
        "holder": row.process,
        "holder_alive": row.process is not None,
        "holder_pid": row.pid,
        "state": _state(row),
        "detail": _detail(row),
    }
    return {key: known.get(key) for key in keys}


def source_cells(row: SourceRow, consumer: ConsumerState | None) -> tuple[object, ...]:
    """One process as a line of the table."""
    stands = None if _state(row) in IN_TROUBLE else pausing.shown_state(consumer)
    state, detail = stands or (_state(row), _detail(row))
    holder = None if row.process is None else f"{row.process}:{row.pid}"
    return (row.consumer, row.group, _topics(row), None, state, holder, *UNCOUNTED, detail)


def _topics(row: SourceRow) -> str:
    return ", ".join(row.topics)


def _state(row: SourceRow) -> str | None:
    return "no process" if row.process is None else row.state


def _detail(row: SourceRow) -> str | None:
    return NO_PROCESS if row.process is None else row.detail

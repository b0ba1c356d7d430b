"""Time limits of waits, which listings of steps show as DBOS Transact does: each as a step of its own."""

from __future__ import annotations

from collections.abc import Sequence

from dbos_events.storage.writes import Checkpoint

RECV = "DBOS.recv"
LIMITED = (RECV, "DBOS.getEvent")
"""Calls that take two step numbers: their own, and the next one for the end of their wait."""

LIMIT = "DBOS.sleep"


def with_time_limits(entries: Sequence[Checkpoint]) -> list[Checkpoint]:
    """The steps of a workflow, by number, with the time limit behind each call that has one.

    `get_event` records its limit as a step where it has to wait. `recv` notes it beside the call, under the negative of
    its number, since that costs no transaction. Where nothing was waited for nothing is recorded, and the limit is
    shown without its time.
    """
    steps = {entry.step: entry for entry in entries if entry.step > 0}
    noted = {-entry.step: entry for entry in entries if entry.step < 0 and entry.name == RECV}
    called = {number: entry for number, entry in steps.items() if entry.name in LIMITED}
    for number, entry in {**called, **noted}.items():
        if number + 1 not in steps:
            steps[number + 1] = _limit(number + 1, entry, noted.get(number))
    return [steps[number] for number in sorted(steps)]


def _limit(number: int, call: Checkpoint, note: Checkpoint | None) -> Checkpoint:
    return Checkpoint(
        number,
        f"{call.call}~",
        LIMIT,
        call.completion_order,
        output=None if note is None else note.output,
        started_at=call.started_at,
        completed_at=call.started_at,
    )

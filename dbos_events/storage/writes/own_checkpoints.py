"""Checkpoints that are written together with the success of their run: they go into the workflow's row.

Most events end in the batch in which their last steps are written. A row of `checkpoints` for each of them would cost
PostgreSQL as much as the outcome does (docs/storage.md). What has succeeded is not replayed, so these need not be found
by step; the view `steps` shows them beside the others.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import chain
from json.encoder import encode_basestring
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

from dbos_events.model.workflow import SUCCESS
from dbos_events.storage.writes.outcome import Ended, Outcome

if TYPE_CHECKING:
    from dbos_events.storage.writes.checkpoint import Numbered
    from dbos_events.storage.writes.write import Checkpoint, Write

MOST_CHARACTERS = 1000
"""What one workflow's row takes: well below the 2 KB above which PostgreSQL stores a row in pieces."""

RunToken: TypeAlias = tuple[str, int]
"""Workflow and take."""


class Parted(NamedTuple):
    """A batch, parted into what is written where.

    `riders` are the checkpoints that go with an outcome, by the number of that. `others` have a change that is not an
    outcome. `is_plain` where no write asks for more than its checkpoint and its change, and each outcome fits the function
    for plain batches. `ends_children` where a parent may wait for one of them.
    """

    checkpoints: list[Numbered]
    ended: list[Ended]
    riders: dict[int, list[Numbered]]
    others: list[Write]
    is_plain: bool
    ends_children: bool


def part(writes: Sequence[Write]) -> Parted:
    """Part a batch, in one pass, since it is done for every event. It comes out the same when it is written again."""
    entries: dict[RunToken, list[Numbered]] = {}
    outcomes: list[tuple[int, Write, Outcome]] = []
    others: list[Write] = []
    apart: set[RunToken] = set()
    is_plain, ends_children = True, False
    for number, write in enumerate(writes):
        change = write.change
        if write.checkpoint is not None:
            entries.setdefault((write.workflow_id, write.take), []).append((number, write, write.checkpoint))
        if write.shielded or write.reset_crashes:
            is_plain = False
            if write.shielded:
                apart.add((write.workflow_id, write.take))  # written also where the outcome is refused
        if change is None:
            continue
        if isinstance(change, Outcome):
            outcomes.append((number, write, change))
        else:
            others.append(write)
            apart.add((write.workflow_id, write.take))  # written only if no checkpoint was refused
    riders = {}
    ended = []
    for number, write, outcome in outcomes:
        is_plain = is_plain and outcome.fits_one_call
        ends_children = ends_children or bool(outcome.parent_id)
        run = write.workflow_id, write.take
        text = None
        if outcome.status == SUCCESS and run in entries and run not in apart:
            text = _together(entries[run])
            if text is not None:
                riders[number] = entries.pop(run)
        ended.append(Ended(number, write, outcome, text))
    checkpoints = list(chain.from_iterable(entries.values()))
    return Parted(checkpoints, ended, riders, others, is_plain, ends_children)


def _together(own: Iterable[Numbered]) -> str | None:
    """The text of what goes into the row; None where it is too much for one, or PostgreSQL does not take it."""
    rows = []
    for _, _, entry in own:
        if len(entry.output or "") + len(entry.error or "") > MOST_CHARACTERS:
            return None
        rows.append(_row(entry))
    text = f"[{','.join(rows)}]"
    # A NUL is refused where it stands apart; here nobody would notice before it is read.
    return text if len(text) <= MOST_CHARACTERS and "\\u0000" not in text else None


def _row(entry: Checkpoint) -> str:
    """In JSON, in a fifth of the time that `json.dumps` takes for so little. The view `steps` reads it by position."""
    text = encode_basestring
    return (
        f"[{entry.step},{text(entry.call)},{text(entry.name)},{entry.completion_order},"
        f"{'null' if entry.arguments is None else text(entry.arguments)},"
        f"{'null' if entry.codec is None else text(entry.codec)},"
        f"{'null' if entry.output is None else text(entry.output)},"
        f"{'null' if entry.error is None else text(entry.error)},"
        f"{'null' if entry.child_id is None else text(entry.child_id)},"
        f"{'null' if entry.started_at is None else entry.started_at},"
        f"{'null' if entry.completed_at is None else entry.completed_at},{entry.write_id}]"
    )

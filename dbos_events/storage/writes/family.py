"""The closed family of what a run may write, and the order in which a batch is written.

A new member is one file of this folder: the change as a run hands it over (a `Change`), and how it is written (a
`Member`). It is registered here, in its place in the order. Until its change says `fits_one_call`, a batch that has
one is written statement by statement.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from dbos_events.storage.writes.checkpoint import Checkpoints, CrashResets
from dbos_events.storage.writes.consume import Consume, Consumes
from dbos_events.storage.writes.debounce import Bounce, Bounces
from dbos_events.storage.writes.match import Anchors, Match, Matches, Register, Registers
from dbos_events.storage.writes.member import Batch, Member
from dbos_events.storage.writes.outcome import Outcome, Outcomes, of_children, with_result
from dbos_events.storage.writes.own_checkpoints import Parted, part
from dbos_events.storage.writes.park import Park, Parks
from dbos_events.storage.writes.publish import Publish, Publishes
from dbos_events.storage.writes.publishing import Publishers, shown_records
from dbos_events.storage.writes.retry import NextAttempt, Retries
from dbos_events.storage.writes.send import Send, Sends, placed, waiters
from dbos_events.storage.writes.start import NewWorkflow, Starts
from dbos_events.storage.writes.stream import SettledEntries, SettleEntries, StreamEntries, StreamEntry
from dbos_events.storage.writes.value import SetValue, Values

if TYPE_CHECKING:
    from dbos_events.storage.database import Tx
    from dbos_events.storage.writes.answers import Result
    from dbos_events.storage.writes.write import Change, Write

CHANGES: tuple[type[Change], ...] = (
    NewWorkflow, Bounce, Register, Match, Publish, Send, Consume, SetValue, StreamEntry, SettleEntries, Outcome,
    NextAttempt, Park,
)  # fmt: skip
"""All kinds of changes."""


def members(parted: Parted) -> tuple[Member, ...]:
    """In the order of a batch: a park comes last, because the workflow has no owner after it."""
    return (
        Anchors(), Publishers(), Checkpoints(parted.checkpoints), CrashResets(), Starts(), Bounces(), Registers(),
        Matches(), Publishes(), Sends(), Consumes(), Values(), StreamEntries(), SettledEntries(), Outcomes(parted),
        Retries(), Parks(),
    )  # fmt: skip


def write_in_turn(tx: Tx, executor: int, writes: Sequence[Write]) -> list[Result]:
    """Write a batch statement by statement, inside the transaction that holds the fence; answers in order."""
    batch = Batch(tx, executor, writes)
    for member in members(part(writes)):
        member.write(batch)
    return batch.results


def fit_one_call(writes: Sequence[Write]) -> bool:
    """Whether there are only checkpoints, and changes that one function for plain batches writes whole."""
    plain = all(
        not (write.reset_crashes or write.shielded) and (write.change is None or write.change.fits_one_call)
        for write in writes
    )
    kinds = _kinds(writes)
    apart = (_talk(kinds), _show(kinds), _concern_children(kinds, writes))  # each has a function of its own
    return plain and sum(apart) <= 1


_TALK = frozenset((Send, Consume))
_SHOWN = frozenset((SetValue, StreamEntry, SettleEntries, Publish))


def _kinds(writes: Sequence[Write]) -> set[type]:
    return {type(write.change) for write in writes}


def _talk(kinds: set[type]) -> bool:
    return not _TALK.isdisjoint(kinds)


def _show(kinds: set[type]) -> bool:
    return not _SHOWN.isdisjoint(kinds)


def _concern_children(kinds: set[type], writes: Sequence[Write]) -> bool:
    return NewWorkflow in kinds or (
        Outcome in kinds
        and any(isinstance(write.change, Outcome) and write.change.parent_id for write in writes)
    )


def plain_records(writes: Sequence[Write]) -> dict[str, list[tuple[object, ...]]]:
    """Of a batch that fits one call: for each statement, the records that its rows are made of."""
    parted = part(writes)
    kinds = _kinds(writes)
    more: dict[str, list[tuple[object, ...]]] = {}
    if _talk(kinds):
        messages = [
            one for write in writes if isinstance(write.change, Send) for one in write.change.messages
        ]
        more = {
            "insert_messages": [*placed(messages)],
            "wake_waiting": [*waiters(messages)],
            "consume_messages": [
                (write, write.change, write.checkpoint)
                for write in writes
                if isinstance(write.change, Consume)
            ],
        }
    elif _show(kinds):
        more = shown_records(writes)
    elif _concern_children(kinds, writes):
        more = {
            "starts": [(write.change,) for write in writes if isinstance(write.change, NewWorkflow)],
            "wake_parents": of_children(parted.ended),
        }
    return more | {
        "insert_checkpoints": [(write, entry) for _, write, entry in parted.checkpoints],
        "update_outcomes": [(end.write, end.outcome, end) for end in parted.ended],
        "insert_results": with_result(parted.ended),
    }

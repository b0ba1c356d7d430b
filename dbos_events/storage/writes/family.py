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
from dbos_events.storage.writes.retry import NextAttempt, Retries
from dbos_events.storage.writes.send import Send, Sends, placed, waiters
from dbos_events.storage.writes.start import NewWorkflow, Starts
from dbos_events.storage.writes.stream import SettledEntries, SettleEntries, StreamEntries, StreamEntry
from dbos_events.storage.writes.value import SetValue, SetValues
from dbos_events.storage.writes.values_and_streams import WriterLocks, shown_records

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
        Anchors(), WriterLocks(), Checkpoints(parted.checkpoints), CrashResets(), Starts(), Bounces(), Registers(),
        Matches(), Publishes(), Sends(), Consumes(), SetValues(), StreamEntries(), SettledEntries(),
        Outcomes(parted.ended, parted.riders), Retries(), Parks(),
    )  # fmt: skip


def write_in_turn(tx: Tx, executor: int, writes: Sequence[Write]) -> list[Result]:
    """Write a batch statement by statement, inside the transaction that holds the fence; answers in order."""
    batch = Batch(tx, executor, writes)
    for member in members(part(writes)):
        member.write(batch)
    return batch.results


def fits_one_call(parted: Parted) -> bool:
    """Whether there are only checkpoints, and changes that one function for plain batches writes whole."""
    others = parted.others
    if not parted.is_plain or not others:
        return parted.is_plain
    plain = all(write.change is not None and write.change.fits_one_call for write in others)
    apart = (_talks(others), _shows(others), _concerns_children(parted))  # each has a function of its own
    return plain and sum(apart) <= 1


def _talks(others: Sequence[Write]) -> bool:
    return any(isinstance(write.change, (Send, Consume)) for write in others)


def _shows(others: Sequence[Write]) -> bool:
    shown = (SetValue, StreamEntry, SettleEntries, Publish)
    return any(isinstance(write.change, shown) for write in others)


def _concerns_children(parted: Parted) -> bool:
    return parted.ends_children or any(isinstance(write.change, NewWorkflow) for write in parted.others)


def plain_records(parted: Parted) -> dict[str, list[tuple[object, ...]]]:
    """Of a batch that fits one call: for each statement, the records that its rows are made of."""
    more: dict[str, list[tuple[object, ...]]] = {}
    if parted.others:
        more = shown_records(parted.others) if _shows(parted.others) else _talk_records(parted.others)
    if _concerns_children(parted):
        more = {
            "starts": [(write.change,) for write in parted.others if isinstance(write.change, NewWorkflow)],
            "wake_parents": of_children(parted.ended),
        }
    return more | {
        "insert_checkpoints": [(write, entry) for _, write, entry in parted.checkpoints],
        "update_outcomes": [(end.write, end.outcome, end) for end in parted.ended],
        "insert_results": with_result(parted.ended),
    }


def _talk_records(others: Sequence[Write]) -> dict[str, list[tuple[object, ...]]]:
    messages = [one for write in others if isinstance(write.change, Send) for one in write.change.messages]
    consumed = [
        (write, write.change, write.checkpoint) for write in others if isinstance(write.change, Consume)
    ]
    if not messages and not consumed:
        return {}
    return {
        "insert_messages": [*placed(messages)],
        "wake_waiting": [*waiters(messages)],
        "consume_messages": [*consumed],
    }

"""A wait for publications: its registration, and the write that decides what it gets."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from dbos_events.model.dataclass import dataclass
from dbos_events.storage.shapes import named
from dbos_events.storage.writes.answers import Gone
from dbos_events.storage.writes.publish import Anchor, Publish, anchor_key, hold_anchors
from dbos_events.storage.writes.send import withdraw
from dbos_events.storage.writes.waiting import wake
from dbos_events.storage.writes.write import Change

if TYPE_CHECKING:
    from dbos_events.storage.database import Tx
    from dbos_events.storage.writes.member import Batch
    from dbos_events.storage.writes.write import Write


@dataclass(frozen=True, slots=True)
class Awaited:
    """One anchor that a call waits on. `takes`: what it gets nobody else gets; `since`: what its workflow saw last."""

    at: Anchor
    takes: bool = False
    since: int = 0


class Found(NamedTuple):
    """What a wait gets: its place among those of its call, and the publication."""

    place: int
    number: int
    codec: str | None
    value: str | None


@dataclass(slots=True)
class Register(Change):
    """Stand in line at these anchors; the step is that of the call."""

    step: int
    awaited: tuple[Awaited, ...]


@dataclass(slots=True)
class Match(Change):
    """End a wait: with these publications by the places of its anchors, or with none. Its other places are given up."""

    awaited: tuple[Awaited, ...]
    found: tuple[tuple[int, int], ...] = ()


class Anchors:
    """Locks all anchors of a batch, before any workflow's row is locked (docs/protocol.md, the order of locks)."""

    def write(self, batch: Batch) -> None:
        found = [one.at for _, _, change in batch.changes(Register) for one in change.awaited]
        found += [one.at for _, _, change in batch.changes(Match) for one in change.awaited]
        found += [one.at for _, _, change in batch.changes(Publish) for one in change.publications]
        hold_anchors(batch.tx, found)


class Registers:
    """Registers waits under the locks of their anchors, so that their numbers are in the order of the commits."""

    def write(self, batch: Batch) -> None:
        registers = batch.changes(Register)
        rows = [
            (one.at.id, write.workflow_id, change.step, one.takes)
            for _, write, change in registers
            for one in change.awaited
        ]
        batch.tx.change("insert_waits", named(rows, "anchor", "workflow_id", "step", "takes"))


class Matches:
    """Decides waits one after the other, each under the locks of its anchors.

    Where somebody else got what this call was to take, nothing of its write is kept, and its answer says so.
    """

    def write(self, batch: Batch) -> None:
        for number, write, match in batch.changes(Match):
            if not self._settle(batch.tx, write, match, is_repeated=number in batch.repeated):
                batch.results[number] = Gone()
                withdraw(batch, write)

    def _settle(self, tx: Tx, write: Write, match: Match, *, is_repeated: bool) -> bool:
        assert write.checkpoint is not None  # noqa: S101
        step = write.checkpoint.step
        takes = [(place, number) for place, number in match.found if match.awaited[place].takes]
        if takes and not _ours(tx, write, step, match) >= set(takes):
            taken = [number for _, number in takes]
            if not _taken_before(tx, write, step, taken):
                return False
        for statement, chosen in (
            ("take_publications", takes),
            ("see_publications", [one for one in match.found if one not in takes and not is_repeated]),
        ):
            rows = [(write.workflow_id, step, number) for _, number in chosen]
            tx.change(statement, named(rows, "workflow_id", "step", "publication"))
        tx.change("delete_waits", [{"workflow_id": write.workflow_id, "step": step}])
        # One that stood behind this wait and was kept waiting for its sake may be next.
        wake(tx, [anchor_key(one.at.id) for one in match.awaited if one.takes])
        return True


def next_of(tx: Tx, workflow_id: str, step: int, awaited: Sequence[Awaited]) -> list[Found]:
    """What each place of a wait would get now; none for those that get nothing."""
    rows = [(place, one.at.id, one.since, one.takes, workflow_id, step) for place, one in enumerate(awaited)]
    names = ("place", "anchor", "since", "takes", "waiter", "step")
    return [Found(*row) for row in tx.batch("next_publications", named(rows, *names))]


def _ours(tx: Tx, write: Write, step: int, match: Match) -> set[tuple[int, int]]:
    return {(one.place, one.number) for one in next_of(tx, write.workflow_id, step, match.awaited)}


def _taken_before(tx: Tx, write: Write, step: int, numbers: Sequence[int]) -> bool:
    """Whether all of them are this call's already, by a commit whose answer was lost."""
    rows = tx.run("read_taken_publications", ids=numbers)
    mine = {row.number for row in rows if (row.taken_by, row.taken_step) == (write.workflow_id, step)}
    return mine >= set(numbers)


def give_back(tx: Tx, cut: Sequence[dict[str, object]], fresh: Sequence[str] = ()) -> None:
    """What these calls took is open again, and whoever waits for it looks."""
    anchors = {row.anchor for row in tx.batch("return_publications", cut)}
    if fresh:
        anchors |= {row.anchor for row in tx.run("return_all_publications", ids=fresh)}
    if anchors:
        tx.run("lock_anchors", ids=sorted(anchors))
        wake(tx, [anchor_key(anchor) for anchor in sorted(anchors)])

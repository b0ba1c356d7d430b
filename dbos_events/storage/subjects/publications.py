"""Publications and waits, beside the runs that publish and wait (docs/protocol.md, rule 19)."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import NamedTuple, Protocol

from dbos_events.errors import DBOSException
from dbos_events.model.publication import UnmatchedPublication, UnmatchedWait
from dbos_events.model.workflow import ENQUEUED
from dbos_events.storage.apart import Apart
from dbos_events.storage.database import Database, Row, Tx
from dbos_events.storage.narrow import Narrow, take_apart
from dbos_events.storage.shapes import records
from dbos_events.storage.subjects.executors import fence
from dbos_events.storage.subjects.messages import hold_owned
from dbos_events.storage.subjects.quarantine import OperatorDecision
from dbos_events.storage.writes.match import Awaited, Found, give_back, next_of
from dbos_events.storage.writes.publish import Anchor, NewPublication, anchor_key, hold_anchors, publish
from dbos_events.storage.writes.send import Owner
from dbos_events.storage.writes.start import NewWorkflow
from dbos_events.storage.writes.waiting import wake


class Expired(NamedTuple):
    """How many publications have ended, how many of them nobody had seen, and how many workflows were started for these."""

    ended: int
    unseen: int
    handled: int


class Publications(Protocol):
    """What is asked outside of the writes of runs. `apart` are those that cannot be ended now."""

    apart: Apart

    def publish(self, publications: Sequence[NewPublication], publisher: Owner | None = None) -> None:
        """Publish, and wake who waits; a publisher that is given must own its workflow.

        Safe to repeat after a lost commit answer.
        """
        ...

    def next_of(self, workflow_id: str, step: int, awaited: Sequence[Awaited]) -> list[Found]:
        """What each place of a wait would get now."""
        ...

    def give_back(self, owner: Owner, steps: Sequence[int]) -> None:
        """What these calls of a run took is open again."""
        ...

    def expire(self, executor: int, count: int) -> Expired:
        """End up to `count` publications whose time is over, and start what is to be done for those that nobody saw.

        What is started has no owner, and is there exactly if its publication has expired: both are one transaction.
        """
        ...

    def next_expiry(self) -> int | None:
        """Milliseconds until the next one is over."""
        ...

    def forget_waits(self) -> int:
        """Remove the waits of workflows that have ended."""
        ...

    def unmatched(
        self, application: str | None, name: str | None, count: int
    ) -> tuple[list[UnmatchedPublication], list[UnmatchedWait]]:
        """What found no partner, on either side, oldest first."""
        ...

    def counts(self, application: str | None) -> dict[str, dict[str, int]]:
        """By name, how many publications are in which state."""
        ...

    def discard(self, number: int, decision: OperatorDecision) -> bool:
        """Give a publication up; whether it was open or expired."""
        ...

    def force(
        self, number: int, key: str | None, ttl_ms: int | None, decision: OperatorDecision
    ) -> str | None:
        """Open a publication again, under another key where one is given, and wake who waits there.

        Gives the id of its anchor; None where it was neither open nor expired nor discarded.
        """
        ...


class PublicationTable:
    """Publications over a database."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self.apart = Apart("publication", "`dbos-events match unmatched` lists publications", database.clock)

    def publish(self, publications: Sequence[NewPublication], publisher: Owner | None = None) -> None:
        def work(tx: Tx) -> None:
            if publisher is not None:
                fence(tx, publisher.executor)
                hold_owned(tx, publisher)
            publish(tx, publications)

        self._database.transact(work)

    def next_of(self, workflow_id: str, step: int, awaited: Sequence[Awaited]) -> list[Found]:
        return self._database.transact(lambda tx: next_of(tx, workflow_id, step, awaited))

    def give_back(self, owner: Owner, steps: Sequence[int]) -> None:
        rows: list[dict[str, object]] = [
            {"workflow_id": owner.workflow_id, "generation": 0, "step": step} for step in steps
        ]

        def work(tx: Tx) -> None:
            fence(tx, owner.executor)
            hold_owned(tx, owner)
            give_back(tx, rows)

        self._database.transact(work)

    def expire(self, executor: int, count: int) -> Expired:
        def work(tx: Tx, narrow: Narrow) -> Sequence[Row]:
            room = count + len(narrow.lists.get("apart", ()))  # those may be the first ones
            anchors = sorted(row.id for row in tx.run("due_anchors", count=room))
            if anchors:
                tx.run("lock_anchors", ids=anchors)
            rows = narrow.run(tx, "expire_publications", count=count, anchors=anchors)
            if narrow.takes:
                _start_handlers(tx, executor, [row for row in rows if is_handled(row)])
            return rows

        def run(narrow: Narrow) -> Sequence[Row]:
            return self._database.transact(lambda tx: work(tx, narrow))

        def choose(narrow: Narrow) -> list[str]:
            return [row.id for row in run(narrow)]

        found = take_apart(self._database, "ending publications", run, choose, self.apart)
        rows = [row for some in found for row in some]
        unseen = sum(row.outcome == "expired" for row in rows)
        return Expired(len(rows), unseen, sum(is_handled(row) for row in rows))

    def next_expiry(self) -> int | None:
        row = self._database.transact(lambda tx: tx.one("next_expiry"))
        return None if row is None or row.milliseconds is None else int(row.milliseconds)

    def forget_waits(self) -> int:
        return self._database.transact(lambda tx: len(tx.run("delete_dead_waits")))

    def unmatched(
        self, application: str | None, name: str | None, count: int
    ) -> tuple[list[UnmatchedPublication], list[UnmatchedWait]]:
        criteria = {"application": application, "name": name, "count": count}

        def work(tx: Tx) -> tuple[Sequence[Row], Sequence[Row]]:
            return tx.run("list_unmatched_publications", **criteria), tx.run(
                "list_unmatched_waits", **criteria
            )

        publications, waits = self._database.transact(work)
        return records(UnmatchedPublication, publications), records(UnmatchedWait, waits)

    def counts(self, application: str | None) -> dict[str, dict[str, int]]:
        found: dict[str, dict[str, int]] = {}
        for row in self._database.transact(lambda tx: tx.run("count_publications", application=application)):
            found.setdefault(row.name, {})[row.state] = row.publications
        return found

    def discard(self, number: int, decision: OperatorDecision) -> bool:
        def work(tx: Tx) -> bool:
            row = _publication(tx, number)
            tx.run("lock_anchors", ids=[row.anchor])
            if not tx.run("discard_publication", number=number):
                return False
            _note(tx, "discard-publication", row, decision)
            return True

        return self._database.transact(work)

    def force(
        self, number: int, key: str | None, ttl_ms: int | None, decision: OperatorDecision
    ) -> str | None:
        def work(tx: Tx) -> str | None:
            row = _publication(tx, number)
            old = Anchor(row.application, row.name, row.key)
            new = old if key is None else Anchor(row.application, row.name, key)
            hold_anchors(tx, [old, new])
            if not tx.run("force_publication", number=number, anchor=new.id, ttl_ms=ttl_ms):
                return None
            wake(tx, [anchor_key(new.id)])
            _note(tx, "force-publication", row, decision)
            return new.id

        return self._database.transact(work)


def _publication(tx: Tx, number: int) -> Row:
    row = tx.one("read_publication", number=number)
    if row is None:
        raise DBOSException(
            f"There is no publication {number}. `dbos-events match unmatched` lists those that found nobody."
        )
    return row


def _note(tx: Tx, kind: str, row: Row, decision: OperatorDecision) -> None:
    tx.change(
        "insert_decisions",
        [{"workflow_id": f"publication/{row.name}/{row.key}/{row.number}", "generation": 0}],
        decision=kind,
        reason=decision.reason,
        details=json.dumps(decision.details),
        decided_by=decision.by,
    )


def is_handled(row: Row) -> bool:
    """Whether a workflow is started for a publication that has ended so."""
    return row.outcome == "expired" and row.on_expired is not None


def _start_handlers(tx: Tx, executor: int, rows: Sequence[Row]) -> None:
    """Start the workflows of publications that have expired; one that is opened again may expire again."""
    if not rows:
        return
    anchors = sorted({row.anchor for row in rows})
    applications = {row.id: row.application for row in tx.run("read_anchor_applications", ids=anchors)}
    starts = [
        (
            NewWorkflow(
                id=f"publication/{row.number}/expired/{row.expires_at}",
                name=row.on_expired,
                application=applications[row.anchor],
                start_id=int(row.number),
                status=ENQUEUED,
                version=None,
                codec=row.codec,
                input=row.on_expired_input,
            ),
        )
        for row in rows
    ]
    tx.change("insert_starts", tx.rows("insert_starts", starts), executor=executor)
    tx.change("insert_start_payloads", tx.rows("insert_start_payloads", starts))

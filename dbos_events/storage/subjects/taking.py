"""Taking ownership: adoption from the dead, wake-ups, claims from queues."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from itertools import chain
from typing import NamedTuple, Protocol, TypeVar

from dbos_events.clock import elapsed_ns
from dbos_events.model.dataclass import dataclass
from dbos_events.model.naming import parts_of_event_id
from dbos_events.storage.apart import halved
from dbos_events.storage.database import Database, Row, Tx
from dbos_events.storage.narrow import Narrow, take_apart, take_kinds
from dbos_events.storage.rollback import RollBack
from dbos_events.storage.shapes import named, records
from dbos_events.storage.subjects.executors import fence
from dbos_events.storage.writes.waiting import result_key, wake
from dbos_events.telemetry.log import logger

CRASHED_OUT = "max-recovery-attempts-exceeded"
"""The reason of events in quarantine whose processes crashed too often."""

T = TypeVar("T")


class Taker(NamedTuple):
    """An executor that takes work, and the functions that it may take.

    A started workflow of another version is taken only when no live process has that version, and with `waits` never.
    """

    executor: int
    application: str
    version: str
    names: Sequence[str]
    waits: bool = False


@dataclass(frozen=True, slots=True)
class TakenWorkflow:
    """A workflow that this executor has just become the owner of, with what it needs to run it."""

    id: str
    name: str
    take: int
    generation: int
    crashes: int
    codec: str | None
    input: str | None
    queue: str | None
    parent_id: str | None
    root_id: str | None
    consumer: int | None
    partition: int | None
    position: int | None
    lane: str | None
    attempt: int = 0
    deadline: int | None = None
    queue_partition_key: str | None = None


class Takings(Protocol):
    """Becoming the owner of workflows that wait or were left, and giving back what is in doubt (protocol 2)."""

    def adopt(self, taker: Taker, limits: Mapping[str, int | None], count: int) -> list[TakenWorkflow]:
        """Take unordered running workflows of dead executors; the taker's functions only.

        Those that crashed more often than `limits` allows are ended and not given back.
        """
        ...

    def wake_due(self, taker: Taker, count: int) -> list[TakenWorkflow]:
        """Take parked workflows whose time has come; those of a queue go back to it instead.

        One of another version is left to a live process of that version, if there is one.
        """
        ...

    def next_wake(self, application: str) -> int | None:
        """Milliseconds until the next parked workflow is due; None when none is parked with a time."""
        ...

    def lost(self, executor: int, known: Collection[str]) -> list[TakenWorkflow]:
        """What the executor has adopted, claimed or woken, but for the ids that it knows of."""
        ...

    def owned(self, executor: int) -> dict[str, int]:
        """The take of each workflow that the executor owns by the database, however it came to own it."""
        ...

    def give_back(self, executor: int, takes: Sequence[tuple[str, int]]) -> list[str]:
        """Own these (id, take) no more, without having run them: they wait as before; gives the ids that were changed.

        What the executor wrote of them before is in their history for whoever takes them next.
        """
        ...


class TakingTable:
    """All that makes this executor the owner of workflows that it did not start."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def adopt(self, taker: Taker, limits: Mapping[str, int | None], count: int) -> list[TakenWorkflow]:
        crashed: set[str] = set()

        def run(tx: Tx, narrow: Narrow) -> Sequence[Row]:
            return narrow.run(tx, "adopt_from_dead", **taker._asdict(), count=count)

        def attempt(narrow: Narrow) -> list[TakenWorkflow]:
            over: set[str] = set()

            def work(tx: Tx) -> list[TakenWorkflow]:
                nonlocal over
                fence(tx, taker.executor)
                taken = _taken(tx, run(tx, narrow))
                over = {row.id for row in taken if _crashed_too_often(row, limits)}
                end_crashed(tx, sorted(over))
                return [row for row in taken if row.id not in over]

            found = when_taken(self._database, work) or []
            crashed.update(over)
            return found

        found = take_apart(
            self._database, "taking up what the dead ran", attempt, lambda narrow: self._chosen(run, narrow)
        )
        say_crashed_out(sorted(crashed))
        return list(chain.from_iterable(found))

    def _chosen(self, run: Callable[[Tx, Narrow], Sequence[Row]], narrow: Narrow) -> list[str]:
        return self._database.transact(lambda tx: [row.id for row in run(tx, narrow)])

    def wake_due(self, taker: Taker, count: int) -> list[TakenWorkflow]:
        place = {"application": taker.application}
        due: dict[str, Callable[[Tx, Narrow], Sequence[Row]]] = {
            "requeue_due": lambda tx, narrow: narrow.run(tx, "requeue_due", **place),
            "ready_due_lanes": lambda tx, narrow: narrow.run(tx, "ready_due_lanes", **place),
            "take_due": lambda tx, narrow: narrow.run(tx, "take_due", **taker._asdict(), count=count),
        }

        def attempt(kinds: Sequence[str], narrow: Narrow) -> list[TakenWorkflow]:
            def work(tx: Tx) -> list[TakenWorkflow]:
                fence(tx, taker.executor)
                found = {kind: [row.id for row in due[kind](tx, narrow)] for kind in kinds}
                woken = [id_ for ids in found.values() for id_ in ids]
                if woken:
                    tx.run("forget_parked_keys", ids=woken)
                return read_taken(tx, found.get("take_due", []))

            return self._database.transact(work)

        def choose(kind: str, narrow: Narrow) -> list[str]:
            return self._chosen(due[kind], narrow)

        return list(chain.from_iterable(take_kinds(self._database, list(due), attempt, choose)))

    def next_wake(self, application: str) -> int | None:
        def work(tx: Tx) -> int | None:
            asked = elapsed_ns()
            row = tx.run("next_wake", application=application)[0]
            self._database.told_time(row.now, asked)  # before what is due is taken and looks at the time
            return None if row.milliseconds is None else int(row.milliseconds)

        return self._database.transact(work)

    def lost(self, executor: int, known: Collection[str]) -> list[TakenWorkflow]:
        owned = self._database.transact(lambda tx: tx.run("owned_takings", executor=executor))
        lost = [row.id for row in owned if row.id not in known]
        if not lost:
            return []
        # What cannot be read stays with this executor, until the watch over what it owns gives it back.
        found, refused = halved(lost, lambda ids: self._database.transact(lambda tx: read_taken(tx, ids)))
        if refused and not found:
            raise refused[0][1]
        for id_, error in refused:
            self._database.apart.put(id_, error)
        return list(chain.from_iterable(found))

    def owned(self, executor: int) -> dict[str, int]:
        rows = self._database.transact(lambda tx: tx.run("owned_work", executor=executor))
        return {row.id: row.take for row in rows}

    def give_back(self, executor: int, takes: Sequence[tuple[str, int]]) -> list[str]:
        def give(some: Sequence[tuple[str, int]]) -> list[str]:
            def work(tx: Tx) -> list[str]:
                tx.run("lock_owners", ids=[id_ for id_, _ in some])
                rows = named(some, "workflow_id", "take")
                return [row.id for row in tx.batch("give_back", rows, executor=executor)]

            return self._database.transact(work)

        if not takes:
            return []
        found, refused = halved(takes, give)  # one that cannot be given back keeps none of the others here
        if refused and not found:
            raise refused[0][1]
        for (id_, _), error in refused:
            self._database.apart.put(id_, error)
        return list(chain.from_iterable(found))


def when_taken(database: Database, work: Callable[[Tx], T]) -> T | None:
    """As `transact`; nothing is committed, and None given, when nothing was taken.

    The fence alone is a change to the database: a commit would wait for the disk each time that somebody looks.
    """
    try:
        return database.transact(work)
    except NothingTaken:
        return None


class NothingTaken(RollBack):
    """Rolls a transaction back that found nothing to take."""


def _taken(tx: Tx, rows: Sequence[Row]) -> list[TakenWorkflow]:
    if not rows:
        raise NothingTaken
    return read_taken(tx, [row.id for row in rows])


def read_taken(tx: Tx, ids: Sequence[str]) -> list[TakenWorkflow]:
    """What is needed to run these workflows, in the order in which they should start."""
    if not ids:
        return []
    return records(TakenWorkflow, tx.run("read_taken", ids=ids))


def end_crashed(tx: Tx, ids: Sequence[str]) -> None:
    """End workflows whose process crashed too often; events among them are put aside."""
    if not ids:
        return
    tx.run("end_crashed", ids=ids)
    tx.run("quarantine_ended", ids=ids, reason=CRASHED_OUT)
    wake(tx, [result_key(one) for one in ids])


def say_crashed_out(ids: Sequence[str]) -> None:
    """Log what `end_crashed` has ended, once that is committed."""
    for workflow_id in ids:
        event = parts_of_event_id(workflow_id)
        logger.error(
            "Workflow %s has ended: each process that took it up crashed, more often than its max_recovery_attempts "
            "allows. Find out what in it ends processes; `dbos-events workflow resume` lets it go on.",
            workflow_id,
            extra={"workflow_id": workflow_id, "reason": CRASHED_OUT, **(event or {})},
        )


def _crashed_too_often(row: TakenWorkflow, limits: Mapping[str, int | None]) -> bool:
    limit = limits.get(row.name)
    return limit is not None and row.crashes > limit

"""Queues: what is stored of them, and how their work is claimed (docs/protocol.md, rule 22)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

from dbos_events.model.dataclass import dataclass, replace
from dbos_events.model.queue import (
    OnConflict,
    PartitionCounts,
    QueueCounts,
    QueueLimits,
    QueueState,
)
from dbos_events.storage.database import Database, Row, Tx
from dbos_events.storage.narrow import Narrow, take_apart
from dbos_events.storage.shapes import records
from dbos_events.storage.subjects.claiming import Claiming, named_keys
from dbos_events.storage.subjects.executors import fence
from dbos_events.storage.subjects.queuesettings import find, locked, replaces, revision, save, state
from dbos_events.storage.subjects.taking import NothingTaken, TakenWorkflow, Taker, read_taken, when_taken

RESUMED = QueueState("", "", QueueLimits(), revision=0)
"""Stands for what waits without a queue."""


@dataclass(frozen=True, slots=True)
class Claim:
    """What a claim gave.

    `changed` says that the queue has other settings than the caller thought: nothing was taken. `after` is the partition
    to go on from, `wait_ms` how long a rate limit lets nothing more through.
    """

    rows: Sequence[TakenWorkflow] = ()
    changed: bool = False
    after: str = ""
    wait_ms: int | None = None

    def with_rows(self, rows: Sequence[TakenWorkflow]) -> Claim:
        """The same with these rows."""
        return replace(self, rows=rows)


class WaitingWorkflow(NamedTuple):
    """All that decides when a workflow runs; `now` is the database's clock."""

    id: str
    application: str
    name: str
    status: str
    owner: int | None
    queue: str | None
    queue_partition_key: str | None
    priority: int
    created_at: int
    delay_until: int | None
    version: str | None
    version_pinned: bool | None
    take: int
    lane_open: bool | None
    held: bool | None
    wake_at: int | None
    awaits: str | None
    deduplication_id: str | None
    now: int


class Queues(Protocol):
    """Settings of queues, and claims of what waits on them."""

    def save_declared(
        self, application: str, queues: Mapping[str, QueueLimits], version: str | None = None
    ) -> None:
        """Store the queues that code declares; what was declared last counts. Who paused one is not asked."""
        ...

    def register(
        self, application: str, name: str, limits: QueueLimits, version: str | None, on_conflict: OnConflict
    ) -> QueueState:
        """Store a queue, or leave it as it is, as `on_conflict` says; gives what counts now."""
        ...

    def change(
        self, application: str, name: str, change: Callable[[QueueLimits], QueueLimits]
    ) -> QueueState | None:
        """Give a queue other settings; None when there is none. What `change` raises leaves it as it was."""
        ...

    def read(self, application: str | None) -> list[QueueState]:
        """The queues of an application, or all."""
        ...

    def get(self, application: str, name: str) -> QueueState | None:
        """One queue; None when there is none."""
        ...

    def delete(self, application: str, name: str) -> bool:
        """Forget a queue; what waits on it stays."""
        ...

    def pause(self, application: str, name: str, by: str, reason: str | None) -> bool:
        """Let nothing more be claimed of it; False when there is none."""
        ...

    def unpause(self, application: str, name: str) -> bool:
        """Let it be claimed again; False when it was not paused."""
        ...

    def claim(
        self,
        taker: Taker,
        queue: QueueState,
        count: int,
        *,
        busy: Mapping[str, int] | None = None,
        after: str = "",
    ) -> Claim:
        """Take at most `count` waiting workflows of a queue, by priority, then age, within its limits.

        `RESUMED` stands for what waits without a queue. `busy` says how many of each partition run in this process,
        `after` where the search through the partitions goes on.
        """
        ...

    def promote_due(self, application: str) -> list[str | None]:
        """Let what was delayed until now wait for its turn; gives the queues."""
        ...

    def set_delay(self, workflow_id: str, *, delay_ms: int | None, until: int | None) -> bool:
        """Move the time of a delayed workflow; False when it is not delayed (any more)."""
        ...

    def waiting(self, application: str, queue: str, count: int) -> list[str]:
        """Workflows that wait on a queue, the next ones first."""
        ...

    def counts(self, application: str, queue: str, up_to: int) -> QueueCounts:
        """What there is on a queue, each number up to a bound."""
        ...

    def partitions(self, application: str, queue: str, up_to: int, shown: int) -> list[PartitionCounts]:
        """The partitions in which most waits, among the first that wait."""
        ...

    def explain(self, workflow_id: str) -> WaitingWorkflow | None:
        """All that decides when a workflow runs; None when there is none."""
        ...

    def count_before(self, row: WaitingWorkflow, *, in_partition: bool, up_to: int) -> int:
        """How many go before it."""
        ...

    def room(self, state: QueueState, partition: str | None) -> tuple[Mapping[str, int], int | None]:
        """How much room each limit leaves now, by the limit's name; and how long a rate limit lets nothing through."""
        ...


class QueueTable:
    """Queues over SQL."""

    def __init__(self, database: Database) -> None:
        self._database = database

    # -- settings -----------------------------------------------------------------------------

    def save_declared(
        self, application: str, queues: Mapping[str, QueueLimits], version: str | None = None
    ) -> None:
        def work(tx: Tx) -> None:
            for name in sorted(queues):
                known = locked(tx, application, name)
                if known is None or known.limits != queues[name] or not known.declared:
                    save(tx, application, name, queues[name], version, declared=True)

        if queues:
            self._database.transact(work)

    def register(
        self, application: str, name: str, limits: QueueLimits, version: str | None, on_conflict: OnConflict
    ) -> QueueState:
        def work(tx: Tx) -> QueueState:
            place = {"application": application, "name": name}
            made = tx.run("insert_queue", **place, revision=revision(), declared=False)
            known = locked(tx, application, name)
            assert known is not None  # noqa: S101 - inserted, or there already
            if not made and not replaces(tx, known, version, on_conflict):
                return known
            if made or known.limits != limits:
                save(tx, application, name, limits, version, declared=known.declared)
            found = find(tx, application, name)
            assert found is not None  # noqa: S101 - written under its lock
            return found

        return self._database.transact(work)

    def change(
        self, application: str, name: str, change: Callable[[QueueLimits], QueueLimits]
    ) -> QueueState | None:
        def work(tx: Tx) -> QueueState | None:
            known = locked(tx, application, name)
            if known is None:
                return None
            limits = change(known.limits)
            if limits != known.limits:
                save(tx, application, name, limits, known.version, declared=known.declared)
            return find(tx, application, name)

        return self._database.transact(work)

    def read(self, application: str | None) -> list[QueueState]:
        rows = self._database.transact(lambda tx: tx.run("read_queues", application=application))
        return [state(row) for row in rows]

    def get(self, application: str, name: str) -> QueueState | None:
        return self._database.transact(lambda tx: find(tx, application, name))

    def delete(self, application: str, name: str) -> bool:
        return bool(
            self._database.transact(lambda tx: tx.run("delete_queue", application=application, name=name))
        )

    def pause(self, application: str, name: str, by: str, reason: str | None) -> bool:
        return self._touch("pause_queue", application, name, by=by, reason=reason)

    def unpause(self, application: str, name: str) -> bool:
        return self._touch("unpause_queue", application, name)

    def _touch(self, statement: str, application: str, name: str, **more: Any) -> bool:
        another = revision()
        rows = self._database.transact(
            lambda tx: tx.run(statement, application=application, name=name, revision=another, **more)
        )
        return bool(rows)

    # -- claims -------------------------------------------------------------------------------

    def claim(
        self,
        taker: Taker,
        queue: QueueState,
        count: int,
        *,
        busy: Mapping[str, int] | None = None,
        after: str = "",
    ) -> Claim:
        if queue.paused_at is not None or count <= 0:
            return Claim(after=after)

        def claiming(tx: Tx, narrow: Narrow) -> Claiming:
            lateral = self._database.dialect.is_postgres
            return Claiming(tx, taker, queue, busy or {}, after, lateral=lateral, narrow=narrow)

        def attempt(narrow: Narrow) -> Claim:
            told = Claim(after=after)

            def work(tx: Tx) -> Claim:
                nonlocal told
                fence(tx, taker.executor)
                claim = claiming(tx, narrow)
                taken = claim.take(count)
                told = Claim((), claim.changed, claim.after, claim.wait_ms)
                if not taken:
                    raise NothingTaken
                return told.with_rows(read_taken(tx, taken))

            return when_taken(self._database, work) or told

        def choose(narrow: Narrow) -> list[str]:
            return self._database.transact(lambda tx: list(dict.fromkeys(claiming(tx, narrow).take(count))))

        claims = take_apart(self._database, f"a claim of queue {queue.name}", attempt, choose)
        return claims[-1].with_rows([row for claim in claims for row in claim.rows])

    def promote_due(self, application: str) -> list[str | None]:
        def run(narrow: Narrow) -> Sequence[Row]:
            return self._database.transact(lambda tx: narrow.run(tx, "promote_due", application=application))

        found = take_apart(
            self._database,
            "letting what was delayed wait for its turn",
            run,
            lambda narrow: [row.id for row in run(narrow)],
        )
        return list(dict.fromkeys(row.queue for rows in found for row in rows))

    def set_delay(self, workflow_id: str, *, delay_ms: int | None, until: int | None) -> bool:
        rows = self._database.transact(
            lambda tx: tx.run("set_delay", workflow_id=workflow_id, delay_ms=delay_ms, until=until)
        )
        return bool(rows)

    # -- looking ------------------------------------------------------------------------------

    def waiting(self, application: str, queue: str, count: int) -> list[str]:
        rows = self._database.transact(
            lambda tx: tx.run("waiting_on", application=application, queue=queue, count=count)
        )
        return [row.id for row in rows]

    def counts(self, application: str, queue: str, up_to: int) -> QueueCounts:
        row = self._database.transact(
            lambda tx: tx.run("count_on_queue", application=application, queue=queue, count=up_to)[0]
        )
        return QueueCounts(row.waiting, row.delayed, row.running, row.parked, row.oldest_at, up_to)

    def partitions(self, application: str, queue: str, up_to: int, shown: int) -> list[PartitionCounts]:
        def work(tx: Tx) -> list[PartitionCounts]:
            place = {"application": application, "queue": queue}
            rows = tx.run("count_partitions", **place, count=up_to, shown=shown)
            keys = named_keys([row.partition for row in rows])
            running = {row.key: row.running for row in tx.batch("count_running_of", keys, **place)}
            return [
                PartitionCounts(row.partition, row.waiting, running.get(row.partition, 0)) for row in rows
            ]

        return self._database.transact(work)

    def explain(self, workflow_id: str) -> WaitingWorkflow | None:
        row = self._database.transact(lambda tx: tx.one("explain_waiting", workflow_id=workflow_id))
        return None if row is None else records(WaitingWorkflow, [row])[0]

    def count_before(self, row: WaitingWorkflow, *, in_partition: bool, up_to: int) -> int:
        rows = self._database.transact(
            lambda tx: tx.run(
                "count_before",
                application=row.application,
                queue=row.queue or "",
                partition=row.queue_partition_key if in_partition else None,
                priority=row.priority,
                created_at=row.created_at,
                count=up_to,
            )
        )
        return int(rows[0].before)

    def room(self, state: QueueState, partition: str | None) -> tuple[Mapping[str, int], int | None]:
        taker = Taker(0, state.application, "", ())

        def work(tx: Tx) -> tuple[Mapping[str, int], int | None]:
            claiming = Claiming(tx, taker, state, {}, "", lateral=False)
            rooms = claiming.shared_rooms()
            if partition is not None:
                rooms |= claiming.rooms_of([partition])[partition]
            return rooms, claiming.wait_ms

        return self._database.transact(work)

"""Executors, workflows and writes as the tests need them, and a look at the rows themselves."""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import sqlalchemy as sa

from dbos_events.model.queue import QueueLimits, QueueState
from dbos_events.model.workflow import SUCCESS
from dbos_events.storage.database import Row
from dbos_events.storage.sqldatabase import SqlStorage
from dbos_events.storage.subjects.executors import NewExecutor
from dbos_events.storage.subjects.queues import RESUMED
from dbos_events.storage.subjects.taking import TakenWorkflow, Taker
from dbos_events.storage.writes import (
    Checkpoint,
    Key,
    NewWorkflow,
    Outcome,
    Park,
    QuarantineNote,
    Result,
    Write,
    result_key,
)

APP = "shop"
LEASE_MS = 30_000
_numbers = itertools.count(1000)


def register(
    storage: SqlStorage,
    label: str = "a",
    *,
    version: str = "v1",
    application: str = APP,
    lease_ms: int = LEASE_MS,
) -> int:
    """One more process; gives its executor's number."""
    new = NewExecutor(application, label, False, version, "boot", "ns", 1, "now", lease_ms)
    return storage.executors.register(new)


def kill(storage: SqlStorage, executor: int) -> None:
    """Declare the executor dead, whatever its heartbeat says."""
    [row] = read(storage, "SELECT heartbeat FROM {schema}.executors WHERE id = :id", id=executor)
    assert storage.executors.declare_dead(executor, row.heartbeat, "test")


def start(workflow_id: str, *, start_id: int | None = None, **fields: Any) -> Write:
    """Insert a workflow: running here, or waiting when it has a queue."""
    fields.setdefault("status", "ENQUEUED" if fields.get("queue") else "PENDING")
    new = NewWorkflow(
        id=workflow_id,
        name=fields.pop("name", "work"),
        application=fields.pop("application", APP),
        start_id=next(_numbers) if start_id is None else start_id,
        version=fields.pop("version", "v1"),
        **fields,
    )
    return Write(change=new)


def step(
    workflow_id: str,
    number: int = 1,
    *,
    take: int = 1,
    generation: int = 0,
    write_id: int | None = None,
    **fields: Any,
) -> Write:
    """A checkpoint of the run that holds `take`."""
    entry = Checkpoint(
        step=number,
        call=fields.pop("call", str(number)),
        name=fields.pop("name", "step"),
        completion_order=number,
        write_id=next(_numbers) if write_id is None else write_id,
        **fields,
    )
    return Write(workflow_id=workflow_id, take=take, generation=generation, checkpoint=entry)


def end(workflow_id: str, *, take: int = 1, status: str = SUCCESS, **fields: Any) -> Write:
    return Write(workflow_id=workflow_id, take=take, change=Outcome(status, **fields))


def quarantine(workflow_id: str, consumer: int, *, take: int = 1) -> Write:
    """End an event's workflow with an error, put aside, its lane held."""
    note = QuarantineNote(consumer, "attempts-exhausted", "boom", 1)
    return end(workflow_id, take=take, status="ERROR", error="boom", quarantine=note, frees_lane=False)


def park(
    workflow_id: str,
    wake_at: int | None = None,
    *,
    take: int = 1,
    awaited: str | Sequence[str] = (),
    keys: Sequence[Key] = (),
) -> Write:
    """Park until a time, until one of the `awaited` workflows has ended, or until one of the keys is true."""
    results = [awaited] if isinstance(awaited, str) else awaited
    return Write(workflow_id=workflow_id, take=take, change=Park(wake_at, (*map(result_key, results), *keys)))


def begin(storage: SqlStorage, executor: int, *workflow_ids: str, **fields: Any) -> None:
    """Have workflows run on the executor (take 1), or wait on a queue."""
    write(storage, executor, *(start(workflow_id, **fields) for workflow_id in workflow_ids))


def write(storage: SqlStorage, executor: int, *writes: Write) -> list[Result]:
    return storage.write_batch(executor, writes)


def read(storage: SqlStorage, query: str, **parameters: Any) -> Sequence[Row]:
    """Rows of a query of the test's own, with `{schema}` in it."""
    schema = storage.database.schema or "main"
    statement = sa.text(query.replace("{schema}", f'"{schema}"'))
    return storage.database.transact(lambda tx: tx.connection.execute(statement, parameters).all())


def change(storage: SqlStorage, statement: str, **parameters: Any) -> None:
    """As `read`, for what gives no rows."""
    schema = storage.database.schema or "main"
    text = sa.text(statement.replace("{schema}", f'"{schema}"'))
    storage.database.transact(lambda tx: tx.connection.execute(text, parameters))


def workflow(storage: SqlStorage, workflow_id: str) -> Row:
    """The whole row of a workflow."""
    [row] = read(storage, "SELECT * FROM {schema}.workflows WHERE id = :id", id=workflow_id)
    return row


def steps(storage: SqlStorage, workflow_id: str) -> dict[int, str | None]:
    """The outputs of the checkpoints, by step number."""
    return {entry.step: entry.output for entry in storage.workflows.list_steps(workflow_id)}


def ids(taken: Sequence[TakenWorkflow]) -> list[str]:
    return [row.id for row in taken]


def claim_from(  # noqa: PLR0917 - as the model of the storage is asked
    storage: SqlStorage,
    executor: int,
    application: str,
    version: str,
    queue: str,
    limits: QueueLimits,
    names: Sequence[str],
    count: int,
    waits: bool = False,
) -> list[TakenWorkflow]:
    """Claim of a queue as if these were its limits."""
    states = {state.name: state for state in storage.queues.read(application)}
    if queue not in states and limits.shared:
        storage.queues.save_declared(application, {queue: limits})
        states = {state.name: state for state in storage.queues.read(application)}
    state = replace(states.get(queue) or QueueState(application, queue, limits), limits=limits)
    return list(storage.queues.claim(Taker(executor, application, version, names, waits), state, count).rows)


def claim_resumed_from(
    storage: SqlStorage,
    executor: int,
    application: str,
    version: str,
    names: Sequence[str],
    count: int,
    waits: bool = False,
) -> list[TakenWorkflow]:
    """Claim of what waits without a queue."""
    taker = Taker(executor, application, version, names, waits)
    return list(storage.queues.claim(taker, RESUMED, count).rows)


def adopt_from(
    storage: SqlStorage,
    executor: int,
    application: str,
    version: str,
    limits: Mapping[str, int | None],
    count: int,
    waits: bool = False,
) -> list[TakenWorkflow]:
    """Adopt what the dead have left."""
    taker = Taker(executor, application, version, sorted(limits), waits)
    return storage.taking.adopt(taker, limits, count)


def wake_from(
    storage: SqlStorage,
    executor: int,
    application: str,
    version: str,
    names: Sequence[str],
    count: int,
    waits: bool = False,
) -> list[TakenWorkflow]:
    """Take what is due."""
    return storage.taking.wake_due(Taker(executor, application, version, names, waits), count)

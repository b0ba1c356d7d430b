"""Making and changing one schedule within a transaction; each change is a spec of its own, with the time of its begin."""

from __future__ import annotations

import uuid
from dataclasses import fields

from dbos_events.model.schedule import ScheduleSpec
from dbos_events.storage.database import Row, Tx
from dbos_events.storage.subjects.schedulerows import Begin

SPEC = tuple(one.name for one in fields(ScheduleSpec))


def spec_in(row: Row, name: str | None = None) -> ScheduleSpec:
    """The spec in a row that has its columns."""
    return ScheduleSpec(name=name or row.name, **{one: getattr(row, one) for one in SPEC if one != "name"})


def locked(tx: Tx, application: str, name: str) -> Row | None:
    """A schedule with its newest spec, held until the transaction ends."""
    tx.run("lock_schedule", application=application, name=name)
    return tx.one("read_schedule", application=application, name=name)


def create(tx: Tx, application: str, spec: ScheduleSpec, begin: Begin, by: str, version: str | None) -> bool:
    """Make a schedule, of code where there is a version; False when it is there."""
    made = tx.one(
        "insert_schedule",
        application=application,
        name=spec.name,
        schedule_id=str(uuid.uuid4()),
        source="api" if version is None else "code",
        version=version,
        position=begin.position,
        repeat=begin.repeat,
        reached=begin.valid_from,
        due_at=begin.due_at,
        next_at=begin.next_at,
    )
    if made is None:
        return False
    insert_spec(tx, application, spec, 1, begin.valid_from, by=by)
    return True


def change(tx: Tx, application: str, known: Row, spec: ScheduleSpec, begin: Begin, by: str) -> bool:
    """Have the new spec count from now on; False when nothing is new. What was paused stays paused."""
    if spec_in(known) == spec:
        return False
    follow(tx, application, known, spec, begin.valid_from, by=by, paused=bool(known.paused))
    return True


def follow(
    tx: Tx,
    application: str,
    known: Row,
    spec: ScheduleSpec,
    valid_from: int,
    *,
    by: str,
    paused: bool,
    reason: str | None = None,
) -> None:
    """Have a spec count from now on, after all that was due before."""
    begins = max(valid_from, known.valid_from, known.reached)
    insert_spec(tx, application, spec, known.latest + 1, begins, by=by, paused=paused, reason=reason)
    tx.run("follow_spec", application=application, name=spec.name, latest=known.latest + 1)


def insert_spec(
    tx: Tx,
    application: str,
    spec: ScheduleSpec,
    revision: int,
    valid_from: int,
    *,
    by: str,
    paused: bool = False,
    reason: str | None = None,
) -> None:
    """Add a revision to those of a schedule."""
    tx.run(
        "insert_spec",
        application=application,
        revision=revision,
        valid_from=valid_from,
        paused=paused,
        changed_by=by,
        change_reason=reason,
        **{one: getattr(spec, one) for one in SPEC},
    )

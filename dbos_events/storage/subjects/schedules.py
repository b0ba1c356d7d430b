"""Schedules, their specs, and what became of each tick (docs/protocol.md, rule 21)."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from typing import Any, Protocol

from dbos_events.clock import elapsed_ns
from dbos_events.errors import DBOSException, ExecutorFenced, StorageError
from dbos_events.model.schedule import ScheduleSpec, Tick
from dbos_events.storage.database import Database, Row, Tx
from dbos_events.storage.shapes import records
from dbos_events.storage.subjects.executors import fence
from dbos_events.storage.subjects.schedulechanges import change, create, follow, locked, spec_in
from dbos_events.storage.subjects.schedulerows import (
    Begin,
    DecidedTicks,
    DueSchedule,
    LiveVersion,
    Plan,
    PlannedTick,
    ScheduleRow,
    Server,
    SpecRow,
)  # fmt: skip
from dbos_events.storage.subjects.ticking import carry_out, insert_tick_workflows


class Schedules(Protocol):
    """Schedules and their ticks. Each method is one transaction."""

    def next_due(self, server: Server, horizon_ms: int) -> tuple[int | None, int]:
        """Milliseconds until something of `server` is due within the horizon, and how many ticks are buffered."""
        ...

    def decide(
        self, server: Server, plan: Callable[[DueSchedule], Plan], count: int, only: str | None = None
    ) -> DecidedTicks:
        """Decide the ticks of schedules that are due, and start what they start, in one transaction under the fence.

        A schedule that cannot be planned is left as it is and told of in `problems`.
        """
        ...

    def create(self, application: str, spec: ScheduleSpec, begin: Begin, *, by: str) -> bool:
        """Make a schedule; False when there is one of that name."""
        ...

    def apply(self, application: str, specs: Sequence[tuple[ScheduleSpec, Begin]], *, by: str) -> list[str]:
        """Make or change schedules, all or none; gives those that were changed.

        Raises:
            DBOSException: One of them is declared in code.
        """
        ...

    def declare(self, application: str, version: str, spec: ScheduleSpec, begin: Begin, *, by: str) -> bool:
        """Make or change a schedule as this version's code says; False where a live process has newer code."""
        ...

    def set_paused(
        self, application: str, name: str, now_ms: int, *, paused: bool, by: str, reason: str | None
    ) -> bool | None:
        """Pause or resume; whether it was changed, None where there is no such schedule."""
        ...

    def delete(self, application: str, name: str) -> bool:
        """Delete a schedule; what its ticks were stays. False where there is none."""
        ...

    def start(self, application: str, ticks: Sequence[PlannedTick]) -> None:
        """Start the workflows of ticks that somebody asked for, for any process; what is there already stays."""
        ...

    def find(self, application: str | None, name: str | None = None) -> list[ScheduleRow]:
        """Schedules, by application and name."""
        ...

    def specs(self, application: str, name: str) -> list[SpecRow]:
        """All that a schedule has been, the oldest first."""
        ...

    def ticks(self, application: str, name: str, begin_ms: int, end_ms: int, count: int) -> list[Tick]:
        """Ticks that were due in a time, and runs of them that may reach into it."""
        ...

    def live(self, application: str | None) -> list[LiveVersion]:
        """The versions of which a process lives."""
        ...

    def facts(self, names: Sequence[str]) -> dict[str, str]:
        """What was noted under these names."""
        ...

    def note(self, facts: Mapping[str, str]) -> None:
        """Note facts about the database, in place of what was noted before."""
        ...

    def retime(self, row: ScheduleRow, due_at: int | None, next_at: int | None) -> bool:
        """Move the next fire time, unless the schedule has moved on meanwhile."""
        ...

    def sound_alarm(self, application: str, name: str, alarm: str) -> None:
        """Note what keeps a schedule from being decided."""
        ...


class ScheduleTable:
    """The implementation over both databases."""

    def __init__(self, database: Database) -> None:
        self._database = database

    # -- deciding -----------------------------------------------------------------------------

    def next_due(self, server: Server, horizon_ms: int) -> tuple[int | None, int]:
        def work(tx: Tx) -> tuple[int | None, int]:
            asked = elapsed_ns()
            row = tx.run("next_schedule", **_asking(server), horizon_ms=horizon_ms)[0]
            self._database.told_time(row.now, asked)
            return row.milliseconds, row.buffered

        return self._database.transact(work)

    def decide(
        self, server: Server, plan: Callable[[DueSchedule], Plan], count: int, only: str | None = None
    ) -> DecidedTicks:
        def work(tx: Tx) -> DecidedTicks:
            fence(tx, server.executor)
            decided = DecidedTicks()
            plans: list[tuple[DueSchedule, Plan]] = []
            for row in tx.run("due_schedules", **_asking(server), count=count, only=only):
                due = _due(row)
                try:
                    plans.append((due, plan(due)))
                except (StorageError, ExecutorFenced):
                    raise
                except Exception as error:  # noqa: BLE001 - one schedule must not stop the others
                    decided.problems[due.spec.name] = error
            if plans:
                carry_out(tx, server, plans, decided)
            return decided

        return self._database.transact(work)

    # -- changing -----------------------------------------------------------------------------

    def create(self, application: str, spec: ScheduleSpec, begin: Begin, *, by: str) -> bool:
        return self._database.transact(lambda tx: create(tx, application, spec, begin, by, None))

    def apply(self, application: str, specs: Sequence[tuple[ScheduleSpec, Begin]], *, by: str) -> list[str]:
        def work(tx: Tx) -> list[str]:
            changed = []
            for spec, begin in sorted(specs, key=lambda one: one[0].name):
                known = locked(tx, application, spec.name)
                if known is None:
                    if create(tx, application, spec, begin, by, None):
                        changed.append(spec.name)
                        continue
                    known = locked(tx, application, spec.name)
                if known is not None and known.source == "code":
                    raise DBOSException(
                        f"The schedule {spec.name!r} is declared in code (@DBOS.scheduled). Change it there, or give this "
                        "one another name."
                    )
                if known is not None and change(tx, application, known, spec, begin, by):
                    changed.append(spec.name)
            return changed

        return self._database.transact(work)

    def declare(self, application: str, version: str, spec: ScheduleSpec, begin: Begin, *, by: str) -> bool:
        def work(tx: Tx) -> bool:
            known = locked(tx, application, spec.name)
            if known is None:
                if create(tx, application, spec, begin, by, version):
                    return True
                known = locked(tx, application, spec.name)
            if known is None:
                return False
            other = known.version
            if other not in (None, version) and tx.one(
                "newer_version", application=application, other=other, version=version
            ):
                return False
            change(tx, application, known, spec, begin, by)
            tx.run("claim_schedule", application=application, name=spec.name, version=version)
            return True

        return self._database.transact(work)

    def set_paused(
        self, application: str, name: str, now_ms: int, *, paused: bool, by: str, reason: str | None
    ) -> bool | None:
        def work(tx: Tx) -> bool | None:
            known = locked(tx, application, name)
            if known is None:
                return None
            if bool(known.paused) == paused:
                if not paused:
                    tx.run("clear_alarm", application=application, name=name)
                return False
            follow(tx, application, known, spec_in(known), now_ms, by=by, reason=reason, paused=paused)
            return True

        return self._database.transact(work)

    def delete(self, application: str, name: str) -> bool:
        def work(tx: Tx) -> bool:
            known = locked(tx, application, name)
            if known is None:
                return False
            tx.run("delete_schedule", application=application, name=name)
            tx.run("delete_specs", application=application, name=name)
            return True

        return self._database.transact(work)

    def start(self, application: str, ticks: Sequence[PlannedTick]) -> None:
        def work(tx: Tx) -> None:
            insert_tick_workflows(tx, [one.start for one in ticks if one.start is not None], executor=0)
            tx.change(
                "fill_ticks", tx.rows("fill_ticks", [(one.tick,) for one in ticks]), application=application
            )

        self._database.transact(work)

    # -- asking -------------------------------------------------------------------------------

    def find(self, application: str | None, name: str | None = None) -> list[ScheduleRow]:
        rows = self._database.look(lambda tx: tx.run("list_schedules", application=application, name=name))
        return [
            ScheduleRow(
                spec=spec_in(row),
                paused=bool(row.paused),
                **{
                    one.name: getattr(row, one.name)
                    for one in fields(ScheduleRow)
                    if one.name not in ("spec", "paused")
                },
            )
            for row in rows
        ]

    def specs(self, application: str, name: str) -> list[SpecRow]:
        rows = self._database.look(lambda tx: tx.run("list_specs", application=application, name=name))
        return [SpecRow(spec_in(row, name), row.revision, row.valid_from, bool(row.paused)) for row in rows]

    def ticks(self, application: str, name: str, begin_ms: int, end_ms: int, count: int) -> list[Tick]:
        rows = self._database.look(
            lambda tx: tx.run(
                "list_ticks",
                application=application,
                schedule=name,
                begin_ms=begin_ms,
                end_ms=end_ms,
                count=count,
            )
        )
        return records(Tick, rows)

    def live(self, application: str | None) -> list[LiveVersion]:
        rows = self._database.look(lambda tx: tx.run("live_versions", application=application))
        return [
            LiveVersion(
                row.application,
                row.version,
                None if row.functions is None else frozenset(json.loads(row.functions)),
            )
            for row in rows
        ]

    def facts(self, names: Sequence[str]) -> dict[str, str]:
        rows = self._database.transact(lambda tx: tx.run("read_facts", names=names))
        return {row.name: row.value for row in rows}

    def note(self, facts: Mapping[str, str]) -> None:
        def work(tx: Tx) -> None:
            for name in sorted(facts):
                tx.run("note_fact", name=name, value=facts[name])

        self._database.transact(work)

    def retime(self, row: ScheduleRow, due_at: int | None, next_at: int | None) -> bool:
        parameters = {
            "application": row.application,
            "name": row.spec.name,
            "position": row.position,
            "repeat": row.repeat,
            "was_next": row.next_at,
            "due_at": due_at,
            "next_at": next_at,
        }
        return bool(self._database.transact(lambda tx: tx.run("retime_schedule", **parameters)))

    def sound_alarm(self, application: str, name: str, alarm: str) -> None:
        self._database.transact(
            lambda tx: tx.run("alarm_schedule", application=application, name=name, alarm=alarm)
        )


def _asking(server: Server) -> dict[str, Any]:
    return {
        "application": server.application,
        "version": server.version,
        "names": server.names,
        "declared": server.declared,
        "but": server.but,
    }


def _due(row: Row) -> DueSchedule:
    return DueSchedule(
        spec=spec_in(row),
        paused=bool(row.paused),
        **{
            one.name: getattr(row, one.name)
            for one in fields(DueSchedule)
            if one.name not in ("spec", "paused")
        },
    )

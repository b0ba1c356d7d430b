"""Carrying out what was planned for schedules that are due, in the transaction that holds their rows."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from dbos_events.model.dataclass import dataclass, field, replace
from dbos_events.model.schedule import BUFFERED, MERGED, SKIPPED, STARTED, Tick
from dbos_events.model.workflow import FINISHED, PENDING
from dbos_events.storage.database import Tx
from dbos_events.storage.subjects.schedulerows import (
    DecidedTicks,
    DueSchedule,
    Plan,
    PlannedTick,
    Server,
    TickStart,
)
from dbos_events.storage.subjects.taking import TakenWorkflow
from dbos_events.storage.subjects.workflows import cancel


@dataclass(slots=True)
class _Settled:
    """A schedule's ticks as the state of its last run has them."""

    last_run: str | None
    buffered: str | None
    ticks: list[PlannedTick] = field(default_factory=list)
    starts: list[TickStart] = field(default_factory=list)
    cancels: list[str] = field(default_factory=list)
    released: bool = False


def carry_out(
    tx: Tx, server: Server, plans: Sequence[tuple[DueSchedule, Plan]], decided: DecidedTicks
) -> None:
    """Write what the plans come to, and note in `decided` what the caller has to do after the commit."""
    ids = [due.last_run for due, _ in plans if due.last_run is not None and due.spec.overlap != "allow"]
    rows = tx.run("read_run_states", ids=ids) if ids else ()
    open_runs = {row.id for row in rows if row.status not in FINISHED}
    settled = [(due, plan, _settle(due, plan, due.last_run in open_runs)) for due, plan in plans]
    cancels = sorted({one for *_, one_settled in settled for one in one_settled.cancels})
    if cancels:
        decided.cancelled = cancel(tx, cancels)
    starts = [start for *_, one in settled for start in one.starts]
    inserted = insert_tick_workflows(tx, starts, server.executor)
    for due, plan, one in settled:
        if one.released and plan.released is not None:
            _release(tx, server, due)
        _note(decided, due, plan, one)
    ticks = [(planned.tick,) for *_, one in settled for planned in one.ticks]
    tx.change("insert_ticks", tx.rows("insert_ticks", ticks), application=server.application)
    moves = [_move(due, plan, one) for due, plan, one in settled]
    tx.change("move_schedules", moves, application=server.application)
    decided.queues = {start.queue for start in starts if start.queue is not None}
    decided.taken = [_taken(start) for start in starts if start.id in inserted and start.status == PENDING]


def _taken(start: TickStart) -> TakenWorkflow:
    """What `read_taken` would give of a workflow that was inserted in this transaction."""
    return TakenWorkflow(
        id=start.id,
        name=start.name,
        take=1,
        generation=0,
        crashes=0,
        codec=start.codec,
        input=start.input,
        queue=None,
        parent_id=None,
        root_id=None,
        consumer=None,
        partition=None,
        position=None,
        lane=None,
    )


def _note(decided: DecidedTicks, due: DueSchedule, plan: Plan, one: _Settled) -> None:
    name = due.spec.name
    if one.ticks or one.released or plan.position != due.position or plan.revision != due.revision:
        decided.decided.append(name)
    decided.again |= plan.revision != due.revision
    if one.buffered is not None and one.last_run is not None:
        decided.waiting[name] = one.last_run
    if plan.alarm is not None and plan.alarm != due.alarm:
        decided.alarms[name] = plan.alarm


def _move(due: DueSchedule, plan: Plan, one: _Settled) -> dict[str, Any]:
    fired = [planned.tick.due_at for planned in one.ticks if planned.tick.outcome in STARTED]
    return {
        "name": due.spec.name,
        "revision": plan.revision,
        "position": plan.position,
        "repeat": plan.repeat,
        "reached": plan.reached,
        "due_at": plan.due_at,
        "next_at": plan.next_at,
        "last_run": one.last_run,
        "last_fired_at": _iso(fired[-1]) if fired else due.last_fired_at,
        "buffered": one.buffered,
        "alarm": plan.alarm,
    }


def _iso(at_ms: int) -> str:
    return datetime.fromtimestamp(at_ms / 1000, UTC).isoformat()


def _settle(due: DueSchedule, plan: Plan, is_open: bool) -> _Settled:
    """Who starts, given whether the last run is open; the rules of `overlap` are here and nowhere else."""
    settled = _Settled(due.last_run, due.buffered)
    if due.buffered is not None and plan.released is not None and not is_open:
        settled.released = True
        settled.starts.append(plan.released)
        settled.last_run, settled.buffered, is_open = plan.released.id, None, True
    starting = [planned for planned in plan.ticks if planned.start is not None]
    for planned in plan.ticks:
        tick, start = planned.tick, planned.start
        if start is not None and due.spec.overlap == "cancel_other" and planned is not starting[-1]:
            tick, start = replace(tick, outcome=MERGED, workflow_id=None, detail="a later tick was due"), None
        elif start is not None and is_open and due.spec.overlap == "cancel_other":
            if settled.last_run is not None:
                settled.cancels.append(settled.last_run)
        elif start is not None and is_open and due.spec.overlap in ("skip", "buffer_one"):
            if due.spec.overlap == "buffer_one" and settled.buffered is None:
                settled.buffered = _buffer(tick)
                tick = replace(tick, outcome=BUFFERED, detail=f"waits for {settled.last_run}")
            else:
                detail = f"{settled.last_run} had not ended"
                tick = replace(tick, outcome=SKIPPED, workflow_id=None, detail=detail)
            start = None
        if start is not None:
            settled.starts.append(start)
            settled.last_run, is_open = start.id, True
        settled.ticks.append(PlannedTick(tick, start))
    return settled


def _buffer(tick: Tick) -> str:
    kept = {
        name: getattr(tick, name)
        for name in ("nominal", "zone", "repeat", "due_at", "outcome", "workflow_id")
    }
    return json.dumps(kept)


def _release(tx: Tx, server: Server, due: DueSchedule) -> None:
    kept = json.loads(due.buffered or "{}")
    tx.run(
        "release_tick",
        application=server.application,
        schedule=due.spec.name,
        nominal=kept["nominal"],
        zone=kept["zone"],
        repeat=kept["repeat"],
        outcome=kept["outcome"],
        executor=server.executor,
        detail="waited for the run before it",
    )


def insert_tick_workflows(tx: Tx, starts: Sequence[TickStart], executor: int) -> frozenset[str]:
    """Insert workflows; gives the ids of those that were not there before."""
    if not starts:
        return frozenset()
    rows = [(start,) for start in starts]
    inserted = tx.change("insert_tick_workflows", tx.rows("insert_tick_workflows", rows), executor=executor)
    tx.change("insert_start_payloads", tx.rows("insert_start_payloads", rows))
    if inserted == len(starts):
        return frozenset(start.id for start in starts)
    numbers = {row.id: row.start_id for row in tx.run("read_tokens", ids=[start.id for start in starts])}
    return frozenset(start.id for start in starts if numbers.get(start.id) == start.start_id)

"""`dbos-events queue`: how queues stand, why something waits, and what an operator does about it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from dbos_events.cli.database import opened
from dbos_events.cli.options import Application, AsJson, Database, Schema, examples
from dbos_events.cli.output import fail, moment, none_of, say, show_fields, show_json, show_table, tell_change
from dbos_events.cli.pausing import paused_fields

if TYPE_CHECKING:
    from dbos_events.model.queue import QueueLimits, QueueOverview, QueueRateLimit

group = typer.Typer(help="Queues: limits, backlogs, and why something waits.", no_args_is_help=True)

Name = Annotated[str, typer.Argument(metavar="QUEUE", help="The queue's name.")]
WorkflowId = Annotated[str, typer.Argument(metavar="WORKFLOW", help="The workflow's id.")]
Reason = Annotated[str | None, typer.Option(metavar="TEXT", help="Why; `queue show` tells it.")]
All = Annotated[bool, typer.Option("--all", help="Of all applications.")]
Most = Annotated[int | None, typer.Option("--most", metavar="N", min=1, help="Cancel at most so many.")]
Yes = Annotated[bool, typer.Option("--yes", help="Do not ask.")]


@group.command("list", epilog=examples("dbos-events queue list", "dbos-events queue list --all --json"))
def list_(
    everywhere: All = False,
    application: Application = None,
    database: Database = None,
    schema: Schema = None,
    as_json: AsJson = False,
) -> None:
    """List queues with their limits and what there is on them; a number ends with + where more was not counted.

    Keys of --json: application, queue, state, declared, limits, waiting, delayed, running, parked, oldest_at,
    counted_up_to, paused (at, by, reason).
    """
    with opened(database, schema, application) as control:
        chosen = None if everywhere else control.application
        found = control.queues.all(chosen)
        elsewhere = [] if found else control.queues.all(None)
    if as_json:
        show_json([_fields(one) for one in found])
        return
    if not found:
        say(none_of("queue", chosen, (one.state.application for one in elsewhere), "--all"))
        return
    titles = ("QUEUE", "STATE", "WAITING", "DELAYED", "RUNNING", "PARKED", "OLDEST", "LIMITS")
    named = ("APPLICATION", *titles) if everywhere else titles
    show_table(named, [_cells(one, everywhere=everywhere) for one in found])


@group.command("show", epilog=examples("dbos-events queue show orders"))
def show(
    queue: Name,
    application: Application = None,
    database: Database = None,
    schema: Schema = None,
    as_json: AsJson = False,
) -> None:
    """Show one queue, and of a partitioned one the partitions in which most waits.

    Keys of --json: those of `queue list`, and partitions (partition, waiting, running).
    """
    with opened(database, schema, application) as control:
        found = control.queues.show(queue)
    partitions = [
        {"partition": one.partition, "waiting": one.waiting, "running": one.running}
        for one in found.partitions
    ]
    fields = _fields(found)
    if as_json:
        show_json({**fields, "partitions": partitions})
        return
    limits = fields.pop("limits")
    fields["oldest_at"] = moment(found.counts.oldest_at)
    show_fields({**fields, **{name: value for name, value in limits.items() if value is not None}})
    if partitions:
        show_table(("PARTITION", "WAITING", "RUNNING"), [tuple(one.values()) for one in partitions])


@group.command("explain", epilog=examples("dbos-events queue explain 5f0c7c1e"))
def explain(
    workflow: WorkflowId,
    database: Database = None,
    schema: Schema = None,
    as_json: AsJson = False,
) -> None:
    """Say why a workflow does not run: a limit, its partition, a rate, a delay, its version, a pause, or no process.

    Keys of --json: workflow, status, queue, says, before, reasons (code, text).
    """
    with opened(database, schema) as control:
        found = control.queues.explain(workflow)
    if as_json:
        reasons = [{"code": code, "text": text} for code, text in found.reasons]
        show_json(
            {
                "workflow": found.workflow_id,
                "status": found.status,
                "queue": found.queue,
                "says": found.says,
                "before": found.before,
                "reasons": reasons,
            }
        )
        return
    on = "" if found.queue is None else f" on queue {found.queue}"
    say(f"{found.workflow_id}: {found.status}{on}. {found.says}")
    if found.before:
        say(f"  before: {found.before} go before it.")
    for code, text in found.reasons:
        say(f"  {code}: {text}")


@group.command("pause", epilog=examples("dbos-events queue pause orders --reason 'the shop is down'"))
def pause(
    queue: Name,
    reason: Reason = None,
    application: Application = None,
    database: Database = None,
    schema: Schema = None,
    as_json: AsJson = False,
) -> None:
    """Let nothing more of a queue begin, in all processes, until it is resumed. What runs goes on.

    Keys of --json: queue, changed.
    """
    with opened(database, schema, application) as control:
        changed = control.queues.pause(queue, reason=reason)
    what = "paused" if changed else "is paused already"
    tell_change("queue", queue, what, changed=changed, as_json=as_json)


@group.command("resume", epilog=examples("dbos-events queue resume orders"))
def resume(
    queue: Name,
    application: Application = None,
    database: Database = None,
    schema: Schema = None,
    as_json: AsJson = False,
) -> None:
    """Let a paused queue go on.

    Keys of --json: queue, changed.
    """
    with opened(database, schema, application) as control:
        changed = control.queues.resume(queue)
    what = "goes on" if changed else "was not paused"
    tell_change("queue", queue, what, changed=changed, as_json=as_json)


@group.command("purge", epilog=examples("dbos-events queue purge orders --yes"))
def purge(
    queue: Name,
    most: Most = None,
    yes: Yes = False,
    application: Application = None,
    database: Database = None,
    schema: Schema = None,
    as_json: AsJson = False,
) -> None:
    """Cancel what waits on a queue, the next ones first. What runs, is parked or is delayed goes on.

    Cancelled workflows can be resumed by id. Keys of --json: queue, cancelled (ids).
    """
    if not yes and not typer.confirm(f"Cancel what waits on {queue}?", err=True):
        fail("Nothing was cancelled.")
    with opened(database, schema, application) as control:
        cancelled = control.queues.purge(queue, most=most)
    if as_json:
        show_json({"queue": queue, "cancelled": cancelled})
    else:
        say(f"{queue}: {len(cancelled)} cancelled.")


def _fields(one: QueueOverview) -> dict[str, Any]:
    state, counts = one.state, one.counts
    return {
        "application": state.application,
        "queue": state.name,
        "state": _state(one),
        "declared": state.declared,
        "limits": _limits(state.limits),
        "waiting": counts.waiting,
        "delayed": counts.delayed,
        "running": counts.running,
        "parked": counts.parked,
        "oldest_at": counts.oldest_at,
        "counted_up_to": counts.counted_up_to,
        "paused": paused_fields(state),
    }


def _cells(one: QueueOverview, *, everywhere: bool) -> tuple[object, ...]:
    counts = one.counts
    up_to = counts.counted_up_to
    cells = (
        one.state.name,
        _state(one),
        _bounded(counts.waiting, up_to),
        _bounded(counts.delayed, up_to),
        str(counts.running),
        _bounded(counts.parked, up_to),
        moment(counts.oldest_at),
        ", ".join(f"{name} {_shown(value)}" for name, value in _limits(one.state.limits).items() if value),
    )
    return (one.state.application, *cells) if everywhere else cells


def _state(one: QueueOverview) -> str:
    return "paused" if one.state.paused_at is not None else "open"


def _bounded(number: int, up_to: int) -> str:
    return f"{number}+" if number >= up_to else str(number)


def _limits(limits: QueueLimits) -> dict[str, Any]:
    return {
        "concurrency": limits.concurrency,
        "worker_concurrency": limits.worker_concurrency,
        "limiter": limits.limiter,
        "partition_concurrency": limits.partition_concurrency,
        "partition_worker_concurrency": limits.partition_worker_concurrency,
        "partition_limiter": limits.partition_limiter,
        "partitions": limits.partitioned or None,
        "priority_ages": limits.priority_ages,
    }


def _shown(value: float | QueueRateLimit) -> str:
    return f"{value['limit']} in {value['period']:g} s" if isinstance(value, dict) else str(value)

"""`dbos-events workflow`: look at workflows, stop them, let them go on."""

from __future__ import annotations

import dataclasses
from typing import Annotated, Any

import typer

from dbos_events.cli import filters
from dbos_events.cli.database import opened
from dbos_events.cli.options import AsJson, Database, Schema, examples
from dbos_events.cli.output import age, duration, moment, remark, say, show_fields, show_json, show_table
from dbos_events.cli.tables import Column
from dbos_events.errors import DBOSNonExistentWorkflowError
from dbos_events.model.event import ReceivedEvent
from dbos_events.model.process import Doing
from dbos_events.model.workflow import StepInfo, Unhandled, WorkflowFilter, WorkflowStatus

group = typer.Typer(help="Workflows in the database.", no_args_is_help=True, rich_markup_mode=None)

Id = Annotated[str, typer.Argument(metavar="ID", help="The workflow's id.")]
Ids = Annotated[list[str], typer.Argument(metavar="ID...", help="Ids of workflows.")]


# ------------------------------------------------------------------ list


@group.command(
    "list",
    epilog=examples(
        "dbos-events workflow list --status PENDING --status ENQUEUED --sort oldest",
        "dbos-events workflow list --name on_order --since 15m",
        "dbos-events workflow list --since 2026-11-22T10:00:00Z --until 2026-11-22T11:00:00Z --json",
    ),
)
def list_workflows(  # noqa: PLR0913 - one argument per option
    *,
    status: filters.Status = None,
    name: filters.Name = None,
    queue: filters.Queue = None,
    prefix: filters.Prefix = None,
    parent: filters.Parent = None,
    executor: filters.Executor = None,
    version: filters.Version = None,
    since: filters.Since = None,
    until: filters.Until = None,
    limit: filters.Limit = 50,
    offset: filters.Offset = 0,
    sort: filters.Sorted = filters.Sort.newest,
    application: filters.Application = None,
    database: Database = None,
    schema: Schema = None,
    as_json: AsJson = False,
) -> None:
    """List workflows.

    Those that fit all filters given; of a filter that is repeated, one must fit. Inputs and outputs
    are left out: see `workflow get`.

    DOING tells those apart that have not ended: running, sleeping, between attempts, waiting (for another
    workflow), held (behind another event of its lane), queued, delayed, ready; `no process` and `abandoned` where
    the process that had it is silent or dead.

    Keys of --json, one object for each workflow: those of `dbos_events.WorkflowStatus` but input, output
    and error, and doing (null for one that has ended, or word, text, step, step_started_at, behind).
    Times are milliseconds since 1970 (UTC).
    """
    criteria = WorkflowFilter(
        statuses=tuple(one.value for one in status or ()),
        names=tuple(name or ()),
        queues=tuple(queue or ()),
        id_prefix=tuple(prefix or ()),
        parents=tuple(parent or ()),
        executors=tuple(executor or ()),
        versions=tuple(version or ()),
        applications=tuple(application or ()),
        limit=limit + 1,
        offset=offset,
        descending=sort is filters.Sort.newest,
        with_input=False,
        with_output=False,
    )
    with opened(database, schema) as control:
        found = control.workflows.find(filters.between(criteria, since, until, control.now_ms()))
        doing = control.processes.doing([one.workflow_id for one in found[:limit]])
        unhandled = [] if as_json else control.workflows.unhandled()
    if as_json:
        show_json([{**_without_values(one), **_doing_fields(one, doing)} for one in found[:limit]])
    else:
        _show_list(found[:limit], doing, more=len(found) > limit)
        _warn(unhandled)


def _warn(unhandled: list[Unhandled]) -> None:
    for one in unhandled:
        remark(
            f"no-handler: no live process of {one.application} has the function {one.name!r}; at least {one.waiting} "
            "workflows of it wait."
        )


def _doing_fields(one: WorkflowStatus, doing: dict[str, Doing]) -> dict[str, Any]:
    known = doing.get(one.workflow_id)
    return {"doing": None if known is None else dataclasses.asdict(known)}


def _show_list(found: list[WorkflowStatus], doing: dict[str, Doing], *, more: bool) -> None:
    if not found:
        print("No workflow fits.")
        return
    show_table(
        (
            Column("ID"),
            Column("STATUS", coloured=True),
            Column("DOING", rank=1, coloured=True),
            Column("NAME", rank=1),
            Column("QUEUE", rank=4),
            Column("CREATED", rank=2),
            Column("TOOK", rank=3),
            Column("EXECUTOR", rank=5),
        ),
        [
            (
                one.workflow_id,
                one.status,
                doing[one.workflow_id].word if one.workflow_id in doing else None,
                one.name,
                one.queue_name,
                moment(one.created_at),
                duration(one.created_at, one.completed_at),
                one.executor_id,
            )
            for one in found
        ],
    )
    if more:
        typer.echo(f"There are more than these {len(found)}: use --limit, --offset or a filter.", err=True)


def _fields(one: WorkflowStatus | ReceivedEvent) -> dict[str, Any]:
    return {field.name: getattr(one, field.name) for field in dataclasses.fields(one)}


def _without_values(one: WorkflowStatus) -> dict[str, Any]:
    return {name: value for name, value in _fields(one).items() if name not in ("input", "output", "error")}


# ------------------------------------------------------------------ get, steps


@group.command("get", epilog=examples("dbos-events workflow get 5f0c... --json | jq .error"))
def get(workflow_id: Id, database: Database = None, schema: Schema = None, as_json: AsJson = False) -> None:
    """Show one workflow with its input, its result, and the event that started it.

    Exits with 1 when there is none with that id.

    Of one that has not ended it says what it is doing: which step runs and since when, when the next attempt is,
    or which event of the lane it waits behind.

    Keys of --json: those of `dbos_events.WorkflowStatus`, doing (as in `list`), and event (topic, partition,
    offset, key, value, timestamp), null for a workflow that no event started. Bytes that are no text are
    {"base64": ...}, errors {"type": ..., "message": ...}.
    """
    with opened(database, schema) as control:
        found = control.workflows.get(workflow_id)
        if found is None:
            raise DBOSNonExistentWorkflowError(workflow_id)
        event = _shown_event(control.workflows.event(workflow_id))
        doing = control.processes.doing([workflow_id])
        now = control.now_ms()
    if as_json:
        show_json({**_fields(found), **_doing_fields(found, doing), "event": event})
    else:
        show_fields(_readable(found, event, doing.get(workflow_id), now))


def _shown_event(event: ReceivedEvent | None) -> dict[str, Any] | None:
    return None if event is None else _fields(event)


def _readable(
    one: WorkflowStatus, event: dict[str, Any] | None, doing: Doing | None, now: int
) -> dict[str, object]:
    """What is known of a workflow; times to read, and nothing that says nothing."""
    times = {
        "created": one.created_at,
        "started": one.started_at,
        "completed": one.completed_at,
        "updated": one.updated_at,
        "wakes at": one.wake_at,
        "delayed until": one.delay_until_epoch_ms,
        "deadline": one.workflow_deadline_epoch_ms,
    }
    fields: dict[str, object] = {
        "id": one.workflow_id,
        "status": one.status,
        "doing": None if doing is None else f"{doing.word}: {doing.text}",
        "there for": None if doing is None or one.created_at is None else age(now - one.created_at),
        "name": one.name,
        "application": one.application_name,
        "version": one.app_version,
        "executor": one.executor_id,
        "queue": one.queue_name,
        "priority": one.priority or None,
        "deduplication id": one.deduplication_id,
        "parent": one.parent_workflow_id,
        "ended because of": one.end_reason,
        "timeout (ms)": one.workflow_timeout_ms,
        "crashes": one.recovery_attempts or None,
        "generation": one.generation or None,
        **{name: moment(time) for name, time in times.items()},
        "event": event,
        "input": one.input,
        "output": one.output,
        "error": one.error,
    }
    return {name: value for name, value in fields.items() if value is not None}


@group.command("steps", epilog=examples("dbos-events workflow steps 5f0c..."))
def steps(workflow_id: Id, database: Database = None, schema: Schema = None, as_json: AsJson = False) -> None:
    """Show the checkpoints of a workflow: the steps that have completed.

    Exits with 1 when there is no workflow with that id.

    Keys of --json, one object for each step: those of `dbos_events.StepInfo`.
    """
    with opened(database, schema) as control:
        if control.workflows.get(workflow_id) is None:
            raise DBOSNonExistentWorkflowError(workflow_id)
        found = control.workflows.steps(workflow_id)
    if as_json:
        show_json(found)
    elif found:
        _show_steps(found)
    else:
        print("No step has completed yet.")


def _show_steps(found: list[StepInfo]) -> None:
    show_table(
        ("STEP", "NAME", "STARTED", "TOOK", "OUTPUT", "ERROR", "CHILD"),
        [
            (
                one.function_id,
                one.function_name,
                moment(one.started_at_epoch_ms),
                duration(one.started_at_epoch_ms, one.completed_at_epoch_ms),
                one.output,
                one.error,
                one.child_workflow_id,
            )
            for one in found
        ],
    )


# ------------------------------------------------------------------ cancel, resume


@group.command("cancel", epilog=examples("dbos-events workflow cancel 5f0c... 7a21..."))
def cancel(
    workflow_ids: Ids,
    cancel_children: Annotated[
        bool, typer.Option("--cancel-children", help="Cancel all that they have started as well.")
    ] = False,
    database: Database = None,
    schema: Schema = None,
    as_json: AsJson = False,
) -> None:
    """Cancel workflows that have not ended; others stay as they are.

    With --cancel-children all that they have started is cancelled in the same transaction, also what workflows that
    have ended have started.

    One that runs learns it at its next durable operation. Exits with 1, and changes nothing, when one of
    the ids does not exist.

    Keys of --json: changed, unchanged (lists of ids).
    """
    with opened(database, schema) as control:
        changed = control.workflows.cancel(workflow_ids, children=cancel_children)
    shown = list(dict.fromkeys([*workflow_ids, *changed]))
    _show_changes(shown, changed, "was cancelled", "has ended already", as_json=as_json)


@group.command("resume", epilog=examples("dbos-events workflow resume 5f0c..."))
def resume(
    workflow_ids: Ids, database: Database = None, schema: Schema = None, as_json: AsJson = False
) -> None:
    """Let workflows go on that were cancelled or crashed too often, where their history ends.

    Any process of their application takes them up. Those that have finished stay as they are. Exits with
    1, and changes nothing, when one of the ids does not exist.

    Keys of --json: changed, unchanged (lists of ids).
    """
    with opened(database, schema) as control:
        changed = control.workflows.resume(workflow_ids)
    _show_changes(workflow_ids, changed, "goes on", "has finished, or goes on already", as_json=as_json)


def _show_changes(asked: list[str], changed: list[str], done: str, not_done: str, *, as_json: bool) -> None:
    unique = list(dict.fromkeys(asked))
    if as_json:
        unchanged = [one for one in unique if one not in changed]
        show_json({"changed": [one for one in unique if one in changed], "unchanged": unchanged})
        return
    for workflow_id in unique:
        say(f"{workflow_id}: {done if workflow_id in changed else not_done}.")

"""`dbos-events workflow`: look at workflows, stop them, let them go on."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dbos_events.cli import filters
from dbos_events.cli.database import fitting
from dbos_events.cli.options import AsJson, Database, Schema, examples, settings_of
from dbos_events.cli.output import duration, moment, remark, say, show_fields, show_json, show_table
from dbos_events.errors import DBOSNonExistentWorkflowError, StorageUnavailable
from dbos_events.model.workflow import StepInfo, WorkflowFilter, WorkflowStatus

if TYPE_CHECKING:
    from dbos_events.control import Control
    from dbos_events.storage.protocol import Storage
    from dbos_events.storage.standing import Unhandled

group = typer.Typer(help="Workflows in the database.", no_args_is_help=True, rich_markup_mode=None)

Id = Annotated[str, typer.Argument(metavar="ID", help="The workflow's id.")]
Ids = Annotated[list[str], typer.Argument(metavar="ID...", help="Ids of workflows.")]


@contextmanager
def _opened(database: str | None, schema: str | None) -> Iterator[tuple[Storage, Control]]:
    settings = settings_of(database, schema)
    from dbos_events.control import Control
    from dbos_events.serialization import Codecs

    with fitting(settings) as storage:
        yield storage, Control(storage, Codecs(default=settings.serializer))


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

    Keys of --json, one object for each workflow: those of `dbos_events.WorkflowStatus` but input, output
    and error. Times are milliseconds since 1970 (UTC).
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
    with _opened(database, schema) as (storage, control):
        found = control.find(filters.between(criteria, since, until, storage.now_ms()))
        unhandled = [] if as_json else storage.unhandled_work(None)
    if as_json:
        show_json([_without_values(one) for one in found[:limit]])
    else:
        _show_list(found[:limit], more=len(found) > limit)
        _warn(unhandled)


def _warn(unhandled: list[Unhandled]) -> None:
    for one in unhandled:
        remark(
            f"no-handler: no live process of {one.application} has the function {one.name!r}; at least {one.waiting} "
            "workflows of it wait."
        )


def _show_list(found: list[WorkflowStatus], *, more: bool) -> None:
    if not found:
        print("No workflow fits.")
        return
    show_table(
        ("ID", "STATUS", "NAME", "QUEUE", "CREATED", "TOOK", "EXECUTOR"),
        [
            (
                one.workflow_id,
                one.status,
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


def _fields(one: WorkflowStatus) -> dict[str, Any]:
    return {field.name: getattr(one, field.name) for field in dataclasses.fields(one)}


def _without_values(one: WorkflowStatus) -> dict[str, Any]:
    return {name: value for name, value in _fields(one).items() if name not in ("input", "output", "error")}


# ------------------------------------------------------------------ get, steps


@group.command("get", epilog=examples("dbos-events workflow get 5f0c... --json | jq .error"))
def get(workflow_id: Id, database: Database = None, schema: Schema = None, as_json: AsJson = False) -> None:
    """Show one workflow with its input, its result, and the event that started it.

    Exits with 1 when there is none with that id.

    Keys of --json: those of `dbos_events.WorkflowStatus`, and event (topic, partition, offset, key, value,
    timestamp), null for a workflow that no event started. Bytes that are no text are {"base64": ...}, errors
    {"type": ..., "message": ...}.
    """
    with _opened(database, schema) as (storage, control):
        found = control.get(workflow_id)
        if found is None:
            raise DBOSNonExistentWorkflowError(workflow_id)
        event = _event(storage, workflow_id)
    if as_json:
        show_json({**_fields(found), "event": event})
    else:
        show_fields(_readable(found, event))


def _event(storage: Storage, workflow_id: str) -> dict[str, Any] | None:
    stored = storage.read_events([workflow_id]).get(workflow_id)
    if stored is None:
        return None
    names = ("topic", "partition", "offset", "key", "value", "timestamp")
    return {name: getattr(stored, name) for name in names}


def _readable(one: WorkflowStatus, event: dict[str, Any] | None) -> dict[str, object]:
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
        "name": one.name,
        "application": one.application_name,
        "version": one.app_version,
        "executor": one.executor_id,
        "queue": one.queue_name,
        "priority": one.priority or None,
        "deduplication id": one.deduplication_id,
        "parent": one.parent_workflow_id,
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
    with _opened(database, schema) as (_, control):
        if control.get(workflow_id) is None:
            raise DBOSNonExistentWorkflowError(workflow_id)
        found = control.steps(workflow_id)
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
    workflow_ids: Ids, database: Database = None, schema: Schema = None, as_json: AsJson = False
) -> None:
    """Cancel workflows that have not ended; others stay as they are.

    One that runs learns it at its next durable operation. Exits with 1, and changes nothing, when one of
    the ids does not exist.

    Keys of --json: changed, unchanged (lists of ids).
    """
    with _opened(database, schema) as (storage, control):
        changed = control.cancel(workflow_ids)
        _tell(storage, [f"workflow:{workflow_id}" for workflow_id in changed])
    _show_changes(workflow_ids, changed, "was cancelled", "has ended already", as_json=as_json)


@group.command("resume", epilog=examples("dbos-events workflow resume 5f0c..."))
def resume(
    workflow_ids: Ids, database: Database = None, schema: Schema = None, as_json: AsJson = False
) -> None:
    """Let workflows go on that were cancelled or crashed too often, where their history ends.

    Any process of their application takes them up. Those that have finished stay as they are. Exits with
    1, and changes nothing, when one of the ids does not exist.

    Keys of --json: changed, unchanged (lists of ids).
    """
    with _opened(database, schema) as (storage, control):
        changed = control.resume(workflow_ids)
        _tell(storage, ["queues"])
    _show_changes(workflow_ids, changed, "goes on", "has finished, or goes on already", as_json=as_json)


def _tell(storage: Storage, channels: list[str]) -> None:
    """Wake the processes that are concerned; without it they find out by themselves, a little later."""
    if channels:
        with suppress(StorageUnavailable):
            storage.notify(channels)


def _show_changes(asked: list[str], changed: list[str], done: str, not_done: str, *, as_json: bool) -> None:
    unique = list(dict.fromkeys(asked))
    if as_json:
        unchanged = [one for one in unique if one not in changed]
        show_json({"changed": [one for one in unique if one in changed], "unchanged": unchanged})
        return
    for workflow_id in unique:
        say(f"{workflow_id}: {done if workflow_id in changed else not_done}.")

"""`webhook routes`, `list`, `show` and `replay`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from dbos_events.connect import PushedEvent
from dbos_events.connect.commands import CommandTools
from dbos_events.errors import ConfigurationError, DBOSNonExistentWorkflowError
from dbos_events.model.workflow import WorkflowFilter, WorkflowStatus
from dbos_events_webhooks.commands import options
from dbos_events_webhooks.commands.sending import deliver
from dbos_events_webhooks.commands.signing import row_of, signed_request, url_of
from dbos_events_webhooks.event import WebhookEvent
from dbos_events_webhooks.receiving.receiver import CONNECTOR
from dbos_events_webhooks.stored import WebhookMessages

if TYPE_CHECKING:
    from dbos_events_webhooks.receiving.endpoint import Endpoint

PREFIX = "webhook/"

Target = Annotated[str, typer.Argument(metavar="TARGET", help="The program, as for `dbos-events run`.")]
Id = Annotated[str, typer.Argument(metavar="ID", help="The workflow's id, as `list` shows it.")]
Since = Annotated[
    str | None,
    typer.Option(metavar="TIME", help="Received at or after: ISO 8601, or an age such as 15m, 2h, 3d."),
]
Consumer = Annotated[
    str | None, typer.Option(metavar="NAME", help="Of this handler: what its workflows' function is called.")
]
State = Annotated[
    list[str] | None, typer.Option("--status", metavar="STATE", help="In this state, repeatable, as ERROR.")
]
Limit = Annotated[int, typer.Option(min=1, metavar="COUNT", help="So many at most, the newest first.")]
To = Annotated[
    str | None,
    typer.Option(
        "--to", metavar="URL", help="Sign it anew and send it there, instead of running it again here."
    ),
]
Fresh = Annotated[bool, typer.Option("--fresh", help="Run every step again.")]


def routes(ctx: typer.Context, target: Target, as_json: options.AsJson = False) -> None:
    """List the endpoints that a program declares, with their providers and handlers. Nothing is launched.

    Keys of --json, one object for each endpoint: path, provider, handlers, max_body, retired.
    """
    lent = options.tools(ctx)
    app = lent.load_app(target)
    handlers: dict[Endpoint, list[str]] = {}
    for declared in app.pushed:
        if declared.connector == CONNECTOR:
            handlers.setdefault(declared.options.config["endpoint"], []).append(declared.options.name)
    if as_json:
        lent.show_json([_route(endpoint, names) for endpoint, names in handlers.items()])
    elif not handlers:
        lent.say(f"{target} declares no endpoint.")
    else:
        lent.show_table(
            ("PATH", "PROVIDER", "HANDLERS", "MOST BYTES"),
            [
                (
                    endpoint.path,
                    endpoint.provider.row.title,
                    ", ".join(names),
                    str(endpoint.provider.row.max_body),
                )
                for endpoint, names in handlers.items()
            ],
        )


def _route(endpoint: Endpoint, names: list[str]) -> dict[str, Any]:
    row = endpoint.provider.row
    return {
        "path": endpoint.path,
        "provider": row.name,
        "handlers": names,
        "max_body": row.max_body,
        "retired": endpoint.retired,
    }


def list_events(
    ctx: typer.Context,
    *,
    name: Consumer = None,
    status: State = None,
    since: Since = None,
    limit: Limit = 50,
    database: options.Database = None,
    schema: options.Schema = None,
    as_json: options.AsJson = False,
) -> None:
    """List events that were received, the newest first.

    Keys of --json, one object for each: workflow_id, name, status, received_at (milliseconds since 1970).
    """
    lent = options.tools(ctx)
    with lent.opened(database, schema) as control:
        criteria = WorkflowFilter(
            id_prefix=(PREFIX,),
            names=() if name is None else (name,),
            statuses=tuple(state.upper() for state in status or ()),
            created_from=lent.milliseconds(since, control.now_ms()),
            limit=limit,
            descending=True,
            with_input=False,
            with_output=False,
        )
        found: list[WorkflowStatus] = control.workflows.find(criteria)
    if as_json:
        lent.show_json(
            [
                {
                    "workflow_id": each.workflow_id,
                    "name": each.name,
                    "status": each.status,
                    "received_at": each.created_at,
                }
                for each in found
            ]
        )
    elif not found:
        lent.say("No event fits.")
    else:
        lent.show_table(
            ("ID", "STATUS", "HANDLER", "RECEIVED"),
            [(each.workflow_id, each.status, each.name, lent.moment(each.created_at)) for each in found],
        )


def show(
    ctx: typer.Context,
    workflow_id: Id,
    database: options.Database = None,
    schema: options.Schema = None,
    as_json: options.AsJson = False,
) -> None:
    """Show one event: where it came to, its headers and its content, and what became of it.

    Exits with 1 when there is none with that id.

    Keys of --json: workflow_id, status, handler, id, type, endpoint, provider, received_at, headers, body, error.
    """
    lent = options.tools(ctx)
    with lent.opened(database, schema) as control:
        status, event = _found(control, workflow_id)
    said = {
        "workflow_id": workflow_id,
        "status": status.status,
        "handler": status.name,
        "id": event.id,
        "type": event.type,
        "endpoint": event.endpoint,
        "provider": event.provider,
        "received_at": event.received_at.isoformat(),
        "headers": dict(event.headers),
        "body": event.raw.decode("utf-8", "backslashreplace"),
        "error": None if status.error is None else f"{type(status.error).__name__}: {status.error}",
    }
    if as_json:
        lent.show_json(said)
    else:
        lent.show_fields(said)


def replay(
    ctx: typer.Context,
    workflow_id: Id,
    *,
    to: To = None,
    secret: options.Secret = None,
    fresh: Fresh = False,
    database: options.Database = None,
    schema: options.Schema = None,
    as_json: options.AsJson = False,
) -> None:
    """Run an event in quarantine again, or send it, signed anew, to another endpoint with --to.

    Run again, it is the same workflow: steps that succeeded are kept, unless --fresh says otherwise. Sent again, its
    id is the same, so an endpoint that knows it already starts nothing. Exits with 1 when there is no such event, when it
    is not in quarantine, or when the endpoint does not answer with success.

    Keys of --json: changed (a list of ids); with --to, status and body.
    """
    lent = options.tools(ctx)
    if to is not None:
        url_of("--to", to)
    with lent.opened(database, schema) as control:
        _, event = _found(control, workflow_id)
        if to is None:
            _again(lent, control, workflow_id, fresh=fresh, as_json=as_json)
            return
    row = row_of(event.provider, to)
    headers = [(name, value) for name, value in event.headers.items() if name != "host"]
    request = signed_request(row, event.raw, secret=secret, id=event.id, type=event.type, headers=headers)
    status, answer = deliver(to, request.at_path(to))
    if as_json:
        lent.show_json({"status": status, "body": answer})
    else:
        lent.say(f"{status} {answer}".rstrip())
    if not 200 <= status < 300:
        raise typer.Exit(1)


def _again(lent: CommandTools, control: Any, workflow_id: str, *, fresh: bool, as_json: bool) -> None:
    changed = lent.redrive(control, workflow_id, fresh=fresh)
    if as_json:
        lent.show_json({"changed": [workflow_id] if changed else []})
    elif changed:
        lent.say(f"{workflow_id}: runs again.")
    if not changed:
        lent.fail(f"{workflow_id} is not in quarantine. Send it somewhere else with --to URL.")


def _found(control: Any, workflow_id: str) -> tuple[WorkflowStatus, WebhookEvent[Any]]:
    status: WorkflowStatus | None = control.workflows.get(workflow_id)
    stored = control.workflows.event(workflow_id)
    if status is None:
        raise DBOSNonExistentWorkflowError(workflow_id)
    if stored is None or not workflow_id.startswith(PREFIX):
        raise ConfigurationError(f"{workflow_id} was not started by a webhook.")
    pushed = PushedEvent(
        consumer="",
        event_id=(stored.key or b"").decode("utf-8", "replace"),
        payload=stored.value or b"",
        fingerprint=b"",
        received_at=stored.timestamp,
        headers=control.workflows.event_headers(workflow_id),
    )
    return status, WebhookMessages().of(pushed, workflow_id)

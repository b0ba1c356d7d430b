"""`pause` and `resume` of a log's group: stop and start the intake of a consumer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from dbos_events.cli.database import opened
from dbos_events.cli.options import Application, AsJson, Database, Schema
from dbos_events.cli.output import moment, say, show_json, tell_change

if TYPE_CHECKING:
    from dbos_events.model.consumer import ConsumerState
    from dbos_events.model.queue import QueueState

Consumer = Annotated[str, typer.Argument(metavar="CONSUMER", help="The consumer's name.")]
Reason = Annotated[str | None, typer.Option(metavar="TEXT", help="Why; `{group} status` shows it.")]


def pause(
    consumer: Consumer,
    reason: Reason = None,
    application: Application = None,
    database: Database = None,
    schema: Schema = None,
    as_json: AsJson = False,
) -> None:
    """Have a consumer take nothing in, in all processes, until it is resumed.

    What was taken in runs on; the events to come stay in {system}, and the processes stay in the group. Processes
    follow within a second; those that are started later find it paused. Exits with 1 when the application has no
    such consumer.

    Keys of --json: consumer, changed, paused (at, by, reason).
    """
    with opened(database, schema, application) as control:
        state, changed = control.consumers.pause(consumer, reason=reason)
    if as_json:
        show_json({"consumer": consumer, "changed": changed, "paused": paused_fields(state)})
    elif changed:
        say(f"{consumer}: paused.")
    else:
        say(f"{consumer}: is paused already, since {moment(state.paused_at)} by {state.paused_by}.")


def resume(
    consumer: Consumer,
    application: Application = None,
    database: Database = None,
    schema: Schema = None,
    as_json: AsJson = False,
) -> None:
    """Let a consumer take events in again: ends a pause, and closes its circuit breaker.

    Exits with 1 when the application has no such consumer.

    Keys of --json: consumer, changed.
    """
    with opened(database, schema, application) as control:
        changed = control.consumers.resume(consumer)
    what = "goes on" if changed else "is neither paused nor behind an open breaker"
    tell_change("consumer", consumer, what, changed=changed, as_json=as_json)


def paused_fields(state: ConsumerState | QueueState | None) -> dict[str, Any] | None:
    """A pause as `--json` prints it; None without one."""
    if state is None or state.paused_at is None:
        return None
    return {"at": state.paused_at, "by": state.paused_by, "reason": state.paused_reason}


def breaker_fields(state: ConsumerState | None) -> dict[str, Any] | None:
    """A breaker that is not closed as `--json` prints it."""
    if state is None or state.breaker is None:
        return None
    return {
        "state": state.standing,
        "since": state.standing_since,
        "reason": state.breaker_reason,
        "trial_at": state.breaker_until if state.standing == "open" else None,
        "trial": state.trial.workflow_id if state.trial is not None else None,
    }


def shown_state(state: ConsumerState | None) -> tuple[str, str] | None:
    """STATE and DETAIL of a consumer that takes nothing in; None of one that does."""
    if state is None:
        return None
    if state.paused_at is not None:
        why = f": {state.paused_reason}" if state.paused_reason else ""
        return "paused", f"by {state.paused_by} since {moment(state.paused_at)}{why}"
    if state.breaker is None:
        return None
    trial = (
        f"trial at {moment(state.breaker_until)}"
        if state.standing == "open"
        else "the next event is the trial"
        if state.trial is None
        else f"{state.trial.workflow_id} is the trial"
    )
    return (
        f"breaker {state.standing}",
        f"since {moment(state.standing_since)}: {state.breaker_reason}; {trial}",
    )

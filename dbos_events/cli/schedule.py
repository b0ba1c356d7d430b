"""`dbos-events schedule`: look at schedules, account for their ticks, pause, trigger and fill in."""

from __future__ import annotations

import dataclasses
from typing import Annotated, Any

import typer

from dbos_events.cli import filters
from dbos_events.cli.database import opened
from dbos_events.cli.options import Application, AsJson, Database, Schema, examples
from dbos_events.cli.output import (
    moment,
    none_of,
    remark,
    say,
    show_fields,
    show_json,
    show_table,
    tell_change,
)
from dbos_events.errors import DBOSNonExistentScheduleError
from dbos_events.model.schedule import ScheduleAudit, Tick, WorkflowSchedule

group = typer.Typer(
    help="Schedules, and what became of each of their ticks.", no_args_is_help=True, rich_markup_mode=None
)

Name = Annotated[str, typer.Argument(metavar="NAME", help="The schedule's name.")]
Reason = Annotated[str | None, typer.Option(metavar="TEXT", help="Why; `schedule show` tells it.")]
SHOWN = 20


@group.command("list", epilog=examples("dbos-events schedule list", "dbos-events schedule list --json"))
def list_schedules(
    *,
    prefix: Annotated[
        list[str] | None, typer.Option(metavar="TEXT", help="Names that begin so; may be repeated.")
    ] = None,
    all_applications: Annotated[bool, typer.Option("--all", help="Of all applications.")] = False,
    application: Application = None,
    database: Database = None,
    schema: Schema = None,
    as_json: AsJson = False,
) -> None:
    """List the schedules of an application.

    STATE is active, paused, or orphaned: processes live, and none of them has its function any more.

    Keys of --json, one object for each: those of `dbos_events.WorkflowSchedule`. next_at and valid_from are milliseconds
    since 1970 (UTC).
    """
    with opened(database, schema, application) as control:
        chosen = None if all_applications else control.application
        names = tuple(prefix or ())
        found = control.schedules.find(name_prefix=names, application=chosen)
        elsewhere = [] if found else control.schedules.find(name_prefix=names, application=None)
    if as_json:
        show_json([dict(one) for one in found])
        return
    if not found:
        say(none_of("schedule", chosen, (one.application_name for one in elsewhere), "--all-applications"))
        return
    titles = ["NAME", "STATE", "SCHEDULE", "ZONE", "NEXT", "LAST", "WORKFLOW", "DETAIL"]
    show_table(
        titles,
        [
            [
                one.schedule_name,
                _state(one),
                one.schedule,
                one.cron_timezone or "UTC",
                moment(one.next_at),
                one.last_fired_at and one.last_fired_at.replace("+00:00", "Z"),
                one.workflow_name,
                one.alarm,
            ]
            for one in found
        ],
    )


@group.command("show", epilog=examples("dbos-events schedule show daily_report"))
def show(
    name: Name,
    application: Application = None,
    database: Database = None,
    schema: Schema = None,
    as_json: AsJson = False,
) -> None:
    """Show all that is known of a schedule.

    Exits with 1 when the application has no such schedule.

    Keys of --json: those of `dbos_events.WorkflowSchedule`.
    """
    with opened(database, schema, application) as control:
        found = control.schedules.get(name)
        if found is None:
            raise DBOSNonExistentScheduleError(name, control.application)
    if as_json:
        show_json(dict(found))
        return
    shown = dict(found) | {"next_at": moment(found.next_at), "valid_from": moment(found.valid_from)}
    show_fields({"state": _state(found), **shown})


@group.command("next", epilog=examples("dbos-events schedule next daily_report --count 10"))
def next_times(
    name: Name,
    count: Annotated[int, typer.Option("--count", "-n", min=1, max=1000, help="How many.")] = 5,
    application: Application = None,
    database: Database = None,
    schema: Schema = None,
    as_json: AsJson = False,
) -> None:
    """Show when a schedule fires next, in its own zone.

    Exits with 1 when the application has no such schedule.

    Keys of --json, one object for each time: nominal (local, without zone), repeat (1 for the second of a time that
    comes twice), at (ISO 8601), kind (ran, shifted, merged, absent).
    """
    with opened(database, schema, application) as control:
        found = control.schedules.upcoming(name, count)
    rows = [
        {"nominal": fire.nominal.isoformat(), "repeat": fire.repeat, "at": at, "kind": fire.kind}
        for fire, at in found
    ]
    if as_json:
        show_json(rows)
    else:
        show_table(
            ["NOMINAL", "AT", "DETAIL"], [[row["nominal"], row["at"], _remarkable(row)] for row in rows]
        )


@group.command(
    "audit",
    epilog=examples(
        "dbos-events schedule audit daily_report --since 31d",
        "dbos-events schedule audit daily_report --json",
    ),
)
def audit(
    name: Name,
    since: filters.Since = None,
    until: filters.Until = None,
    application: Application = None,
    database: Database = None,
    schema: Schema = None,
    as_json: AsJson = False,
) -> None:
    """Account for every nominal time of a schedule: how many there were, and what became of each.

    A tick that is due at this moment may not have been decided yet. Exits with 1 when one has no outcome, or the
    application has no such schedule.

    Keys of --json: name, begin, end (milliseconds since 1970, UTC), expected, explained, outcomes (a number for each
    outcome), unexplained, ticks (those of `schedule`, `kind`, `nominal`, `zone`, `repeat`, `outcome`, `due_at`, `until`,
    `workflow_id`, `detail`, `decided_at`, `executor`).
    """
    with opened(database, schema, application) as control:
        now = control.now_ms()
        found = control.schedules.audit(
            name, filters.milliseconds(since, now), filters.milliseconds(until, now)
        )
    if as_json:
        show_json({**dataclasses.asdict(found), "explained": found.explained})
    else:
        _show_audit(found)
    if found.unexplained:
        raise typer.Exit(1)


def _show_audit(found: ScheduleAudit) -> None:
    outcomes = ", ".join(f"{count} {outcome}" for outcome, count in sorted(found.outcomes.items()))
    say(
        f"{found.name}: {found.explained} of {found.expected} ticks from {moment(found.begin)} to {moment(found.end)}"
        f"{': ' if outcomes else ''}{outcomes}."
    )
    remarkable = [tick for tick in found.ticks if tick.outcome != "ran" or tick.until is not None]
    if remarkable:
        show_table(
            ["NOMINAL", "OUTCOME", "WORKFLOW", "DETAIL"],
            [[_nominal(tick), tick.outcome, tick.workflow_id, tick.detail] for tick in remarkable[-SHOWN:]],
        )
    if len(remarkable) > SHOWN:
        remark(f"The last {SHOWN} of {len(remarkable)} that did not simply run; --json has all.")
    for nominal in found.unexplained[:SHOWN]:
        say(f"without an outcome: {nominal}")


@group.command("pause", epilog=examples("dbos-events schedule pause daily_report --reason 'new figures'"))
def pause(
    name: Name,
    reason: Reason = None,
    application: Application = None,
    database: Database = None,
    schema: Schema = None,
    as_json: AsJson = False,
) -> None:
    """Have the ticks of a schedule start nothing until it is resumed; each is noted as paused.

    Exits with 1 when the application has no such schedule.

    Keys of --json: name, changed.
    """
    with opened(database, schema, application) as control:
        changed = control.schedules.pause(name, reason=reason)
    what = "paused" if changed else "is paused already"
    tell_change("name", name, what, changed=changed, as_json=as_json)


@group.command("resume", epilog=examples("dbos-events schedule resume daily_report"))
def resume(
    name: Name,
    application: Application = None,
    database: Database = None,
    schema: Schema = None,
    as_json: AsJson = False,
) -> None:
    """Have the ticks of a schedule start workflows again, from now on; clears its alarm.

    Exits with 1 when the application has no such schedule.

    Keys of --json: name, changed.
    """
    with opened(database, schema, application) as control:
        changed = control.schedules.resume(name)
    what = "goes on" if changed else "is not paused"
    tell_change("name", name, what, changed=changed, as_json=as_json)


@group.command("trigger", epilog=examples("dbos-events schedule trigger daily_report"))
def trigger(
    name: Name,
    application: Application = None,
    database: Database = None,
    schema: Schema = None,
    as_json: AsJson = False,
) -> None:
    """Start a schedule's workflow once, now, whatever its pause and its overlap.

    A process of the application that has the function runs it. Exits with 1 when the application has no such schedule.

    Keys of --json: name, workflow_id.
    """
    with opened(database, schema, application) as control:
        workflow_id = control.schedules.trigger(name)
    if as_json:
        show_json({"name": name, "workflow_id": workflow_id})
    else:
        say(workflow_id)


@group.command(
    "backfill",
    epilog=examples(
        "dbos-events schedule backfill daily_report --from 2026-11-01T00:00:00Z --to 2026-11-08T00:00:00Z"
    ),
)
def backfill(
    name: Name,
    begin: Annotated[
        str, typer.Option("--from", metavar="WHEN", help="After this time (ISO 8601), or an age.")
    ],
    end: Annotated[
        str | None, typer.Option("--to", metavar="WHEN", help="Before this time, or an age; now by default.")
    ] = None,
    application: Application = None,
    database: Database = None,
    schema: Schema = None,
    as_json: AsJson = False,
) -> None:
    """Start the workflows of all ticks of a schedule in a time, both ends left out.

    The workflow of a tick that ran is the same one, and does not run again. Exits with 1 when the application has no such
    schedule.

    Keys of --json: name, workflow_ids.
    """
    with opened(database, schema, application) as control:
        now = control.now_ms()
        first, last = filters.milliseconds(begin, now), filters.milliseconds(end, now)
        ids = control.schedules.backfill(name, first or 0, now if last is None else last)
    if as_json:
        show_json({"name": name, "workflow_ids": ids})
        return
    for workflow_id in ids:
        say(workflow_id)
    remark(f"{len(ids)} ticks.")


def _state(one: WorkflowSchedule) -> str:
    return "orphaned" if one.orphaned else one.status.lower()


def _remarkable(row: dict[str, Any]) -> str | None:
    if row["repeat"]:
        return "the second of two"
    return None if row["kind"] == "ran" else str(row["kind"])


def _nominal(tick: Tick) -> str:
    until = f" to {moment(tick.until)}" if tick.until is not None else ""
    return f"{tick.nominal}{until}{' (second)' if tick.repeat else ''}"

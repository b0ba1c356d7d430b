"""`dbos-events processes`: which processes there are, and what each has."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Annotated

import typer

from dbos_events.cli.database import opened
from dbos_events.cli.options import Application, AsJson, Database, Schema, examples
from dbos_events.cli.output import age, moment, remark, show_json, show_table
from dbos_events.cli.tables import Column

if TYPE_CHECKING:
    from dbos_events.model.process import ProcessState


def add_to(app: typer.Typer) -> None:
    """Make it a command."""
    app.command(
        "processes",
        epilog=examples(
            "dbos-events processes", "dbos-events processes --json | jq '.[] | select(.state != \"alive\")'"
        ),
    )(processes)


def processes(
    *,
    all_applications: Annotated[
        bool, typer.Option("--all-applications", help="Those of every application in the database.")
    ] = False,
    application: Application = None,
    database: Database = None,
    schema: Schema = None,
    as_json: AsJson = False,
) -> None:
    """List the processes of an application: the live ones, and those that ended within the last hour.

    STATE is `silent` where the lease is over and nobody has declared the process dead yet, `dead` where it has
    ended; DETAIL says why, or which step has been running there the longest (told by the process after some
    seconds). WORKFLOWS counts what it owns, PARTITIONS what it holds.

    Keys of --json, one object for each process: executor (the number of this process start), application, label,
    pid, version, state, started_at, seen_ms (how long its lease has been over), ended_at, end_reason, workflows,
    partitions, longest_step, longest_step_ms. Times are milliseconds since 1970 (UTC). What does not apply is null.
    """
    with opened(database, schema, application) as control:
        name = None if all_applications else control.application
        found = control.processes.list(name)
        now = control.now_ms()
    if as_json:
        show_json(found)
    elif found:
        _show(found, now, all_applications=all_applications)
    else:
        print(f"No process of {name!r} lives, and none has ended within the last hour." if name else "None.")


def _show(found: list[ProcessState], now: int, *, all_applications: bool) -> None:
    columns = [
        Column("APPLICATION"),
        Column("PROCESS"),
        Column("EXECUTOR", rank=4),
        Column("VERSION", rank=3),
        Column("STATE", coloured=True),
        Column("UP", rank=2),
        Column("STARTED", rank=5),
        Column("WORKFLOWS"),
        Column("PARTITIONS"),
        Column("DETAIL", text=True, rank=1),
    ]
    rows: list[tuple[object, ...]] = [
        (
            one.application,
            f"{one.label}:{one.pid}",
            one.executor,
            one.version,
            one.state,
            age((one.ended_at or now) - one.started_at),
            moment(one.started_at),
            one.workflows,
            one.partitions,
            _detail(one, now),
        )
        for one in found
    ]
    if not all_applications:
        columns, rows = columns[1:], [row[1:] for row in rows]
    show_table(columns, rows)
    states = Counter(one.state for one in found)
    counted = ", ".join(f"{count} {state}" for state, count in sorted(states.items()))
    remark(f"{len(found)} process{'' if len(found) == 1 else 'es'}: {counted}.")


def _detail(one: ProcessState, now: int) -> str | None:
    if one.state == "dead":
        return f"{one.end_reason or 'ended'}, {age(now - (one.ended_at or now))} ago"
    if one.state == "silent":
        return f"no heartbeat; its lease is over since {age(one.seen_ms)}"
    if one.longest_step is not None:
        return f"{one.longest_step} runs for {age(one.longest_step_ms)}"
    return None

"""`dbos-events match`: publications and waits that found no partner, and what becomes of them."""

from __future__ import annotations

from typing import Annotated

import typer

from dbos_events.cli.database import opened
from dbos_events.cli.filters import Limit
from dbos_events.cli.options import Application, AsJson, Database, Schema, examples
from dbos_events.cli.output import moment, say, show_json, show_table

group = typer.Typer(help="Publications, and who waits for them.", no_args_is_help=True, rich_markup_mode=None)

Number = Annotated[int, typer.Argument(metavar="NUMBER", help="The publication's number.")]
Reason = Annotated[str | None, typer.Option(metavar="TEXT", help="Why; it is kept with the decision.")]
Name = Annotated[str | None, typer.Option(metavar="NAME", help="Only what is published under this name.")]


@group.command(
    "unmatched",
    epilog=examples("dbos-events match unmatched", "dbos-events match unmatched --name payment --json"),
)
def unmatched(
    name: Name = None,
    limit: Limit = 50,
    application: Application = None,
    database: Database = None,
    schema: Schema = None,
    as_json: AsJson = False,
) -> None:
    """List publications that nobody has seen, open or expired, and calls of workflows that wait, oldest first.

    Keys of --json: publications (number, name, key, codec, value, event_id, publisher, published_at, expires_at,
    state), waits (number, name, key, workflow_id, step, takes, registered_at, wake_at), counts (by name and state).
    """
    with opened(database, schema) as control:
        publications, waits = control.matches.unmatched(application, name, limit)
        counts = control.matches.counts(application)
    if as_json:
        show_json({"publications": publications, "waits": waits, "counts": counts})
        return
    if publications:
        show_table(
            ("NUMBER", "NAME", "KEY", "STATE", "PUBLISHED", "EXPIRES", "VALUE"),
            [
                (
                    one.number,
                    one.name,
                    one.key,
                    one.state,
                    moment(one.published_at),
                    moment(one.expires_at),
                    one.value,
                )
                for one in publications
            ],
        )
    else:
        say("Every publication was seen.")
    say("")
    if waits:
        show_table(
            ("NAME", "KEY", "WORKFLOW", "SINCE", "TAKES"),
            [
                (one.name, one.key, one.workflow_id, moment(one.registered_at), bool(one.takes))
                for one in waits
            ],
        )
    else:
        say("Nobody waits.")


@group.command("list", epilog=examples("dbos-events match list"))
def list_counts(
    application: Application = None,
    database: Database = None,
    schema: Schema = None,
    as_json: AsJson = False,
) -> None:
    """Count the publications of each name by what became of them.

    Keys of --json: by name, how many are open, seen, taken, over, expired, discarded.
    """
    with opened(database, schema) as control:
        counts = control.matches.counts(application)
    if as_json:
        show_json(counts)
    elif not counts:
        say("Nothing was ever published.")
    else:
        rows = [(name, state, count) for name, states in counts.items() for state, count in states.items()]
        show_table(("NAME", "STATE", "PUBLICATIONS"), rows)


@group.command(
    "force",
    epilog=examples("dbos-events match force 17 --key order-7 --reason 'a digit was wrong in the file'"),
)
def force(
    number: Number,
    key: Annotated[str | None, typer.Option(metavar="KEY", help="Publish it under this key instead.")] = None,
    ttl: Annotated[
        float | None, typer.Option(metavar="SECONDS", help="How long it is kept now; for ever by default.")
    ] = None,
    reason: Reason = None,
    database: Database = None,
    schema: Schema = None,
    as_json: AsJson = False,
) -> None:
    """Open a publication again that has expired or was given up, perhaps under another key; who waits there gets it.

    Exits with 1 when there is none of that number, or somebody has taken it.

    Keys of --json: number, key.
    """
    with opened(database, schema) as control:
        control.matches.force(number, key=key, ttl_seconds=ttl, reason=reason)
    if as_json:
        show_json({"number": number, "key": key})
    else:
        say(f"{number}: open{f' under {key}' if key is not None else ''}.")


@group.command("discard", epilog=examples("dbos-events match discard 17 --reason 'a test payment'"))
def discard(
    number: Number,
    reason: Reason = None,
    database: Database = None,
    schema: Schema = None,
    as_json: AsJson = False,
) -> None:
    """Give a publication up that found nobody.

    Exits with 1 when there is none of that number, or it is neither open nor expired.

    Keys of --json: number.
    """
    with opened(database, schema) as control:
        control.matches.discard(number, reason=reason)
    if as_json:
        show_json({"number": number})
    else:
        say(f"{number}: given up.")

"""`dbos-events quarantine`: events that were put aside, and what becomes of them."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import typer

from dbos_events.cli.database import opened
from dbos_events.cli.filters import Limit
from dbos_events.cli.naming import WithLogExamples
from dbos_events.cli.options import AsJson, Database, Schema, examples
from dbos_events.cli.output import cell_text, moment, remark, show_fields, show_json, show_table
from dbos_events.cli.quarantine_filters import Chosen, with_filters
from dbos_events.cli.tables import Column
from dbos_events.errors import DBOSException
from dbos_events.model.quarantine import QuarantineCount, QuarantinedDetail, QuarantinedEvent

group = typer.Typer(help="Events that were put aside.", no_args_is_help=True, rich_markup_mode=None)

TOP = 10
"""So many of the groups that fit are told at the end of a list."""

Id = Annotated[str, typer.Argument(metavar="ID", help="The event's workflow id.")]


# ------------------------------------------------------------------ list


@group.command(
    "list",
    epilog=examples(
        "dbos-events quarantine list",
        "dbos-events quarantine list --consumer on_order --error-type TimeoutError --since 2h",
        "dbos-events quarantine list --topic orders --partition 3 --json",
    ),
)
@with_filters
def list_quarantined(
    *,
    released: Annotated[
        bool, typer.Option("--released", help="Also those that somebody has decided about.")
    ] = False,
    chosen: Chosen,
    limit: Limit = 50,
    database: Database = None,
    schema: Schema = None,
    as_json: AsJson = False,
) -> None:
    """List events in quarantine, those first that have been there the longest.

    Those that fit all filters given; of a filter that is repeated, one must fit. LANE is shown where later
    events wait behind one.

    Keys of --json, one object for each event: workflow_id, application, consumer, topic, partition, offset,
    status, generation, attempts, reason, error_type, error_message, lane, quarantined_at, released_at,
    released_as. Times are milliseconds since 1970 (UTC).
    """
    with opened(database, schema) as control:
        criteria = chosen.at(control.now_ms(), released=released, limit=limit + 1)
        found = control.quarantine.find(criteria)
        counts = [] if as_json or not found else control.quarantine.counts(criteria)
    if as_json:
        show_json(found[:limit])
    else:
        _show_list(found[:limit], more=len(found) > limit)
        _show_counts(counts)


def _show_list(found: list[QuarantinedEvent], *, more: bool) -> None:
    if not found:
        print("No event fits.")
        return
    show_table(
        (
            Column("ID"),
            Column("CONSUMER", rank=3),
            Column("REASON"),
            Column("ATTEMPTS", rank=6),
            Column("SINCE", rank=2),
            Column("LANE", rank=5),
            Column("RELEASED", rank=4),
            Column("ERROR", text=True, rank=1),
        ),
        [
            (
                one.workflow_id,
                one.consumer,
                one.reason,
                one.attempts,
                moment(one.quarantined_at),
                one.lane,
                one.released_as,
                _first_line(one.error_type, one.error_message),
            )
            for one in found
        ],
    )
    if more:
        typer.echo(f"There are more than these {len(found)}: use --limit or a filter.", err=True)


def _show_counts(counts: list[QuarantineCount]) -> None:
    """All that fit, whatever the limit, by what they have in common."""
    if not counts:
        return
    by_reason: Counter[str] = Counter()
    for one in counts:
        by_reason[one.reason] += one.count
    reasons = ", ".join(f"{reason} {count}" for reason, count in by_reason.most_common())
    remark(f"{by_reason.total()} events: {reasons}.")
    for one in counts[:TOP]:
        remark(f"  {one.count} of {one.consumer}: {one.reason}, {one.error_type or 'no error'}")


def _first_line(error_type: str | None, message: str | None) -> str | None:
    if error_type is None:
        return None
    return f"{error_type}: {(message or '').partition(chr(10))[0]}".removesuffix(": ")


# ------------------------------------------------------------------ show


@group.command(
    "show",
    cls=WithLogExamples,
    epilog=examples(
        "dbos-events quarantine show '{group}/shop.on_order/orders/1/0/17'",
        "dbos-events quarantine show '{group}/shop.on_order/orders/1/0/17' --raw order.json",
    ),
)
def show(
    workflow_id: Id,
    raw: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Write the value's bytes to this file, and nothing else; - is standard output.",
        ),
    ] = None,
    edited: Annotated[
        bool, typer.Option("--edited", help="With --raw: the value that it was redriven with last.")
    ] = False,
    database: Database = None,
    schema: Schema = None,
    as_json: AsJson = False,
) -> None:
    """Show one event: its bytes, its error, what was tried, and what was decided.

    Exits with 1 when there is no workflow with that id, or when it never was in quarantine.

    Keys of --json: event (the keys of `list`), key, value, headers, timestamp, error, traceback, edits,
    generations, decisions. `value` is what was received, whatever was edited since. Bytes that are no text
    are {"base64": ...}.
    """
    with opened(database, schema) as control:
        found = control.quarantine.show(workflow_id)
    if raw is not None:
        _write_raw(found, raw, edited=edited)
    elif as_json:
        show_json(found)
    else:
        _show_detail(found)


def _write_raw(found: QuarantinedDetail, file: Path, *, edited: bool) -> None:
    value = found.edits[0].value if edited and found.edits else found.value
    if edited and not found.edits:
        raise DBOSException(f"{found.event.workflow_id} has no edited value.")
    if value is None:
        raise DBOSException(f"{found.event.workflow_id} has no value: it is a tombstone.")
    if str(file) == "-":
        sys.stdout.buffer.write(value)
        sys.stdout.flush()
    else:
        file.write_bytes(value)


def _show_detail(found: QuarantinedDetail) -> None:
    event = found.event
    fields: dict[str, object] = {
        "id": event.workflow_id,
        "application": event.application,
        "consumer": event.consumer,
        "topic": event.topic,
        "partition": event.partition,
        "offset": event.offset,
        "lane": event.lane,
        "status": event.status,
        "reason": event.reason,
        "attempts": event.attempts,
        "generation": event.generation or None,
        "in quarantine since": moment(event.quarantined_at),
        "released": moment(event.released_at),
        "released as": event.released_as,
        "timestamp": moment(found.timestamp) if found.timestamp else None,
        "key": found.key,
        "headers": dict(found.headers or ()) or None,
        "value": "(a tombstone)" if found.value is None else found.value,
        "edited value": found.edits[0].value if found.edits else None,
        "error": _first_line(event.error_type, event.error_message),
    }
    show_fields({name: _shown(value) for name, value in fields.items() if value is not None})
    _show_history(found)
    if found.traceback:
        print("\nTraceback:")
        for line in found.traceback.rstrip().splitlines():
            print(f"  {cell_text(line)}" if line.strip() else "")


def _shown(value: object) -> object:
    """Bytes as their text, else in hexadecimal: what `cell_text` makes of them is for JSON."""
    if isinstance(value, bytes):
        try:
            return value.decode()
        except UnicodeDecodeError:
            return f"0x{value.hex()}"
    if isinstance(value, Mapping):
        return {name: _shown(one) for name, one in value.items()}
    return value


def _show_history(found: QuarantinedDetail) -> None:
    if found.generations:
        print("\nGenerations:")
        show_table(
            ("GENERATION", "ATTEMPT", "ENDED", "AS", "NEXT", "DONE ANEW", "ERROR"),
            [
                (
                    one.generation,
                    one.attempt,
                    moment(one.ended_at),
                    one.ended_as,
                    moment(one.next_at),
                    ", ".join(f"{number} {name}" for number, name in one.steps),
                    _first_line(one.error_type, one.error_message),
                )
                for one in found.generations
            ],
        )
    if found.decisions:
        print("\nDecisions:")
        show_table(
            ("WHEN", "WHO", "WHAT", "GENERATION", "WHY", "HOW"),
            [
                (
                    moment(one.decided_at),
                    one.decided_by,
                    one.decision,
                    one.generation,
                    one.reason,
                    one.details or None,
                )
                for one in found.decisions
            ],
        )

"""`dbos-events kafka`: what the database says about the consumers of topics."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dbos_events.cli import pausing, proofs
from dbos_events.cli.database import opened
from dbos_events.cli.options import Application, AsJson, Database, Schema, examples
from dbos_events.cli.output import say, show_json, show_table
from dbos_events.cli.sources import source_cells, source_fields

if TYPE_CHECKING:
    from dbos_events.model.consumer import ConsumerState, PartitionState, SourceRow

    States = Mapping[tuple[str, str], ConsumerState]

group = typer.Typer(help="Consumers of Kafka topics.", no_args_is_help=True, rich_markup_mode=None)

TITLES = (
    *("CONSUMER", "GROUP", "TOPIC", "PARTITION", "STATE", "HOLDER"),
    *("WATERMARK", "END", "LAG", "IN FLIGHT", "HELD", "QUARANTINED", "FILTERED", "EXPIRED", "DETAIL"),
)
KEYS = (
    *("application", "consumer", "group", "topic", "incarnation", "partition", "holder", "holder_alive"),
    *(
        "watermark",
        "end_offset",
        "lag",
        "in_flight",
        "held",
        "quarantined",
        "filtered",
        "expired",
        "state",
        "detail",
    ),
    *("paused", "breaker"),
)


pausing.add_to(group)
proofs.add_to(group)


@group.command(
    "status",
    epilog=examples(
        "dbos-events kafka status",
        "dbos-events kafka status --json | jq '[.[].lag] | add'",
    ),
)
def status(
    all_applications: Annotated[
        bool, typer.Option("--all-applications", help="Those of every application in the database.")
    ] = False,
    application: Application = None,
    database: Database = None,
    schema: Schema = None,
    as_json: AsJson = False,
) -> None:
    """Show how far each consumer is in each partition.

    It asks the database alone; neither the service nor the broker need to run. WATERMARK is the next
    offset to take in, END what the broker had when the holder last asked, LAG the difference. IN FLIGHT
    events run, HELD ones wait for their turn, QUARANTINED ones were put aside after they failed, FILTERED
    ones were left out by the consumer's `when`, EXPIRED ones were too late by its `expires`. STATE is `paused` or
    `breaker open` where the consumer takes nothing in.

    A process that has no partition of a consumer is a line without partition: STATE and DETAIL say what it
    waits for.

    Keys of --json, one object for each line: application, consumer, group, topic, incarnation (number
    of this life of the topic), partition, holder (label of the process, or null), holder_alive, watermark,
    end_offset, lag, in_flight, held, quarantined, filtered, expired, state, detail, paused (at, by, reason), breaker
    (state, since, reason, trial_at, trial). What is not known, or does not apply, is null.
    """
    with opened(database, schema, application) as control:
        name = None if all_applications else control.application
        rows = control.positions.partitions(name)
        idle = control.consumers.idle(name)
        others = [] if rows or idle else control.positions.partitions()
        states = {(state.application, state.name): state for state in control.consumers.states()}
    if as_json:
        found = [fields(row, states.get((row.application, row.consumer))) for row in rows]
        show_json(found + [idle_fields(row, states.get((row.application, row.consumer))) for row in idle])
    elif rows or idle:
        _show(rows, idle, states, all_applications=all_applications)
    else:
        say(_nothing(control.application, sorted({row.application for row in others})))


def fields(row: PartitionState, state: ConsumerState | None) -> dict[str, Any]:
    """One partition as `--json` prints it."""
    return {
        "application": row.application,
        "consumer": row.consumer,
        "group": row.group,
        "topic": row.topic,
        "incarnation": row.incarnation,
        "partition": row.partition,
        "holder": row.holder,
        "holder_alive": row.holder_alive,
        "watermark": row.next_offset,
        "end_offset": row.end_offset,
        "lag": _lag(row),
        "in_flight": row.in_flight,
        "held": row.held,
        "quarantined": row.quarantined,
        "filtered": row.filtered,
        "expired": row.expired,
        "state": row.state,
        "detail": row.detail,
        "paused": pausing.paused_fields(state),
        "breaker": pausing.breaker_fields(state),
    }


def idle_fields(row: SourceRow, state: ConsumerState | None) -> dict[str, Any]:
    """One process without a partition as `--json` prints it."""
    stands = {"paused": pausing.paused_fields(state), "breaker": pausing.breaker_fields(state)}
    return {**source_fields(row, KEYS), **stands}


def _lag(row: PartitionState) -> int | None:
    """The end is asked for now and then, so the watermark may be past it; markers of transactions are no records."""
    if row.end_offset is None:
        return None
    return max(0, row.end_offset - max(row.next_offset, row.reached or 0))


def _show(
    rows: list[PartitionState], idle: list[SourceRow], states: States, *, all_applications: bool
) -> None:
    lines = [(row.application, *_cells(row, states.get((row.application, row.consumer)))) for row in rows]
    lines += [
        (row.application, *source_cells(row, states.get((row.application, row.consumer)))) for row in idle
    ]
    if all_applications:
        show_table(("APPLICATION", *TITLES), lines)
    else:
        show_table(TITLES, [line[1:] for line in lines])


def _cells(row: PartitionState, consumer: ConsumerState | None) -> tuple[object, ...]:
    stands = None if row.state == "halted" else pausing.shown_state(consumer)
    state, detail = stands or (row.state, row.detail)
    where = (row.consumer, row.group, row.topic, row.partition, state, _holder(row))
    counts = (row.next_offset, row.end_offset, _lag(row), row.in_flight, row.held, row.quarantined)
    return (*where, *counts, row.filtered, row.expired, detail)


def _holder(row: PartitionState) -> str | None:
    if row.holder is None or row.holder_alive:
        return row.holder
    return f"{row.holder} (not alive)"


def _nothing(application: str, others: list[str]) -> str:
    text = f"No consumer of the application {application!r} has read from a topic yet."
    if others:
        text += (
            f" The database has consumers of {', '.join(others)}: use --application or --all-applications."
        )
    return text

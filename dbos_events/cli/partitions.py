"""`status` of a log's group: what the database says about the consumers of topics."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

from dbos_events.cli import pausing
from dbos_events.cli.database import opened
from dbos_events.cli.naming import connector_of
from dbos_events.cli.options import Application, AsJson, Database, Schema, examples
from dbos_events.cli.output import age, elsewhere, on_terminal, remark, say, show_json, show_table
from dbos_events.cli.sources import source_cells, source_fields
from dbos_events.cli.tables import Column
from dbos_events.errors import DBOSException, StorageUnavailable

if TYPE_CHECKING:
    from dbos_events.control.control import Control
    from dbos_events.model.consumer import ConsumerState, PartitionState, SourceRow

    States = Mapping[tuple[str, str], ConsumerState]

COLUMNS = (
    Column("CONSUMER"),
    Column("GROUP", rank=9),
    Column("TOPIC"),
    Column("PARTITION"),
    Column("STATE", coloured=True),
    Column("HOLDER", rank=3),
    Column("WATERMARK", rank=6),
    Column("END", rank=7),
    Column("LAG"),
    Column("IN FLIGHT", rank=5),
    Column("HELD", rank=4),
    Column("WAITING", rank=2),
    Column("OLDEST", rank=1),
    Column("QUARANTINED"),
    Column("FILTERED", rank=8),
    Column("EXPIRED", rank=8),
    Column("DETAIL", text=True),
)
PER_SECOND = Column("PER SECOND", rank=2)
KEYS = (
    *("application", "consumer", "group", "topic", "incarnation", "partition", "holder", "holder_alive", "holder_pid"),
    *("watermark", "end_offset", "lag", "in_flight", "held", "waiting", "oldest_seconds", "quarantined", "filtered"),
    *("expired", "state", "detail", "paused", "breaker"),
)  # fmt: skip
FIRST_DETAILS = 20
EXAMPLES = examples(
    "dbos-events {group} status",
    "dbos-events {group} status --watch",
    "dbos-events {group} status --broker",
    "dbos-events {group} status --json | jq '[.[].lag] | add'",
)


def status(  # noqa: PLR0913 - one argument per option
    ctx: typer.Context,
    *,
    all_applications: Annotated[
        bool, typer.Option("--all-applications", help="Those of every application in the database.")
    ] = False,
    broker: Annotated[
        bool,
        typer.Option("--broker", help="Ask {system} for END, so that LAG is known though no process reads."),
    ] = False,
    watch: Annotated[bool, typer.Option("--watch", help="Show it again and again, until Ctrl-C.")] = False,
    interval: Annotated[
        float, typer.Option("--interval", min=0.1, metavar="SECONDS", help="How often --watch asks.")
    ] = 2.0,
    application: Application = None,
    database: Database = None,
    schema: Schema = None,
    as_json: AsJson = False,
) -> None:
    """Show how far each consumer is in each partition.

    It asks the database alone; neither the service nor the broker need to run. WATERMARK is the next
    offset to take in, END what the broker had when the holder last asked, LAG the difference: unknown where
    nobody has asked for 15 seconds, unless --broker asks now. IN FLIGHT events run or wait for a time, HELD ones
    wait behind others or on a queue, WAITING are all that were taken in and do not run, OLDEST says how
    long ago the oldest of all these was taken in. QUARANTINED ones were put aside after they failed, FILTERED
    ones were left out by the consumer's `when`, EXPIRED ones were too late by its `expires`. STATE is `no
    process` where no live process holds the partition, `silent` where its holder has told nothing for 15
    seconds, `paused` or `breaker open` where the consumer takes nothing in. HOLDER is the process's label
    and pid.

    A process that has no partition of a consumer is a line without partition: STATE and DETAIL say what it
    waits for.

    Keys of --json, one object for each line: application, consumer, group, topic, incarnation (number
    of this life of the topic), partition, holder (label of the process, or null), holder_alive, holder_pid,
    watermark, end_offset, lag, in_flight, held, waiting, oldest_seconds, quarantined, filtered, expired, state,
    detail, paused (at, by, reason), breaker (state, since, reason, trial_at, trial). What is not known, or does not
    apply, is null. With --watch it is one array a line.
    """
    asked = _Asked(all_applications, connector_of(ctx) if broker else None, as_json)
    with opened(database, schema, application) as control:
        if watch:
            _watch(control, asked, interval)
        else:
            _show(control, asked, asked.of(control))


class _Seen(NamedTuple):
    """How the consumers stand at one moment."""

    rows: list[PartitionState]
    idle: list[SourceRow]
    states: States
    others: list[str]
    at: float


class _Asked(NamedTuple):
    """What the command line asks for; `broker` is the connector that asks it."""

    all_applications: bool
    broker: str | None
    as_json: bool

    def of(self, control: Control) -> _Seen:
        name = None if self.all_applications else control.application
        rows = control.positions.partitions(name)
        idle = control.consumers.idle(name)
        others = [] if rows or idle else control.positions.partitions()
        if self.broker is not None:
            rows = control.positions.with_ends(self.broker, rows, name)
        states = {(state.application, state.name): state for state in control.consumers.states()}
        return _Seen(rows, idle, states, sorted({row.application for row in others}), time.monotonic())


# ------------------------------------------------------------------ once, and again


def _watch(control: Control, asked: _Asked, interval: float) -> None:
    """Show it until the user has seen enough; a server that is away is told, and asked again."""
    before: _Seen | None = None
    try:
        while True:
            try:
                seen = asked.of(control)
            except (StorageUnavailable, DBOSException) as error:
                _begin_anew(asked)
                remark(f"dbos-events: {error.message}")
            else:
                _begin_anew(asked)
                _show(control, asked, seen, before, watched=True)
                before = seen
            time.sleep(interval)
    except KeyboardInterrupt:
        return


def _begin_anew(asked: _Asked) -> None:
    if on_terminal() and not asked.as_json:
        print("\x1b[H\x1b[2J", end="")
    print(time.strftime("%H:%M:%S") if not asked.as_json else "", end="\n" if not asked.as_json else "")


def _show(
    control: Control, asked: _Asked, seen: _Seen, before: _Seen | None = None, *, watched: bool = False
) -> None:
    states = seen.states
    if asked.as_json:
        found = [fields(row, states.get((row.application, row.consumer))) for row in seen.rows]
        found += [idle_fields(row, states.get((row.application, row.consumer))) for row in seen.idle]
        show_json(found, in_one_line=watched)
    elif seen.rows or seen.idle:
        _show_table(asked, seen, before, watched=watched)
    else:
        say(_nothing(control.application, seen.others))
    sys.stdout.flush()


# ------------------------------------------------------------------ JSON


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
        "holder_pid": row.holder_pid,
        "watermark": row.next_offset,
        "end_offset": row.end_offset,
        "lag": row.lag,
        "in_flight": row.in_flight,
        "held": row.held,
        "waiting": row.waiting,
        "oldest_seconds": None if row.oldest_ms is None else row.oldest_ms // 1000,
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


# ------------------------------------------------------------------ the table


def _show_table(asked: _Asked, seen: _Seen, before: _Seen | None, *, watched: bool) -> None:
    states = seen.states
    lines = [
        (row.application, *_cells(row, states.get((row.application, row.consumer)))) for row in seen.rows
    ]
    lines += [
        (row.application, *source_cells(row, states.get((row.application, row.consumer))))
        for row in seen.idle
    ]
    columns: list[Column] = [Column("APPLICATION"), *COLUMNS]
    if watched:
        rates = _rates(seen, before)
        columns.insert(-1, PER_SECOND)
        lines = [(*line[:-1], rate, line[-1]) for line, rate in zip(lines, rates, strict=True)]
    if not asked.all_applications:
        columns, lines = columns[1:], [line[1:] for line in lines]
    if on_terminal():  # there details have more room below the table
        show_table(columns[:-1], [line[:-1] for line in lines])
        _show_details(columns, lines)
    else:
        show_table(columns, lines)
    _show_totals(seen)


def _rates(seen: _Seen, before: _Seen | None) -> list[object]:
    """How many offsets a second each partition has moved since it was last shown."""
    known = {_place(row): row.next_offset for row in before.rows} if before is not None else {}
    seconds = seen.at - before.at if before is not None else 0.0
    rates: list[object] = []
    for row in seen.rows:
        last = known.get(_place(row))
        rates.append(None if last is None or seconds <= 0 else round((row.next_offset - last) / seconds))
    return [*rates, *(None for _ in seen.idle)]


def _place(row: PartitionState) -> tuple[str, str, int, int]:
    return row.application, row.consumer, row.incarnation, row.partition


def _show_details(columns: Sequence[Column], lines: Sequence[Sequence[object]]) -> None:
    """Each detail once, with the partitions that it is about."""
    consumer, topic, partition, state = (
        [column.title for column in columns].index(title)
        for title in ("CONSUMER", "TOPIC", "PARTITION", "STATE")
    )
    about: dict[tuple[object, ...], list[str]] = {}
    for line in lines:
        if line[-1] is not None:
            about.setdefault((line[consumer], line[topic], line[state], line[-1]), []).append(
                str(line[partition])
            )
    for number, ((name, place, stands, detail), numbers) in enumerate(about.items()):
        if number == FIRST_DETAILS:
            say(f"({len(about) - number} more; --json has all)")
            break
        where = f"{place}[{','.join(numbers)}]" if numbers != ["None"] else place
        say(f"{name}, {where}, {stands}: {detail}")


def _show_totals(seen: _Seen) -> None:
    rows = seen.rows
    if not rows:
        return
    unknown = sum(row.lag is None and row.state not in ("retired", "left") for row in rows)
    oldest = max((row.oldest_ms for row in rows if row.oldest_ms is not None), default=None)
    remark(
        f"Partitions: {len(rows)}. Lag: {sum(row.lag or 0 for row in rows)}"
        + (f" and what is in {unknown} partitions of which it is not known" if unknown else "")
        + f". In flight: {sum(row.in_flight for row in rows)}. Waiting: {sum(row.waiting for row in rows)}"
        + (f", the oldest of all since {age(oldest)}" if oldest is not None else "")
        + f". Quarantined: {sum(row.quarantined for row in rows)}."
    )


def _cells(row: PartitionState, consumer: ConsumerState | None) -> tuple[object, ...]:
    state, detail = _state(row, pausing.shown_state(consumer))
    where = (row.consumer, row.group, row.topic, row.partition, state, _holder(row))
    counts = (
        row.next_offset,
        row.end_offset,
        row.lag,
        row.in_flight,
        row.held,
        row.waiting,
        age(row.oldest_ms),
    )
    return (*where, *counts, row.quarantined, row.filtered, row.expired, detail)


def _state(row: PartitionState, stands: tuple[str, str] | None) -> tuple[str | None, str | None]:
    """What is true of the partition comes before what is true of its consumer; the latter is told beside it."""
    if row.state == "no process":
        return row.state, row.detail if stands is None else f"{stands[0]} {stands[1]}"
    if row.state == "silent":
        return row.state, f"its process has told nothing for {age(row.silent_ms) or 'some time'}"
    if row.state == "halted" or stands is None:
        return row.state, row.detail
    return stands


def _holder(row: PartitionState) -> str | None:
    """The label alone would not tell two processes of one host apart."""
    if row.holder is None:
        return None
    return f"{row.holder}:{row.holder_pid}" + ("" if row.holder_alive else " (not alive)")


def _nothing(application: str, others: list[str]) -> str:
    text = f"No consumer of the application {application!r} has read from a topic yet."
    return text + elsewhere("consumers", others, "--all-applications")

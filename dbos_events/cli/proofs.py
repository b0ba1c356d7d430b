"""`trace` and `gaps` of a log's group: what became of each offset."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dbos_events.cli.database import opened
from dbos_events.cli.options import Application, AsJson, Database, Schema
from dbos_events.cli.output import duration, fail, moment, say, show_fields, show_json, show_table
from dbos_events.model.proof import Gap, GapQuestion, TracedEvent

if TYPE_CHECKING:
    from dbos_events.control.proofs import Trace

AllApplications = Annotated[
    bool, typer.Option("--all-applications", help="Those of every application in the database.")
]
Consumer = Annotated[str | None, typer.Option(metavar="NAME", help="Of this consumer only.")]

_WORKFLOW = {
    "id": "workflow_id",
    "status": "status",
    "name": "name",
    "version": "version",
    "executor": "executor",
    "generation": "generation",
    "attempt": "attempt",
    "crashes": "crashes",
    "queue": "queue",
    "lane": "lane",
    "taken_in_at": "created_at",
    "completed_at": "completed_at",
    "wake_at": "wake_at",
}
"""What `--json` shows, and where it is found."""
_QUARANTINE = {
    "reason": "quarantine_reason",
    "attempts": "quarantine_attempts",
    "at": "quarantined_at",
    "released_at": "released_at",
    "released_as": "released_as",
}
_GAP = {
    "first_offset": "gap_first",
    "next_offset": "gap_next",
    "reason": "gap_reason",
    "recorded_at": "gap_recorded_at",
}


# ------------------------------------------------------------------ trace


def trace(  # noqa: PLR0913 - one argument per option
    topic: Annotated[str, typer.Argument(metavar="TOPIC")],
    partition: Annotated[int, typer.Argument(metavar="PARTITION", min=0)],
    offset: Annotated[int, typer.Argument(metavar="OFFSET", min=0)],
    consumer: Consumer = None,
    *,
    all_applications: AllApplications = False,
    application: Application = None,
    database: Database = None,
    schema: Schema = None,
    as_json: AsJson = False,
) -> None:
    """Show what became of one record, for each consumer and each incarnation of its topic.

    Whether it was taken in and when, which process ran it last and on which version, its steps, how it ended,
    or why there is no workflow. Exits with 1 when the partition is not known, or when nothing explains what
    became of a record below a watermark.

    Keys of --json, one object for each consumer and incarnation: application, consumer, group, topic,
    incarnation, topic_id, retired, partition, offset, outcome (succeeded, failed, quarantined, discarded,
    running, waiting, held, filtered, expired, gap, not-yet, before-start, unexplained), meaning, doing (as
    in `workflow list`), watermark, workflow (null, or id, status, name, version, executor, generation, attempt,
    crashes, queue, lane, taken_in_at, completed_at, wake_at, error), quarantine (null, or reason, attempts,
    at, released_at, released_as), gap (null, or first_offset, next_offset, reason, recorded_at), steps (those
    of `dbos_events.StepInfo`). Times are milliseconds since 1970 (UTC).
    """
    with opened(database, schema, application) as control:
        name = None if all_applications else control.application
        found = control.proofs.trace(topic, partition, offset, application=name, consumer=consumer)
        if not found:
            fail(_unknown(control.proofs.known_topics(name), name, topic, partition))
    if as_json:
        show_json([_traced(one, topic, partition, offset) for one in found])
    else:
        for number, one in enumerate(found):
            if number:
                print()
            _show(one)
    if any(one.outcome.word == "unexplained" for one in found):
        raise typer.Exit(1)


def _unknown(known: Mapping[str, list[int]], name: str | None, topic: str, partition: int) -> str:
    whose = "No application" if name is None else f"No consumer of the application {name!r}"
    if topic in known:
        return f"{whose} has a watermark for partition {partition} of {topic}. It knows {known[topic]}."
    there = f"There are {', '.join(sorted(known))}." if known else "No topic was read yet."
    return f"{whose} reads the topic {topic!r}. {there}"


def _traced(found: Trace, topic: str, partition: int, offset: int) -> dict[str, Any]:
    event, outcome, steps, error, doing = found
    return {
        "application": event.application,
        "consumer": event.consumer,
        "group": event.group,
        "topic": topic,
        "incarnation": event.incarnation,
        "topic_id": event.topic_id,
        "retired": event.retired,
        "partition": partition,
        "offset": offset,
        "outcome": outcome.word,
        "meaning": outcome.text,
        "doing": None if doing is None else dataclasses.asdict(doing),
        "watermark": event.next_offset,
        "workflow": _workflow(event, error),
        "quarantine": _part(event, event.quarantine_reason, _QUARANTINE),
        "gap": _part(event, event.gap_reason, _GAP),
        "steps": steps,
    }


def _part(event: TracedEvent, present: object, names: Mapping[str, str]) -> dict[str, Any] | None:
    """What an event has of one kind, by the names that users see; None where it has nothing of it."""
    return None if present is None else {shown: getattr(event, name) for shown, name in names.items()}


def _workflow(event: TracedEvent, error: BaseException | None) -> dict[str, Any] | None:
    found = _part(event, event.workflow_id, _WORKFLOW)
    return None if found is None else {**found, "error": error}


def _show(found: Trace) -> None:
    """What is known for one consumer and one incarnation, without what says nothing."""
    event, outcome, steps, error, _ = found
    gap = None if event.gap_reason is None else f"{event.gap_first} to {(event.gap_next or 0) - 1}"
    fields: dict[str, object] = {
        "consumer": f"{event.consumer} of {event.application}, group {event.group}",
        "incarnation": f"{event.incarnation}{', retired' if event.retired else ''}",
        "outcome": f"{outcome.word}: {outcome.text}",
        "doing": None if found.doing is None else f"{found.doing.word}: {found.doing.text}",
        "watermark": event.next_offset,
        "workflow": event.workflow_id,
        "status": event.status,
        "taken in": moment(event.created_at),
        "completed": moment(event.completed_at),
        "took": duration(event.created_at, event.completed_at),
        "wakes at": moment(event.wake_at),
        "executor": event.executor,
        "version": event.version,
        "generation": event.generation or None,
        "crashes": event.crashes or None,
        "lane": event.lane,
        "error": error,
        "quarantined": moment(event.quarantined_at),
        "released": event.released_at and f"{moment(event.released_at)}, {event.released_as}",
        "gap": gap,
    }
    show_fields({name: value for name, value in fields.items() if value is not None})
    for step in steps:
        ended = f"failed: {step.error}" if step.error is not None else "done"
        say(
            f"  step {step.function_id} {step.function_name}: {ended} {moment(step.completed_at_epoch_ms) or ''}"
        )


# ------------------------------------------------------------------ gaps


def gaps(  # noqa: PLR0913 - one argument per option
    topic: Annotated[str | None, typer.Option(metavar="NAME", help="Of this topic only.")] = None,
    consumer: Consumer = None,
    partition: Annotated[int | None, typer.Option(metavar="NUMBER", help="Of this partition only.")] = None,
    *,
    stated: Annotated[
        bool, typer.Option("--all", help="Those with a reason, too: not in the log, filtered, skipped.")
    ] = False,
    limit: Annotated[int, typer.Option(min=1, metavar="COUNT", help="So many at most.")] = 1000,
    all_applications: AllApplications = False,
    application: Application = None,
    database: Database = None,
    schema: Schema = None,
    as_json: AsJson = False,
) -> None:
    """Prove that every offset below each watermark has a workflow or a reason to have none.

    Lists the ranges that have neither, and exits with 1 when there are any. It reads what the consumers took
    in since their first position: a second or so for each million events.

    Keys of --json, one object for each range: application, consumer, topic, incarnation, partition,
    first_offset, next_offset (the first that is not in the range), reason (null: unexplained), records (how many
    there were, where that is known), recorded_at.
    """
    with opened(database, schema, application) as control:
        name = None if all_applications else control.application
        found = control.proofs.gaps(GapQuestion(name, topic, consumer, partition, stated, limit + 1))
    shown, unexplained = found[:limit], sum(gap.reason is None for gap in found)
    if as_json:
        show_json(shown)
    elif shown:
        _show_gaps(shown)
    else:
        print("Every offset below the watermarks has a workflow or a stated reason.")
    if len(found) > limit:
        typer.echo(f"There are more than these {limit}: use --limit or a filter.", err=True)
    if unexplained:
        typer.echo("Nothing explains what became of the ranges without a reason.", err=True)
        raise typer.Exit(1)


def _show_gaps(found: list[Gap]) -> None:
    show_table(
        ("CONSUMER", "TOPIC", "INCARNATION", "PARTITION", "FIRST", "LAST", "OFFSETS", "REASON", "RECORDED"),
        [
            (
                gap.consumer,
                gap.topic,
                gap.incarnation,
                gap.partition,
                gap.first_offset,
                gap.next_offset - 1,
                gap.next_offset - gap.first_offset,
                gap.reason or "UNEXPLAINED",
                moment(gap.recorded_at),
            )
            for gap in found
        ],
    )

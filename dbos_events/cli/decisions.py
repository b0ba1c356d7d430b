"""`dbos-events quarantine redrive` and `discard`."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dbos_events.cli.database import opened
from dbos_events.cli.naming import WithLogExamples
from dbos_events.cli.options import AsJson, Database, Schema, examples
from dbos_events.cli.output import on_terminal, remark, say, show_json
from dbos_events.cli.progress import Progress
from dbos_events.cli.quarantine_filters import Chosen, with_filters
from dbos_events.model.quarantine import DecidedEvents, QuarantineFilter

if TYPE_CHECKING:
    from dbos_events.control.quarantine import QuarantineControl

Ids = Annotated[
    list[str] | None, typer.Argument(metavar="[ID]...", help="Workflow ids of events; or give filters.")
]
Everything = Annotated[
    bool, typer.Option("--all", help="All that is in quarantine, when no filter is given.")
]
Limit = Annotated[int | None, typer.Option(min=1, metavar="COUNT", help="So many at most, the oldest first.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Change nothing; tell what would be changed.")]
By = Annotated[
    str | None, typer.Option(metavar="NAME", help="Who decides, for the audit; user@host by default.")
]

SHOWN = 50
"""So many ids are shown on a terminal; elsewhere all are."""

_RATE = re.compile(r"(\d+(?:\.\d+)?)(?:/s)?")


def add_to(group: typer.Typer) -> None:
    """Make these commands of `group`."""
    group.command(
        "redrive",
        cls=WithLogExamples,
        epilog=examples(
            "dbos-events quarantine redrive '{group}/shop.on_order/orders/1/0/17'",
            "dbos-events quarantine redrive --consumer on_order --error-type TimeoutError --rate 50/s",
            "dbos-events quarantine redrive --consumer on_order --since 2h --dry-run",
            "dbos-events quarantine redrive '{group}/shop.on_order/orders/1/0/17' --edit mended.json",
        ),
    )(redrive)
    group.command(
        "discard",
        cls=WithLogExamples,
        epilog=examples(
            "dbos-events quarantine discard '{group}/shop.on_order/orders/1/0/17' --reason 'a test order'",
            "dbos-events quarantine discard --consumer on_order --error-text 'no such customer' --reason 'ticket 7'",
        ),
    )(discard)


@with_filters
def redrive(  # noqa: PLR0913 - one argument per option
    workflow_ids: Ids = None,
    *,
    from_step: Annotated[
        int | None,
        typer.Option(min=1, metavar="N", help="Run step N and those with a higher number again, too."),
    ] = None,
    fresh: Annotated[bool, typer.Option("--fresh", help="Run every step again.")] = False,
    edit: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Run it with the bytes of this file as the record's value; - is standard input. One id only. "
            "What was received is kept.",
        ),
    ] = None,
    same_key: Annotated[
        bool,
        typer.Option(
            "--same-key",
            help="Put aside as arguments-changed: call the step under the idempotency key that went out with others.",
        ),
    ] = False,
    new_key: Annotated[
        bool, typer.Option("--new-key", help="The same, under a new key: an effect of the first call stays.")
    ] = False,
    rate: Annotated[
        str | None, typer.Option(metavar="N/s", help="At most so many events in a second.")
    ] = None,
    reason: Annotated[str | None, typer.Option(metavar="TEXT", help="Why, for the audit.")] = None,
    by: By = None,
    dry_run: DryRun = False,
    everything: Everything = False,
    chosen: Chosen,
    limit: Limit = None,
    database: Database = None,
    schema: Schema = None,
    as_json: AsJson = False,
) -> None:
    """Run events in quarantine again: a new generation, which keeps the steps that succeeded.

    Name them by ids, or by filters. Any process of their application takes them up; an ordered event runs
    before those that wait behind it. What is put aside after the command began is not touched by it.

    Exits with 1, and changes nothing, when one of the ids does not exist.

    Keys of --json: changed, unchanged (lists of ids; those that are not in quarantine), dry_run.
    """
    from dbos_events.control.quarantine import Order
    from dbos_events.model.quarantine import Redrive

    _refuse_all(chosen, workflow_ids, everything=everything)
    how = Redrive(from_step, fresh, _bytes(edit), same_key, new_key)
    progress = Progress("redriven")
    order = Order(by, reason, _per_second(rate), dry_run, progress)
    with _deciding(database, schema, chosen, workflow_ids, limit) as (control, criteria):
        done = control.redrive(criteria, how, order)
    progress.over()
    _show(done, "runs again", as_json=as_json)


@with_filters
def discard(  # noqa: PLR0913
    workflow_ids: Ids = None,
    *,
    reason: Annotated[str, typer.Option(metavar="TEXT", help="Why, for the audit.")],
    by: By = None,
    dry_run: DryRun = False,
    everything: Everything = False,
    chosen: Chosen,
    limit: Limit = None,
    database: Database = None,
    schema: Schema = None,
    as_json: AsJson = False,
) -> None:
    """Give events in quarantine up: they are not run again, and the next of their lane runs.

    They stay in the database as they ended, with who decided it and why.

    Exits with 1, and changes nothing, when one of the ids does not exist.

    Keys of --json: changed, unchanged (lists of ids; those that are not in quarantine), dry_run.
    """
    from dbos_events.control.quarantine import Order

    _refuse_all(chosen, workflow_ids, everything=everything)
    progress = Progress("discarded")
    with _deciding(database, schema, chosen, workflow_ids, limit) as (control, criteria):
        done = control.discard(criteria, Order(by, reason, None, dry_run, progress))
    progress.over()
    _show(done, "is discarded", as_json=as_json)


@contextmanager
def _deciding(
    database: str | None,
    schema: str | None,
    chosen: Chosen,
    workflow_ids: list[str] | None,
    limit: int | None,
) -> Iterator[tuple[QuarantineControl, QuarantineFilter]]:
    """The quarantine of a database, and which of its events are meant."""
    with opened(database, schema) as control:
        yield (
            control.quarantine,
            chosen.at(control.now_ms(), workflow_ids=tuple(workflow_ids or ()), limit=limit),
        )


def _refuse_all(chosen: Chosen, workflow_ids: list[str] | None, *, everything: bool) -> None:
    if not (workflow_ids or chosen.narrows or everything):
        raise typer.BadParameter("Name events by their ids or by filters, or say --all.")


def _per_second(text: str | None) -> float | None:
    if text is None:
        return None
    match = _RATE.fullmatch(text.replace(" ", ""))
    if match is None or float(match[1]) <= 0:
        raise typer.BadParameter(f"{text!r} is no rate, such as 50/s.")
    return float(match[1])


def _bytes(file: Path | None) -> bytes | None:
    if file is None:
        return None
    if str(file) == "-":
        return sys.stdin.buffer.read()
    try:
        return file.read_bytes()
    except OSError as error:
        raise typer.BadParameter(f"{file} cannot be read: {error.strerror}.") from error


def _show(done: DecidedEvents, what: str, *, as_json: bool) -> None:
    if as_json:
        show_json(done)
        return
    would = "would be changed" if done.dry_run else what
    shown = done.changed[:SHOWN] if on_terminal() else done.changed
    for workflow_id in shown:
        say(f"{workflow_id}: {would}.")
    if len(shown) < len(done.changed):
        print(f"(and {len(done.changed) - len(shown)} more; --json has all)")
    for workflow_id in done.unchanged:
        say(f"{workflow_id}: is not in quarantine.")
    if not done.changed and not done.unchanged:
        print("No event fits.")
    elif len(done.changed) + len(done.unchanged) > 1:
        rest = f"; {len(done.unchanged)} not in quarantine" if done.unchanged else ""
        remark(f"{len(done.changed)} events: {would.replace('runs', 'run').replace('is ', 'are ')}{rest}.")

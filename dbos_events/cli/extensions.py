"""Command groups that connectors bring, imported when they are called or listed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, NoReturn

import typer

from dbos_events.cli import output
from dbos_events.cli.database import opened
from dbos_events.cli.filters import milliseconds
from dbos_events.cli.naming import log_names
from dbos_events.connect.commands import GROUP, LOG_GROUP


class Tools:
    """`CommandTools` of this command line."""

    def opened(
        self, database: str | None, schema: str | None, application: str | None = None
    ) -> AbstractContextManager[Any]:
        return opened(database, schema, application)

    def redrive(self, control: Any, workflow_id: str, *, fresh: bool = False) -> bool:
        from dbos_events.control.quarantine import Order
        from dbos_events.model.quarantine import QuarantineFilter, Redrive

        criteria = QuarantineFilter(workflow_ids=(workflow_id,))
        return workflow_id in control.quarantine.redrive(criteria, Redrive(None, fresh), Order()).changed

    def load_app(self, target: str) -> Any:
        from dbos_events.cli.target import load_app  # brings the App with it

        return load_app(target)

    def milliseconds(self, text: str | None, now_ms: int) -> int | None:
        return milliseconds(text, now_ms)

    def moment(self, milliseconds: int | None) -> str | None:
        return output.moment(milliseconds)

    def show_table(self, titles: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
        output.show_table(titles, rows)

    def show_fields(self, fields: Mapping[str, object]) -> None:
        output.show_fields(fields)

    def show_json(self, value: Any) -> None:
        output.show_json(value)

    def say(self, line: str) -> None:
        output.say(line)

    def fail(self, message: str, *, code: int = 1) -> NoReturn:
        output.fail(message, code=code)


def names() -> tuple[list[str], list[str]]:
    """The groups that installed connectors bring: those of logs, and the others."""
    from importlib.metadata import entry_points

    logs = log_names()
    return logs, sorted({entry.name for entry in entry_points(group=GROUP)}.difference(logs))


def command_of(name: str) -> Any:
    """The command group of that name; None where no connector brings one, or where what it needs is missing."""
    from importlib.metadata import entry_points

    for entry in (*entry_points(group=LOG_GROUP, name=name), *entry_points(group=GROUP, name=name)):
        try:
            group = _log_group(entry) if entry.group == LOG_GROUP else entry.load()
        except ImportError as error:
            output.fail(
                f"The commands of {name!r} need a package that is not installed ({error}). Install the connector with its "
                "extra: pip install 'dbos-events[all]'"
            )
        command = typer.main.get_command(group)
        command.name = name
        return command
    return None


def _log_group(entry: Any) -> Any:
    """The group of a log. What its commands need is imported with the first such group that is asked for."""
    make = entry.load()
    from dbos_events.cli.logcommands import Blocks

    return make(Blocks(entry.name))

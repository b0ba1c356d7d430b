"""The group of commands, `dbos-events kafka`. It needs no client, so its help is there at once."""

from __future__ import annotations

import typer

from dbos_events.connect.commands import LogCommands


def group(commands: LogCommands) -> typer.Typer:
    """The commands that every log has: all of them mean something for Kafka."""
    made = typer.Typer(
        help="Consumers of Kafka topics.",
        no_args_is_help=True,
        rich_markup_mode=None,
        add_completion=False,
    )
    commands.add_to(made, system="Kafka")
    return made

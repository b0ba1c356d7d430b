"""`dbos-events spool`: the commands that every log has."""

import typer

from dbos_events.connect import LogCommands


def group(commands: LogCommands) -> typer.Typer:
    """Those that mean something where nobody commits offsets and there is one cluster."""
    made = typer.Typer(help="Consumers of spool files.", add_completion=False, rich_markup_mode=None)
    commands.add_to(
        made, "status", "pause", "resume", "trace", "gaps", "resolve-truncation", system="the spool"
    )
    return made

"""The options that commands of webhooks share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, cast

import typer

from dbos_events.connect.commands import CommandTools

Database = Annotated[
    str | None,
    typer.Option("--database", metavar="URL", help="As for the other commands; else the settings."),
]
Schema = Annotated[
    str | None, typer.Option("--schema", metavar="NAME", help="PostgreSQL schema of the tables.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
ProviderName = Annotated[
    str,
    typer.Argument(metavar="PROVIDER", help="stripe, github, slack, ...; `webhook providers` lists them."),
]
Secret = Annotated[
    str | None,
    typer.Option(
        "--secret",
        metavar="TEXT",
        envvar="WEBHOOK_SECRET",
        help="The secret, or the private key; better by the variable WEBHOOK_SECRET than on the command line.",
    ),
]
BodyFile = Annotated[
    Path | None, typer.Option("--body", metavar="FILE", help="The body, as bytes; - is standard input.")
]
Data = Annotated[str | None, typer.Option("--data", metavar="JSON", help="The body, as text.")]
EventId = Annotated[
    str | None,
    typer.Option("--id", metavar="ID", help="The event's id, where the provider has it in a header."),
]
EventType = Annotated[
    str | None,
    typer.Option("--type", metavar="TYPE", help="The event's type, where the provider has it in a header."),
]
HeaderLines = Annotated[
    list[str] | None, typer.Option("--header", metavar="'NAME: VALUE'", help="One more header; repeatable.")
]


def tools(ctx: typer.Context) -> CommandTools:
    """What the command line lends."""
    return cast(CommandTools, ctx.obj)


def examples(*lines: str) -> str:
    """The end of a help text, with its lines kept as they are."""
    return "\n".join(("\b", "Examples:", *(f"  {line}" for line in lines)))

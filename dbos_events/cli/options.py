"""The options that commands share, and the settings that they come to.

Every command knows the settings that the service knows: its options win over environment
variables, these over the settings file.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from dbos_events.cli.output import remark

if TYPE_CHECKING:
    from dbos_events.settings import Settings

DEBUG = "dbos_events.debug"
"""Key in the context's `meta`: failures show their traceback."""

Database = Annotated[
    str | None,
    typer.Option(
        "--database",
        metavar="URL",
        help="postgresql://user@host/database or sqlite:///file; else DBOS_EVENTS_SYSTEM_DATABASE_URL, "
        "DBOS_SYSTEM_DATABASE_URL, or system_database_url in dbos-events.toml.",
    ),
]
Schema = Annotated[
    str | None,
    typer.Option("--schema", metavar="NAME", help="PostgreSQL schema of the tables; dbos_events by default."),
]
Application = Annotated[
    str | None,
    typer.Option(
        "--application", metavar="NAME", help="The application. Else DBOS_EVENTS_NAME, or name in the file."
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def settings_of(database: str | None, schema: str | None, application: str | None = None) -> Settings:
    """The settings with what the command line says.

    Raises:
        ConfigurationError: A value is not usable.
    """
    from dbos_events.settings import (  # takes 0.2 s to import, so not for `--help`
        read_settings,
        unknown_variables,
    )

    for message in unknown_variables():
        remark(f"dbos-events: {message}")
    given = {"system_database_url": database, "dbos_system_schema": schema, "name": application}
    return read_settings({key: value for key, value in given.items() if value is not None})


def examples(*lines: str) -> str:
    """The end of a help text, with its lines kept as they are."""
    return "\n".join(("\b", "Examples:", *(f"  {line}" for line in lines)))

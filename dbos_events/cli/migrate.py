"""`dbos-events migrate`: the schema of the database."""

from __future__ import annotations

from typing import Annotated

import typer

from dbos_events.cli.database import opened_schema
from dbos_events.cli.options import AsJson, Database, Schema, examples
from dbos_events.cli.output import show_json


def add_to(app: typer.Typer) -> None:
    """Make `migrate` a command of `app`."""
    app.command(
        "migrate",
        epilog=examples(
            "dbos-events migrate --database postgresql://admin@db/shop",
            "dbos-events migrate --check && dbos-events run consumers.py",
        ),
    )(migrate_command)


def migrate_command(
    check: Annotated[
        bool, typer.Option("--check", help="Change nothing; exit 1 unless the schema fits.")
    ] = False,
    database: Database = None,
    schema: Schema = None,
    as_json: AsJson = False,
) -> None:
    """Bring the database's schema to what this release needs.

    Nothing is done when it fits already; several processes may do it at once. Where the service may not
    change the schema (run_migrations = false), run this before it, as a user who may.

    Keys of --json: fits, migrated, revision (of the database, null when it has none),
    needed_revision (of this release).
    """
    with opened_schema(database, schema, create=not check) as control:
        before = control.state()
        after = before if check else control.migrate()
        if as_json:
            show_json(
                {
                    "fits": after.fits,
                    "migrated": before.revision != after.revision,
                    "revision": after.revision,
                    "needed_revision": control.needed_revision,
                }
            )
        elif before.revision != after.revision:
            print(
                f"The schema was migrated from {before.revision or 'nothing'} to revision {after.revision}."
            )
        elif after.fits:
            print(f"The schema fits: revision {after.revision}.")
        if not after.fits and as_json:
            raise typer.Exit(1)
        control.verify()

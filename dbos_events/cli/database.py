"""The database of commands that only look, or change a few rows: no user code, no engine."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from dbos_events.cli.options import settings_of
from dbos_events.cli.output import remark

if TYPE_CHECKING:
    from dbos_events.control.control import Control
    from dbos_events.control.schema import SchemaControl

ADVICE = "Name the database with --database, or by a variable that `--help` tells."


@contextmanager
def opened(database: str | None, schema: str | None, application: str | None = None) -> Iterator[Control]:
    """Control over the database that these options mean, with a schema that this release can work with.

    Raises:
        ConfigurationError: An option or a setting is not usable, or the SQLite file is missing.
        MigrationRequired: The schema is missing, too old or too new.
        StorageUnavailable: The database does not answer.
    """
    settings = settings_of(database, schema, application)
    advice = ADVICE
    if settings.system_database_url is None and not Path(settings.database_file).exists():
        files = [str(file) for file in sorted(Path().glob("*.sqlite"))]
        if len(files) == 1:
            remark(f"dbos-events: Using {files[0]}, the only SQLite file here. --database names another.")
            settings = settings_of(f"sqlite:///{files[0]}", schema, application)
        elif files:
            advice = f"Here are {', '.join(files)}: name one with --database sqlite:///{files[0]}."
    from dbos_events.control.opening import opened_control  # loads SQLAlchemy, so not for `--help`

    with opened_control(settings, advice=advice) as control:
        yield control


@contextmanager
def opened_schema(database: str | None, schema: str | None, *, create: bool) -> Iterator[SchemaControl]:
    """Control over the schema of that database, whatever it is; `create` allows to make the SQLite file.

    Raises:
        ConfigurationError: See `opened`.
    """
    settings = settings_of(database, schema)
    from dbos_events.control import opening

    with opening.opened_schema(settings, create=create, advice=ADVICE) as control:
        yield control

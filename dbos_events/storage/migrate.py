"""Bring the schema to this code's revision, or check that it fits.

Several processes may start at once on an empty database: the first takes the lock and migrates,
the others wait for it and find the work done. A newer schema is accepted when it says that this
code's revision can still work with it (`min_compatible_revision`), so that processes of two
releases may run side by side during an upgrade or a rollback.
"""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

import sqlalchemy as sa
from sqlalchemy import exc

from dbos_events.errors import ConfigurationError, MigrationRequired, StorageUnavailable
from dbos_events.model.dataclass import dataclass
from dbos_events.storage import errorcodes, functions, sequences
from dbos_events.storage.sqldatabase import SqlStorage
from dbos_events.telemetry.log import logger

REVISION = "0001"
"""The newest revision that this code knows."""

LOCK_WAIT_SECONDS = 120
_LOCK_KEY = 0x6462_6F73_6576_6E74


@dataclass(frozen=True, slots=True)
class SchemaState:
    """What the database holds: no revision when it has none of our tables."""

    revision: str | None
    min_compatible_revision: str | None

    @property
    def fits(self) -> bool:
        """Whether this code may work with it as it is."""
        if self.revision is None:
            return False
        if self.revision == REVISION:
            return True
        return self.revision > REVISION and (self.min_compatible_revision or self.revision) <= REVISION


def scripts_folder() -> Path:
    """The Alembic folder: inside the installed package, or beside it in a checkout."""
    installed = Path(str(files("dbos_events"))) / "_migrations"
    checkout = Path(str(files("dbos_events"))).parent / "migrations"
    for folder in (installed, checkout):
        if (folder / "env.py").is_file():
            return folder
    raise ConfigurationError(
        f"The migrations are missing: neither {installed} nor {checkout} exists. Reinstall."
    )


def read_state(storage: SqlStorage) -> SchemaState:
    """The schema's revision; does not change anything."""
    schema = storage.database.schema or None
    try:
        with storage.database.engine.connect() as connection:
            return _state(connection, schema)
    except exc.SQLAlchemyError as error:
        reason = storage.database.translate(error)
        answered = errorcodes.code_of(errorcodes.cause_of(error)) is not None
        what = "The schema cannot be read" if answered else "The database cannot be reached"
        if isinstance(reason, StorageUnavailable):
            what = "The database refuses this service" if reason.refused else what
            raise reason.beginning_with(what) from error
        raise type(reason)(f"{what}: {reason}") from error


def verify(storage: SqlStorage) -> SchemaState:
    """Raise unless this code fits the schema.

    Raises:
        MigrationRequired: It is missing, too old, or too new for this code.
    """
    state = read_state(storage)
    if not state.fits:
        raise MigrationRequired(_explain(state))
    return state


def migrate(storage: SqlStorage) -> SchemaState:
    """Bring the schema to `REVISION`; nothing is done when it fits already.

    Raises:
        MigrationRequired: The schema is too new for this code.
        StorageUnavailable: Another process held the migration lock for too long.
    """
    state = read_state(storage)
    if state.fits and not _functions_missing(storage):
        _advance_sequences(storage)
        return state
    if state.revision is not None and not state.fits and state.revision > REVISION:
        raise MigrationRequired(_explain(state))
    try:
        with storage.database.engine.begin() as connection:
            _migrate(connection, storage.database.schema or None)
    except exc.SQLAlchemyError as error:
        reason = storage.database.translate(error)
        advice = (
            " These tables may belong to another program, or to a migration that was not finished: name another "
            "database or schema, or restore this one."
            if "already exists" in str(reason)
            else ""
        )
        raise type(reason)(f"The schema could not be migrated: {reason}{advice}") from error
    return verify(storage)


def _advance_sequences(storage: SqlStorage) -> None:
    """After a restore of the data alone they stand behind the rows; whoever may not set them leaves it to the owner."""
    if storage.database.schema:
        advanced = sequences.advance(storage.database.engine, storage.database.schema)
        if advanced.tables:
            logger.warning("%s", advanced.message)


def _functions_missing(storage: SqlStorage) -> bool:
    """Whether functions are missing that this role may make: without them small transactions take several exchanges."""
    database = storage.database
    if not database.schema:
        return False
    try:
        with database.engine.connect() as connection:
            may_create = "SELECT has_schema_privilege(%(schema)s, 'CREATE')"
            if not connection.exec_driver_sql(may_create, {"schema": database.schema}).scalar():
                return False
            return bool(functions.missing(connection, database.schema))
    except exc.SQLAlchemyError as error:
        raise database.translate(error) from error


def _migrate(connection: sa.Connection, schema: str | None) -> None:
    if schema is not None:
        connection.execute(sa.text(f"SET LOCAL lock_timeout = '{LOCK_WAIT_SECONDS}s'"))
        connection.execute(sa.text("SELECT pg_advisory_xact_lock(:key)"), {"key": _LOCK_KEY})
        if not sa.inspect(connection).has_schema(schema):
            connection.execute(sa.schema.CreateSchema(schema))
    if not _state(connection, schema).fits:
        _upgrade(connection, schema)
    if schema is not None:
        functions.create(connection, schema)


def _upgrade(connection: sa.Connection, schema: str | None) -> None:
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(scripts_folder()).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    config.attributes["connection"] = connection
    config.attributes["schema"] = schema
    command.upgrade(config, REVISION)


def _state(connection: sa.Connection, schema: str | None) -> SchemaState:
    # Plain texts: SQLAlchemy takes longer to compile what it would ask than the database to answer.
    if schema is None:
        known = "SELECT name FROM sqlite_master WHERE type = 'table'"
        prefix, given = "", None
    else:
        known = "SELECT tablename FROM pg_catalog.pg_tables WHERE schemaname = %(schema)s"
        prefix = connection.dialect.identifier_preparer.quote_identifier(schema).replace("%", "%%") + "."
        given = {"schema": schema}
    tables = set(connection.exec_driver_sql(known, given).scalars())
    if "schema_version" not in tables:
        return SchemaState(None, None)
    columns = f"(SELECT version_num FROM {prefix}schema_version LIMIT 1), NULL"
    if "schema_facts" in tables:
        fact = f"SELECT value FROM {prefix}schema_facts WHERE name = 'min_compatible_revision'"
        columns = columns.replace("NULL", f"({fact})")
    revision, compatible = connection.exec_driver_sql(f"SELECT {columns}").one()
    return SchemaState(revision, compatible)


def _explain(state: SchemaState) -> str:
    if state.revision is None:
        return (
            "The database has no schema of dbos_events yet. Run `dbos-events migrate`, or launch with "
            "run_migrations=True."
        )
    if state.revision < REVISION:
        return (
            f"The database is at schema revision {state.revision}, this code needs {REVISION}. Run "
            "`dbos-events migrate`, or launch with run_migrations=True."
        )
    return (
        f"The database is at schema revision {state.revision}, which needs code of at least revision "
        f"{state.min_compatible_revision or state.revision}; this code knows {REVISION}. Install a newer release."
    )

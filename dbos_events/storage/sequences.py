"""Numbers that PostgreSQL issues, where its sequences stand behind the rows that are there.

A dump of the data alone, restored into a migrated schema, brings rows and leaves the sequences at their beginning. The
next number is then taken already, and no value of anybody is to blame.
"""

from __future__ import annotations

from dataclasses import dataclass

import sqlalchemy as sa
from sqlalchemy import exc

from dbos_events.errors import StorageUnavailable
from dbos_events.storage import answers

_IDENTITIES = """
SELECT c.relname, a.attname, pg_get_serial_sequence(format('%I.%I', n.nspname, c.relname), a.attname)
FROM pg_attribute AS a
JOIN pg_class AS c ON c.oid = a.attrelid
JOIN pg_namespace AS n ON n.oid = c.relnamespace
WHERE n.nspname = :schema AND c.relkind IN ('r', 'p') AND a.attidentity <> '' AND NOT a.attisdropped
ORDER BY c.relname
"""


@dataclass(frozen=True, slots=True)
class Advanced:
    """The tables whose next number was taken, and why a sequence could not be set, if one could not."""

    tables: tuple[str, ...] = ()
    refused: str | None = None

    @property
    def message(self) -> str:
        """What was wrong, and what to do."""
        if self.refused is None:
            return (
                f"The sequences of {', '.join(self.tables)} stood behind the rows, as after a restore of the data alone. "
                "They were set, and it is done again."
            )
        return (
            f"A number that the database issued is taken, and its sequence could not be set: {self.refused}. Run "
            "`dbos-events migrate` as the owner of the schema."
        )


def is_taken_number(error: BaseException) -> bool:
    """Whether a row with this primary key was there: 23505, on the index that PostgreSQL names `<table>_pkey`."""
    cause = answers.cause_of(error)
    constraint = getattr(getattr(cause, "diag", None), "constraint_name", None)
    return answers.code_of(cause) == "23505" and (constraint or "").endswith("_pkey")


def advance_where_behind(error: BaseException, engine: sa.Engine, schema: str) -> None:
    """Where the error says that a number was taken which the database issued, set its sequence.

    Raises:
        StorageUnavailable: So it was. The sequence is set now, unless the message says why it could not be: repeat.
    """
    if not schema or not is_taken_number(error):
        return
    advanced = advance(engine, schema)
    if advanced.tables or advanced.refused:
        raise StorageUnavailable(advanced.message) from None


def advance(engine: sa.Engine, schema: str) -> Advanced:
    """Have each sequence go on behind the last number of its table; a transaction for each, none where all is well."""
    tables = []
    try:
        with engine.begin() as connection:
            found = connection.execute(sa.text(_IDENTITIES), {"schema": schema}).fetchall()
        for table, column, sequence in found:
            with engine.begin() as connection:
                if _advance(connection, schema, table, column, sequence):
                    tables.append(table)
    except exc.SQLAlchemyError as error:
        return Advanced(tuple(tables), answers.said(answers.cause_of(error)))
    return Advanced(tuple(tables))


def _advance(connection: sa.Connection, schema: str, table: str, column: str, sequence: str) -> bool:
    quote = connection.dialect.identifier_preparer.quote_identifier
    last = connection.exec_driver_sql(
        f"SELECT max({quote(column)}) FROM {quote(schema)}.{quote(table)}"
    ).scalar()
    if last is None:
        return False
    # `sequence` is an identifier that the server has quoted itself.
    value, called = connection.exec_driver_sql(f"SELECT last_value, is_called FROM {sequence}").one()
    if last < value + (1 if called else 0):
        return False
    connection.execute(sa.text("SELECT setval(:sequence, :last)"), {"sequence": sequence, "last": last})
    return True

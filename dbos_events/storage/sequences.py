"""Numbers that PostgreSQL issues, where its sequences stand behind the rows that are there.

A dump of the data alone, restored into a migrated schema, brings rows and leaves the sequences at their beginning. The
next number is then taken already, and no value of anybody is to blame.
"""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy import exc

from dbos_events.errors import StorageUnavailable
from dbos_events.model.dataclass import dataclass
from dbos_events.storage import errorcodes

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
    cause = errorcodes.cause_of(error)
    constraint = getattr(getattr(cause, "diag", None), "constraint_name", None)
    return errorcodes.code_of(cause) == "23505" and (constraint or "").endswith("_pkey")


def advance_where_behind(error: BaseException, engine: sa.Engine, schema: str) -> None:
    """Where the error says that a number was taken which the database issued, set its sequence.

    Raises:
        StorageUnavailable: A number was taken. Its sequence is set now, or the message says why it could not be. Repeat.
    """
    if not schema or not is_taken_number(error):
        return
    advanced = advance(engine, schema)
    if advanced.tables or advanced.refused:
        raise StorageUnavailable(advanced.message) from None


def advance(engine: sa.Engine, schema: str) -> Advanced:
    """Have each sequence go on behind the last number of its table: two questions where all is well."""
    tables: list[str] = []
    try:
        with engine.begin() as connection:
            behind = _behind(connection, schema)
        for (
            table,
            sequence,
            last,
        ) in behind:  # a transaction for each: not all of them may be set by everybody
            with engine.begin() as connection:
                values = {"sequence": sequence, "last": last}
                connection.execute(sa.text("SELECT setval(:sequence, :last)"), values)
            tables.append(table)
    except exc.SQLAlchemyError as error:
        return Advanced(tuple(tables), errorcodes.said(errorcodes.cause_of(error)))
    return Advanced(tuple(tables))


def _behind(connection: sa.Connection, schema: str) -> list[tuple[str, str, int]]:
    """Table, sequence and last number wherever the next number is taken."""
    quote = connection.dialect.identifier_preparer.quote_identifier
    identities = connection.execute(sa.text(_IDENTITIES), {"schema": schema}).fetchall()
    if not identities:
        return []
    # A sequence comes as an identifier that the server has quoted itself.
    looks = " UNION ALL ".join(
        f"SELECT {number} AS number, (SELECT max({quote(column)}) FROM {quote(schema)}.{quote(table)}) AS last, "
        f"last_value + CASE WHEN is_called THEN 1 ELSE 0 END AS next FROM {sequence}"
        for number, (table, column, sequence) in enumerate(identities)
    )
    taken = f"SELECT number, last FROM ({looks}) AS looks WHERE last >= next ORDER BY number"
    found = connection.exec_driver_sql(taken.replace("%", "%%")).fetchall()
    return [(identities[number][0], identities[number][2], last) for number, last in found]

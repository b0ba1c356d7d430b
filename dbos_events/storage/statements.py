"""Named SQL from `sql/*.sql`, written once and fitted to the database by a few placeholders.

    -- name: some_name            begins a statement; other comments are for the reader
    {schema}                      the schema's name
    {now}                         the database's clock in milliseconds, or a test's
    {for_update} {for_update_m} {for_share} {for_key_share} {skip_locked_w}
                                  row locks where the database has them
    {registration_lock}           a column that has transactions with it go one after the other
    {idle_bound}                  a column that bounds how long this transaction may be idle: a process that
                                  is frozen in the middle of one must not hold its locks for ever
    {plain_plan}                  a column that has the following statements of this transaction neither compiled
                                  nor run in parallel
    {list:ids} {numbers:ids}      the elements of a list parameter, as a sub-select
    {rows: a text, b int}         a list of tuples as a table `u`; one round trip for a batch

PostgreSQL gets rows as `unnest` of one array per column, SQLite as JSON (or, where a column is
`bytea`, one execution per row). The arrays hide behind sub-selects, so that the planner cannot
count them and change its mind with the batch size (docs/storage.md).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib.resources import files

_STATEMENT = re.compile(r"^-- name: (?P<name>\w+)\n(?P<body>.*?);[ \t]*$", re.MULTILINE | re.DOTALL)
_COMMENT = re.compile(r"--[^\n]*")
_ROWS = re.compile(r"\{rows:(?P<columns>[^}]*)\}")
_LIST = re.compile(r"\{(?P<kind>list|numbers):(?P<name>\w+)\}")


@dataclass(frozen=True, slots=True)
class Statement:
    """One statement, ready to be executed.

    `columns` are those of its `{rows:...}` with their types, `lists` its list parameters with theirs.
    """

    name: str
    sql: str
    columns: tuple[tuple[str, str], ...] = ()
    lists: tuple[tuple[str, str], ...] = ()
    row_by_row: bool = False


@dataclass(frozen=True, slots=True)
class Dialect:
    """How one database spells what the placeholders stand for."""

    name: str
    now: str
    pieces: Mapping[str, str]

    @property
    def is_postgres(self) -> bool:
        return self.name == "postgres"


POSTGRES = Dialect(
    "postgres",
    "CAST(EXTRACT(EPOCH FROM clock_timestamp()) * 1000 AS bigint)",
    {
        "for_update": "FOR UPDATE",
        "for_update_m": "FOR UPDATE OF m",
        "for_share": "FOR SHARE",
        "for_key_share": "FOR KEY SHARE",
        "skip_locked_w": "FOR UPDATE OF w SKIP LOCKED",
        "registration_lock": "pg_advisory_xact_lock(4821007731)",
        "idle_bound": "set_config('idle_in_transaction_session_timeout', '5000', true)",
        "plain_plan": "set_config('jit', 'off', true), set_config('max_parallel_workers_per_gather', '0', true)",
    },
)
SQLITE = Dialect(
    "sqlite",
    "CAST(ROUND((julianday('now') - 2440587.5) * 86400000) AS INTEGER)",
    {
        "for_update": "",
        "for_update_m": "",
        "for_share": "",
        "for_key_share": "",
        "skip_locked_w": "",
        "registration_lock": "NULL",
        "idle_bound": "NULL",
        "plain_plan": "NULL",
    },
)


def load(dialect: Dialect, schema: str, *, manual_clock: bool = False) -> dict[str, Statement]:
    """All statements for one database; `schema` is quoted already."""
    now = "CAST(:clock_now AS bigint)" if manual_clock else dialect.now
    plain = {"schema": schema, "now": now, **dialect.pieces}
    return {name: _fit(name, body, dialect, plain) for name, body in _read()}


def _read() -> Iterator[tuple[str, str]]:
    for path in sorted(files("dbos_events.storage").joinpath("sql").iterdir(), key=lambda path: path.name):
        if path.name.endswith(".sql"):
            for match in _STATEMENT.finditer(path.read_text(encoding="utf-8")):
                yield match["name"], match["body"]


def _fit(name: str, body: str, dialect: Dialect, plain: Mapping[str, str]) -> Statement:
    # A colon inside a comment would be taken for a parameter.
    sql = _COMMENT.sub("", body)
    rows = _ROWS.search(sql)
    columns = [_column(part) for part in rows["columns"].split(",")] if rows else []
    row_by_row = not dialect.is_postgres and any(kind == "bytea" for _, kind in columns)
    if rows:
        sql = sql.replace(rows[0], _rows(columns, dialect, row_by_row=row_by_row))
    lists = tuple(
        (match["name"], "text" if match["kind"] == "list" else "bigint") for match in _LIST.finditer(sql)
    )
    sql = _LIST.sub(lambda match: _list(match["kind"], match["name"], dialect), sql)
    for placeholder, text in plain.items():
        sql = sql.replace("{" + placeholder + "}", text)
    return Statement(name, sql.strip(), tuple(columns), lists, row_by_row)


def _column(text: str) -> tuple[str, str]:
    name, kind = text.split()
    return name, kind


def _rows(columns: list[tuple[str, str]], dialect: Dialect, *, row_by_row: bool) -> str:
    names = ", ".join(column for column, _ in columns)
    if dialect.is_postgres:
        arrays = ", ".join(f"(SELECT CAST(:{column} AS {kind}[]))" for column, kind in columns)
        return f"unnest({arrays}) AS u({names})"
    if row_by_row:
        values = ", ".join(f":{column} AS {column}" for column, _ in columns)
        return f"(SELECT {values}) AS u"
    values = ", ".join(
        f"json_extract(value, '$[{number}]') AS {column}" for number, (column, _) in enumerate(columns)
    )
    return f"(SELECT {values} FROM json_each(:rows)) AS u"


def _list(kind: str, name: str, dialect: Dialect) -> str:
    if dialect.is_postgres:
        return f"SELECT unnest(CAST(:{name} AS {'text' if kind == 'list' else 'bigint'}[]))"
    return f"SELECT value FROM json_each(:{name})"

"""PostgreSQL functions, generated from the statements of `sql/` and from `functions.sql`.

A function is PL/pgSQL in which a statement stands by its name, so that its text is written once:

    -- function: some_name(executor bigint) returns void
                                  begins a function; its parameters are what the statements call `:executor`
    -- table: moves(a int, b text)
                                  a table that it takes, each column as an array
    {do: name}                    the statement, with the rows of a table of its own name and columns
    {do: name from moves}         the same, with the rows of the table `moves`
    {all: name, message}          as `do`; ends the function unless each row is hit
    {one: name, message}          as `all`, for a single row, which comes as plain parameters
    {count: name}                 as `do`; leaves in `hit` how many rows were hit
    {found: name, message}        ends the function unless the statement finds a row
    {select: name, ids = moves.a} the text of a statement that reads; its list parameters come from columns
    {rows: moves} {size: moves}   the table as `u`, and how many rows it has
    {expect: moves, message}      ends the function unless `hit` is the number of rows of the table

The name that a function has in the database ends in a hash of its text. A release that says something else makes a
function of another name, so processes of both releases work side by side. `create` makes those that are missing.

What a function does not expect ends it with DE001 or by a primary key, and nothing is kept; so `ON CONFLICT DO
NOTHING`, which looks for each row first, is left out of `all` and `one`. The settings leave the planner nothing but the
primary keys: a plan made while the tables were empty would read all of them later (docs/storage.md).
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterator, Mapping
from functools import lru_cache
from importlib.resources import files
from typing import TYPE_CHECKING, TypeAlias

from dbos_events.model.dataclass import dataclass, field
from dbos_events.storage.statements import POSTGRES, Dialect, Statement, fitted

if TYPE_CHECKING:
    import sqlalchemy as sa

_FUNCTION = re.compile(
    r"^-- function: (?P<name>\w+)\((?P<parameters>[^)]*)\) returns (?P<returns>\w+)\n(?P<body>.*?);[ \t]*$(?=\s*(?:--|\Z))",
    re.MULTILINE | re.DOTALL,
)
_TABLE = re.compile(r"^-- table: (?P<name>\w+)\((?P<columns>[^)]*)\)$", re.MULTILINE)
_COMMENT = re.compile(r"^--[^\n]*\n", re.MULTILINE)
_PLACEHOLDER = re.compile(r"\{(?P<verb>\w+): (?P<name>\w+)(?: from (?P<table>\w+))?(?:, (?P<more>[^}]*))?\}")
_CONFLICT = re.compile(r"\s+WHERE true\s+ON CONFLICT(?: \([^)]*\))? DO NOTHING\s*$")
_PARAMETER = re.compile(r"(?<![:\w]):(\w+)")

_SETTINGS = """SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off SET jit = off"""
_NOW = f"COALESCE(clock_now, {POSTGRES.now})"
_SCHEMA = "{schema}"

Columns: TypeAlias = tuple[tuple[str, str], ...]
"""Names and types."""


@dataclass(frozen=True, slots=True)
class Function:
    """A function as it is called.

    `single` are the types of its plain arguments: the time where a test rules it, else NULL; its parameters; then the
    columns of `row`, if it takes a single row. `tables` are those that follow, each column an array.
    """

    name: str
    called: str
    parameters: Columns
    row: Columns
    tables: Mapping[str, Columns]
    text: str

    @property
    def single(self) -> tuple[str, ...]:
        return ("bigint", *(kind for _, kind in (*self.parameters, *self.row)))

    @property
    def columns(self) -> tuple[str, ...]:
        return tuple(kind for table in self.tables.values() for _, kind in table)

    def definition(self, schema: str) -> str:
        """The statement that creates it in a schema, whose name is quoted already."""
        body = self.text.replace(_SCHEMA, schema)
        tag = "$body$"
        while tag in body:
            tag = f"$body{len(tag)}$"
        head = ", ".join(
            f"{name} {kind}" for name, kind in _arguments(self.parameters, self.row, self.tables)
        )
        returns = body[: body.index("\n")]
        return (
            f"CREATE OR REPLACE FUNCTION {schema}.{self.called}({head})\nRETURNS {returns}\nLANGUAGE plpgsql\n"
            f"{_SETTINGS}\nAS {tag}{body[len(returns) :]}{tag}"
        )


def functions() -> Mapping[str, Function]:
    """All functions, by the names that this code has for them; the same in every database, so made once."""
    return _written(POSTGRES, tuple(fitted(POSTGRES, _SCHEMA).bodies.values()))


@lru_cache(maxsize=2)
def _written(dialect: Dialect, _made_of: tuple[str, ...]) -> Mapping[str, Function]:
    statements = fitted(dialect, _SCHEMA)
    text = files("dbos_events.storage").joinpath("functions.sql").read_text(encoding="utf-8")
    return {match["name"]: _Writer(match, statements).write() for match in _FUNCTION.finditer(text)}


def missing(connection: sa.Connection, schema: str) -> list[Function]:
    """The functions that the schema does not have yet."""
    query = (
        "SELECT p.proname FROM pg_proc AS p JOIN pg_namespace AS n ON n.oid = p.pronamespace "
        "WHERE n.nspname = %(schema)s"
    )
    there = {row[0] for row in connection.exec_driver_sql(query, {"schema": schema})}
    return [function for function in functions().values() if function.called not in there]


def create(connection: sa.Connection, schema: str) -> None:
    """Make the functions that are missing; those of other releases stay for their processes."""
    quoted = connection.dialect.identifier_preparer.quote_identifier(schema)
    for function in missing(connection, schema):
        connection.exec_driver_sql(function.definition(quoted).replace("%", "%%"))


def _columns(text: str) -> Columns:
    parts = (part.split() for part in text.replace("\n--", " ").split(",") if part.strip())
    return tuple((name, kind) for name, kind in parts)


def _arguments(parameters: Columns, row: Columns, tables: Mapping[str, Columns]) -> Iterator[tuple[str, str]]:
    """As the function declares them. Names of its own keep them apart from columns."""
    yield "clock_now", "bigint"
    for name, kind in parameters:
        yield f"p_{name}", kind
    for name, kind in row:
        yield f"row_{name}", kind
    for table, columns in tables.items():
        for name, kind in columns:
            yield f"{table}__{name}", f"{kind}[]"


@dataclass
class _Writer:
    """Puts one function together."""

    match: re.Match[str]
    statements: Mapping[str, Statement]
    row: Columns = ()
    tables: dict[str, Columns] = field(default_factory=dict)

    def write(self) -> Function:
        name, source = self.match["name"], self.match["body"]
        self.tables = {one["name"]: _columns(one["columns"]) for one in _TABLE.finditer(source)}
        body = _PLACEHOLDER.sub(self._place, _COMMENT.sub("", source)).strip().rstrip(";")
        parameters = _columns(self.match["parameters"])
        text = (
            f"{self.match['returns']}\nDECLARE\n    now_ms bigint := {_NOW};\n    behind text[] := '{{}}';\n"
            f"    told text;\n    hit bigint;\nBEGIN\n{body};\nEND\n"
        )
        arguments = repr(list(_arguments(parameters, self.row, self.tables)))
        called = f"{name}_{zlib.crc32((arguments + _SETTINGS + text).encode()):08x}"
        return Function(name, called, parameters, self.row, self.tables, text)

    def _place(self, match: re.Match[str]) -> str:
        verb, name, table, more = match["verb"], match["name"], match["table"] or match["name"], match["more"]
        if verb == "rows":
            return _unnested(name, self.tables[name])
        if verb == "size":
            return self._size(name)
        if verb == "expect":
            return _unless(f"hit = {self._size(name)}", more)
        return self._statement(verb, self.statements[name], table, more)

    def _statement(self, verb: str, statement: Statement, table: str, more: str | None) -> str:
        if verb == "found":
            return f"PERFORM {self._bound(statement, table).removeprefix('SELECT')};\n" + _unless(
                "FOUND", more
            )
        if verb == "select":
            return self._bound(statement, table, *_assigned(more))
        if verb == "one":
            self.row = statement.columns
            return f"{self._bound(statement, None, strict=True)};\n" + _unless("FOUND", more)
        self.tables.setdefault(table, statement.columns)
        written = f"{self._bound(statement, table, strict=verb == 'all')};\n"
        if verb != "do":
            written += "GET DIAGNOSTICS hit = ROW_COUNT;\n"
        if verb == "all":
            written += _unless(f"hit = {self._size(table)}", more)
        return written if verb == "count" else f"IF {self._size(table)} > 0 THEN\n{written}END IF;\n"

    def _size(self, table: str) -> str:
        return f"cardinality({table}__{self.tables[table][0][0]})"

    def _bound(
        self, statement: Statement, table: str | None, *lists: tuple[str, str], strict: bool = False
    ) -> str:
        """The statement with rows, lists, parameters and the clock in their places."""
        sql = _CONFLICT.sub("", statement.raw) if strict else statement.raw
        if table is None:
            values = ", ".join(f"row_{name}" for name, _ in statement.columns)
            names = ", ".join(name for name, _ in statement.columns)
            rows = f"(VALUES ({values})) AS u({names})"
        else:
            rows = _unnested(table, statement.columns)
        sql = statement.with_rows(sql, rows)
        for name, _ in statement.lists:
            source = dict(lists).get(name, name)
            sql = statement.with_list(sql, name, f"SELECT unnest({source})")
        sql = sql.replace(POSTGRES.pieces["idle_bound"], "NULL").replace("{now}", "now_ms")
        return _PARAMETER.sub(r"p_\1", sql)


def _unnested(table: str, columns: Columns) -> str:
    arrays = ", ".join(f"{table}__{name}" for name, _ in columns)
    return f"unnest({arrays}) AS u({', '.join(name for name, _ in columns)})"


def _assigned(more: str | None) -> Iterator[tuple[str, str]]:
    """Of `ids = moves.a`: the parameter, and the argument that it comes from."""
    for part in (more or "").split(",") if more else ():
        parameter, source = part.split(" = ")
        yield parameter.strip(), source.strip().replace(".", "__")


def _unless(condition: str, message: str | None) -> str:
    return f"IF NOT ({condition}) THEN\n    RAISE EXCEPTION USING ERRCODE = 'DE001', MESSAGE = '{message}';\nEND IF;\n"

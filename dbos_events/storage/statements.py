"""Named SQL from `sql/*.sql`, written once and fitted to the database by a few placeholders.

    -- name: some_name            begins a statement; other comments are for the reader
    {schema}                      the schema's name
    {now}                         the database's clock in milliseconds, or a test's
    {for_update} {for_update_m} {for_share} {for_key_share} {skip_locked_w}
                                  row locks where the database has them
    {registration_lock}           a column that has transactions with it go one after the other
    {idle_bound}                  a column that bounds how long this transaction may be idle: a process that
                                  is frozen in the middle of one must not hold its locks for ever
    {accept_bounds}               columns that bound how long each following statement of this transaction may take, too
    {plain_plan}                  a column that has the following statements of this transaction neither compiled
                                  nor run in parallel
    {list:ids} {numbers:ids}      the elements of a list parameter, as a sub-select
    {rows: a text, b int}         a list of records as a table `u`; one round trip for a batch
    {columns} {values}            the columns of `rows`, as `a, b` and as `u.a, u.b`
    {columns but a} {values but a}    the same without some of them

    {unless_apart} {then}         a statement that takes rows has four forms (`storage/narrow.py`): as it stands; `..._apart`
                                  leaves the ids in the list `apart` out, and `..._among` all but those in `among`, where
                                  it says {unless_apart}; `..._chosen` takes nothing and gives the ids. It ends
                                  at {then}, before which all is in the CTE `candidates`; one without {then} is a plain
                                  update of `w`

A text that several statements share is a fragment: it begins with `-- fragment: some_name`, and stands in them, and in
later fragments, as `{some_name}`.

PostgreSQL gets rows as `unnest` of one array per column, SQLite as JSON (or, where a column is
`bytea`, one execution per row). The arrays hide behind sub-selects, so that the planner cannot
count them and change its mind with the batch size (docs/storage.md).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from functools import lru_cache
from importlib.resources import files

import sqlalchemy as sa

from dbos_events.model.dataclass import dataclass, field

_STATEMENT = re.compile(r"^-- name: (?P<name>\w+)\n(?P<body>.*?);[ \t]*$", re.MULTILINE | re.DOTALL)
_FRAGMENT = re.compile(r"^-- fragment: (?P<name>\w+)\n(?P<body>.*?);[ \t]*$", re.MULTILINE | re.DOTALL)
_COMMENT = re.compile(r"--[^\n]*")
_ROWS = re.compile(r"\{rows:(?P<columns>[^}]*)\}")
_NAMES = re.compile(r"\{(?P<kind>columns|values)(?: but (?P<but>[\w, ]+))?\}")
_PLAIN_UPDATE = re.compile(r"\nWHERE .*?(?=\nRETURNING )", re.DOTALL)
_LIST = re.compile(r"\{(?P<kind>list|numbers):(?P<name>\w+)\}")


@dataclass(frozen=True, slots=True)
class Statement:
    """One statement, ready to be executed.

    `columns` are those of its `{rows:...}` with their types, `lists` its list parameters with theirs. `raw` is the text in
    which rows, lists, parameters and the clock have no form yet.
    """

    name: str
    sql: str
    raw: str = ""
    columns: tuple[tuple[str, str], ...] = ()
    lists: tuple[tuple[str, str], ...] = ()
    row_by_row: bool = False

    @property
    def names(self) -> list[str]:
        """The names of its columns."""
        return [name for name, _ in self.columns]

    @staticmethod
    def with_rows(sql: str, rows: str) -> str:
        """The text with `rows` in the place of its `{rows:...}`."""
        return _ROWS.sub(lambda _: rows, sql)

    @staticmethod
    def with_list(sql: str, name: str, elements: str) -> str:
        """The text with `elements`, a sub-select, in the place of a list parameter."""
        return _LIST.sub(lambda match: elements if match["name"] == name else match[0], sql)


@dataclass(frozen=True, slots=True)
class Dialect:
    """How one database spells what the placeholders stand for."""

    name: str
    now: str
    pieces: Mapping[str, str] = field(hash=False)

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
        "accept_bounds": "set_config('statement_timeout', '2000', true) AS statements, "
        "set_config('idle_in_transaction_session_timeout', '5000', true) AS idle",
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
        "accept_bounds": "NULL",
        "plain_plan": "NULL",
    },
)


class Texts(dict[str, sa.TextClause]):
    """By the name of its statement, what SQLAlchemy is asked with: made when it is asked for first."""

    def __init__(self, statements: Mapping[str, Statement]) -> None:
        super().__init__()
        self._statements = statements

    def __missing__(self, name: str) -> sa.TextClause:
        text = self[name] = sa.text(self._statements[name].sql)
        return text


class Fitted(dict[str, Statement]):
    """The statements for one database, each fitted to it when it is first asked for: a process runs a part of them."""

    def __init__(
        self, bodies: Mapping[str, str], dialect: Dialect, schema: str, *, manual_clock: bool
    ) -> None:
        super().__init__()
        self.bodies = bodies
        self._dialect = dialect
        self._now = "CAST(:clock_now AS bigint)" if manual_clock else dialect.now
        self._pieces = {"schema": schema, **dialect.pieces}

    def __missing__(self, name: str) -> Statement:
        found = self[name] = _fit(name, self.bodies[name], self._dialect, self._pieces, self._now)
        return found


def fitted(dialect: Dialect, schema: str, *, manual_clock: bool = False) -> Fitted:
    """The statements for one database; `schema` is quoted already."""
    return _fitted(dialect, schema, manual_clock, _read)


def load(dialect: Dialect, schema: str, *, manual_clock: bool = False) -> Mapping[str, Statement]:
    """The same, all of them fitted."""
    found = fitted(dialect, schema, manual_clock=manual_clock)
    return {name: found[name] for name in found.bodies}


@lru_cache(maxsize=8)
def _fitted(
    dialect: Dialect, schema: str, manual_clock: bool, read: Callable[[], Iterator[tuple[str, str]]]
) -> Fitted:
    """They are fitted once for the Apps of a process, which mostly have the same schema."""
    return Fitted(_bodies(read), dialect, schema, manual_clock=manual_clock)


@lru_cache(maxsize=2)
def _bodies(read: Callable[[], Iterator[tuple[str, str]]]) -> Mapping[str, str]:
    """All statements as they are written, with the fragments that they name in their places."""
    return dict(read())


def _read() -> Iterator[tuple[str, str]]:
    paths = sorted(files("dbos_events.storage").joinpath("sql").iterdir(), key=lambda path: path.name)
    texts = [path.read_text(encoding="utf-8") for path in paths if path.name.endswith(".sql")]
    fragments = {
        match["name"]: _COMMENT.sub("", match["body"]).strip()
        for text in texts
        for match in _FRAGMENT.finditer(text)
    }
    for text in texts:
        for match in _STATEMENT.finditer(text):
            yield from _forms(match["name"], _with_fragments(match["body"], fragments))


def _forms(name: str, body: str) -> Iterator[tuple[str, str]]:
    """The statement; and where it takes rows, its narrower forms."""
    body = _COMMENT.sub("", body)
    first, then, _ = body.partition("{then}")
    whole = body.replace("{then}", "")
    yield name, whole.replace("{unless_apart}", "")
    if "{unless_apart}" not in whole:
        return
    yield f"{name}_apart", _narrowed(whole, "NOT IN ({list:apart})")
    yield f"{name}_among", _narrowed(whole, "IN ({list:among})")
    where = _PLAIN_UPDATE.search(whole)
    if then:
        yield (
            f"{name}_chosen",
            _narrowed(f"{first}SELECT workflow_id AS id FROM candidates", "NOT IN ({list:apart})"),
        )
    elif where is not None:
        text = f"SELECT w.id FROM {{schema}}.workflows AS w{where[0]}"
        yield f"{name}_chosen", _narrowed(text, "NOT IN ({list:apart})")


def _narrowed(text: str, condition: str) -> str:
    return text.replace("{unless_apart}", f" AND w.id {condition}")


def _with_fragments(body: str, fragments: Mapping[str, str]) -> str:
    """The text with the fragments that it names, and those that they name, in their places."""
    named = [name for name in fragments if "{" + name + "}" in body]
    for name in named:
        body = body.replace("{" + name + "}", fragments[name])
    return _with_fragments(body, fragments) if named else body


def _fit(name: str, body: str, dialect: Dialect, pieces: Mapping[str, str], now: str) -> Statement:
    # A colon inside a comment would be taken for a parameter.
    raw = _COMMENT.sub("", body).strip()
    rows = _ROWS.search(raw)
    columns = [_column(part) for part in rows["columns"].split(",")] if rows else []
    row_by_row = not dialect.is_postgres and any(kind == "bytea" for _, kind in columns)
    raw = _NAMES.sub(lambda match: _names(match, columns), raw)
    for placeholder, text in pieces.items():
        raw = raw.replace("{" + placeholder + "}", text)
    lists = tuple(
        (match["name"], "text" if match["kind"] == "list" else "bigint") for match in _LIST.finditer(raw)
    )
    sql = raw.replace(rows[0], _rows(columns, dialect, row_by_row=row_by_row)) if rows else raw
    sql = _LIST.sub(lambda match: _list(match["kind"], match["name"], dialect), sql).replace("{now}", now)
    return Statement(name, sql, raw, tuple(columns), lists, row_by_row)


def _names(match: re.Match[str], columns: list[tuple[str, str]]) -> str:
    """The columns of the rows, for an insert or a select."""
    left_out = {name.strip() for name in (match["but"] or "").split(",")}
    prefix = "u." if match["kind"] == "values" else ""
    return ", ".join(f"{prefix}{name}" for name, _ in columns if name not in left_out)


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

"""What commands print: tables and fields for people, JSON for programs, one line for a failure.

On a terminal a table fits the window; elsewhere its columns are as wide as they need to be, so that
`grep` and `awk` find whole values. Control characters, which data may hold, are shown escaped.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NoReturn

import typer

from dbos_events.cli.tables import Column, lines_of
from dbos_events.cli.values import plain
from dbos_events.model.times import shown_moment, shown_span
from dbos_events.telemetry.log import redact

NOTHING = "-"


def show_table(columns: Sequence[str | Column], rows: Sequence[Sequence[object]]) -> None:
    """Print rows under their titles."""
    cells = [[cell_text(value) for value in row] for row in rows]
    named = [column if isinstance(column, Column) else _column(column) for column in columns]
    if on_terminal():
        width = shutil.get_terminal_size((100, 24)).columns
        print("\n".join(lines_of(named, cells, width, coloured=has_colours())))
        return
    lines = [[column.title for column in named], *cells]
    widths = [max(len(line[column]) for line in lines) for column in range(len(named))]
    for line in lines:
        print("  ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)).rstrip())


def on_terminal() -> bool:
    """Whether people read what is printed, in a window of some width."""
    return sys.stdout.isatty()


def has_colours() -> bool:
    """Whether standard output is a terminal whose user wants colours (https://no-color.org)."""
    return on_terminal() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def _column(title: str) -> Column:
    return Column(title, text=title in _TEXTS, coloured=title in ("STATE", "STATUS"))


_TEXTS = ("DETAIL", "ERROR", "OUTPUT", "WHY", "HOW", "DONE ANEW")
"""Titles of columns that hold sentences, or whatever a user stored."""


def show_fields(fields: Mapping[str, object]) -> None:
    """Print names and values below each other."""
    width = max(map(len, fields))
    for name, value in fields.items():
        print(f"{name.ljust(width)}  {cell_text(value)}")


def show_json(value: Any, *, in_one_line: bool = False) -> None:
    """Print one JSON document."""
    print(json.dumps(plain(value), indent=None if in_one_line else 2))


def say(line: str) -> None:
    """Print a line that may hold names and ids, which are data, too."""
    print(harmless(line))


def tell_change(kind: str, name: str, what: str, *, changed: bool, as_json: bool) -> None:
    """Say what became of a queue, a schedule or a consumer. As JSON its name stands under `kind`, beside `changed`."""
    if as_json:
        show_json({kind: name, "changed": changed})
    else:
        say(f"{name}: {what}.")


def remark(line: str) -> None:
    """As `say`, on standard error."""
    typer.echo(harmless(line), err=True)


def fail(message: str, *, code: int = 1) -> NoReturn:
    """End the command with one line on standard error."""
    remark(f"dbos-events: {redact(one_line(message))}")
    raise typer.Exit(code)


def one_line(text: str) -> str:
    """The text without line breaks, as messages of database drivers have them."""
    return " ".join(text.split())


def cell_text(value: object) -> str:
    """A value as it stands in a table: in one line, and harmless to a terminal."""
    if value is None or value == "":
        return NOTHING
    if isinstance(value, BaseException):
        value = f"{type(value).__name__}: {value}"
    return harmless(value if isinstance(value, str) else json.dumps(plain(value), ensure_ascii=False))


def harmless(text: str) -> str:
    """The text with what would move a terminal's cursor, colour it or turn its direction escaped."""
    if text.isprintable():
        return text
    return "".join(sign if sign.isprintable() else ascii(sign)[1:-1] for sign in text)


def none_of(what: str, application: str | None, others: Iterable[str | None], option: str) -> str:
    """That an application has none, and which others of the database have some."""
    text = f"No {what}." if application is None else f"No {what} of the application {application!r}."
    return text + elsewhere("some", others, option)


def elsewhere(what: str, others: Iterable[str | None], option: str) -> str:
    """What other applications of the database have, behind a sentence that this one has none; empty where none has."""
    named = ", ".join(sorted({other for other in others if other}))
    return f" The database has {what} of {named}: use --application or {option}." if named else ""


def moment(milliseconds: int | None) -> str | None:
    """A stored time in UTC, to the second."""
    if milliseconds is None:
        return None
    return shown_moment(milliseconds)


def duration(begin: int | None, end: int | None) -> str | None:
    """How long something took; nothing while it has not ended."""
    if begin is None or end is None:
        return None
    seconds = max(0, end - begin) / 1000
    return f"{seconds:.3f} s" if seconds < 60 else f"{seconds / 60:.1f} min"


def age(milliseconds: int | None) -> str | None:
    """How long ago something was, short."""
    return None if milliseconds is None else shown_span(milliseconds)

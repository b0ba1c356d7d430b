"""What commands print: tables and fields for people, JSON for programs, one line for a failure.

On a terminal a table fits the window; elsewhere its columns are as wide as they need to be, so that
`grep` and `awk` find whole values. Control characters, which data may hold, are shown escaped.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, NoReturn

import typer

from dbos_events.cli.values import plain
from dbos_events.telemetry.log import redact

NOTHING = "-"


def show_table(titles: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Print rows under their titles."""
    cells = [[cell_text(value) for value in row] for row in rows]
    if sys.stdout.isatty():
        _show_on_terminal(titles, cells)
        return
    lines = [list(titles), *cells]
    widths = [max(len(line[column]) for line in lines) for column in range(len(titles))]
    for line in lines:
        print("  ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)).rstrip())


def _show_on_terminal(titles: Sequence[str], cells: Sequence[Sequence[str]]) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(*titles, box=box.SIMPLE_HEAD, pad_edge=False)
    for column in table.columns:
        column.overflow = "fold"
    for row in cells:
        table.add_row(*(Text(text) for text in row))
    Console().print(table)


def show_fields(fields: Mapping[str, object]) -> None:
    """Print names and values below each other."""
    width = max(map(len, fields))
    for name, value in fields.items():
        print(f"{name.ljust(width)}  {cell_text(value)}")


def show_json(value: Any) -> None:
    """Print one JSON document."""
    print(json.dumps(plain(value), indent=2))


def say(line: str) -> None:
    """Print a line that may hold names and ids, which are data, too."""
    print(harmless(line))


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


def moment(milliseconds: int | None) -> str | None:
    """A stored time in UTC, to the second."""
    if milliseconds is None:
        return None
    return datetime.fromtimestamp(milliseconds / 1000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def duration(begin: int | None, end: int | None) -> str | None:
    """How long something took; nothing while it has not ended."""
    if begin is None or end is None:
        return None
    seconds = max(0, end - begin) / 1000
    return f"{seconds:.3f} s" if seconds < 60 else f"{seconds / 60:.1f} min"

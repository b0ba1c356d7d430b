"""Tables for terminals: they fit the window, and what is copied from them is whole.

Ids and numbers are never broken over lines. Where there is too little room, texts are folded first, then columns are left
out, those that matter least first; where even what matters most does not fit beside each other, the records stand one below
the other.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from typing import NamedTuple

GAP = 2
NARROWEST_TEXT = 16


class Column(NamedTuple):
    """One column of a table.

    Args:
        title: In capitals.
        text: Its values are sentences, which may be folded over lines; those of other columns stay whole.
        rank: A column of a higher rank is left out sooner; one of rank 0 never is.
        coloured: Its values are states.
    """

    title: str
    text: bool = False
    rank: int = 0
    coloured: bool = False


RED, YELLOW, GREEN = "31", "33", "32"
COLOURS = {
    **dict.fromkeys(("reading", "running", "alive", "SUCCESS"), GREEN),
    **dict.fromkeys(
        (
            "waiting", "paused", "connecting", "standing by", "sweeping", "silent", "breaker half-open", "sleeping", "held",
            "between attempts", "CANCELLED", "DELAYED", "draining",
        ),
        YELLOW,
    ),
    **dict.fromkeys(
        ("no process", "halted", "breaker open", "ERROR", "MAX_RECOVERY_ATTEMPTS_EXCEEDED", "dead", "UNEXPLAINED"), RED
    ),
}  # fmt: skip
"""How states look, whichever table they stand in."""


def lines_of(
    columns: Sequence[Column], cells: Sequence[Sequence[str]], width: int, *, coloured: bool = False
) -> list[str]:
    """The lines of a table that is at most `width` wide, unless a single value is wider."""
    chosen = _chosen(columns, cells, width)
    if chosen is None:
        return _records(columns, cells, width, coloured=coloured)
    widths = _widths([columns[at] for at in chosen], [[row[at] for at in chosen] for row in cells], width)
    lines = [_line([columns[at].title for at in chosen], widths)]
    for row in cells:
        folded = [
            _folded(row[at], widths[number]) if columns[at].text else [row[at]]
            for number, at in enumerate(chosen)
        ]
        for number in range(max(map(len, folded))):
            parts = [lines[number] if number < len(lines) else "" for lines in folded]
            lines.append(_line(parts, widths, [columns[at] for at in chosen] if coloured else ()))
    left_out = [column.title for at, column in enumerate(columns) if at not in chosen]
    if left_out:
        lines += _folded(f"(not shown: {', '.join(left_out)}; --json has all)", width)
    return lines


def width_of(text: str) -> int:
    """How many places a text takes on a terminal."""
    if text.isascii():
        return len(text)
    return sum(
        0 if unicodedata.combining(sign) else 2 if unicodedata.east_asian_width(sign) in "WF" else 1
        for sign in text
    )


def _chosen(columns: Sequence[Column], cells: Sequence[Sequence[str]], width: int) -> list[int] | None:
    """The columns that fit beside each other; None when those that must be there do not."""
    chosen = list(range(len(columns)))
    while True:
        needed = sum(_needed(columns[at], [row[at] for row in cells]) for at in chosen)
        if needed + GAP * (len(chosen) - 1) <= width:
            return chosen
        droppable = [at for at in chosen if columns[at].rank > 0]
        if not droppable:
            return None
        chosen.remove(max(droppable, key=lambda at: (columns[at].rank, at)))


def _needed(column: Column, values: Sequence[str]) -> int:
    widest = max((width_of(value) for value in values), default=0)
    if column.text:
        words = (width_of(word) for value in values for word in value.split())
        whole = max((word for word in words if word <= 2 * NARROWEST_TEXT), default=0)
        widest = min(widest, max(NARROWEST_TEXT, whole))
    return max(width_of(column.title), widest)


def _widths(columns: Sequence[Column], cells: Sequence[Sequence[str]], width: int) -> list[int]:
    """Each as wide as needed; texts share what is left."""
    widths = [_needed(column, [row[at] for row in cells]) for at, column in enumerate(columns)]
    left = width - sum(widths) - GAP * (len(widths) - 1)
    for at, column in enumerate(columns):
        if column.text and left > 0:
            wanted = max((width_of(row[at]) for row in cells), default=0)
            more = max(0, min(left, wanted - widths[at]))
            widths[at] += more
            left -= more
    return widths


def _line(parts: Sequence[str], widths: Sequence[int], columns: Sequence[Column] = ()) -> str:
    shown = []
    for at, (part, width) in enumerate(zip(parts, widths, strict=True)):
        padded = part + " " * (width - width_of(part))
        shown.append(painted(part, padded) if columns and columns[at].coloured else padded)
    return (" " * GAP).join(shown).rstrip()


def painted(state: str, shown: str | None = None) -> str:
    """A state in its colour, for a terminal."""
    colour = COLOURS.get(state)
    text = state if shown is None else shown
    return text if colour is None else f"\x1b[{colour}m{text}\x1b[0m"


def _records(
    columns: Sequence[Column], cells: Sequence[Sequence[str]], width: int, *, coloured: bool
) -> list[str]:
    """One record below the other, each value whole: a terminal that folds it still copies it as one."""
    names = max((len(column.title) for column in columns), default=0)
    lines: list[str] = []
    for row in cells:
        if lines:
            lines.append("")
        for column, value in zip(columns, row, strict=True):
            parts = _folded(value, max(NARROWEST_TEXT, width - names - GAP)) if column.text else [value]
            for number, part in enumerate(parts):
                name = column.title if number == 0 else ""
                shown = painted(part) if coloured and column.coloured else part
                if names + GAP + width_of(part) > width:  # on a line of its own it may still be whole
                    lines += [name, shown]
                    continue
                lines.append(f"{name.ljust(names)}{' ' * GAP}{shown}".rstrip())
    return lines


def _folded(text: str, width: int) -> list[str]:
    """The text in lines of at most this width, broken between words where it has any."""
    lines: list[str] = []
    line = ""
    for word in text.split(" "):
        joined = f"{line} {word}" if line else word
        if width_of(joined) <= width:
            line = joined
            continue
        if line:
            lines.append(line)
        line = word
        while width_of(line) > width:
            head = _head(line, width)
            lines.append(head)
            line = line[len(head) :]
    return [*lines, line] if line or not lines else lines


def _head(text: str, width: int) -> str:
    taken = 0
    for at, sign in enumerate(text):
        taken += width_of(sign)
        if taken > width:
            return text[: max(1, at)]
    return text

"""Records as rows of a statement, by the names of its columns.

The columns of a statement stand in its `{rows:...}` and nowhere else. A `Shape` finds each of them by its name among the
fields of the records that a caller has, once; making a row then costs little more than writing the tuple by hand.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import fields, is_dataclass
from operator import itemgetter
from typing import Any, TypeAlias, TypeVar

K = TypeVar("K")

Row: TypeAlias = tuple[Any, ...]
Names: TypeAlias = Sequence[str]


class Shape:
    """Makes rows with the columns `names` of records of the classes `kinds`, whose fields are called as the columns.

    Raises:
        TypeError: None of the classes has a field of this name.
    """

    def __init__(self, names: Names, *kinds: type) -> None:
        known = [_fields(kind) for kind in kinds]
        places = []
        for name in names:
            number = next((number for number, has in enumerate(known) if name in has), None)
            if number is None or not name.isidentifier():
                raise TypeError(f"{' and '.join(kind.__name__ for kind in kinds)} have no field {name}.")
            places.append(f"r{number}.{name}")
        parameters = ", ".join(f"r{number}" for number in range(len(kinds)))
        # As `namedtuple` does: one expression takes a third of the time of getters that are put together, for each event.
        make = f"lambda {parameters}: ({''.join(f'{place}, ' for place in places)})"
        self.row: Callable[..., Row] = eval(make, {})  # noqa: S307 - of field names only
        """The row of these records, one of each class."""


def _fields(kind: type) -> frozenset[str]:
    if is_dataclass(kind):
        return frozenset(field.name for field in fields(kind))
    return frozenset(getattr(kind, "_fields", ()))


def tuples(names: Names, rows: Sequence[Mapping[str, Any]] | Sequence[Row]) -> Sequence[Row]:
    """Rows in the order of `names`: mappings by their keys; tuples, which a `Shape` has made, as they are.

    Raises:
        TypeError: The first row has other columns.
    """
    first = rows[0] if rows else ()
    if isinstance(first, tuple):
        return rows  # type: ignore[return-value]  # they are all of one kind
    if set(first) != set(names):
        raise TypeError(f"The rows have the columns {sorted(first)}, the statement takes {sorted(names)}.")
    if len(names) == 1:
        return [(row[names[0]],) for row in rows]  # type: ignore[call-overload]  # mappings, all of them
    get: Callable[[Any], Row] = itemgetter(*names)
    return [get(row) for row in rows]


def named(rows: Iterable[Sequence[Any]], *names: str) -> list[dict[str, Any]]:
    """Tuples as rows, in which each value has its column's name."""
    return [dict(zip(names, row, strict=True)) for row in rows]


def records(kind: type[K], rows: Sequence[Any], *, but: Names = ()) -> list[K]:
    """What a statement has returned, as values of `kind`, by the names of the columns; `but` are left out.

    Raises:
        TypeError: A column has no field, or a field without a default has no column.
    """
    if not rows:
        return []
    columns = rows[0]._fields
    made = [dict(zip(columns, row, strict=True)) for row in rows]
    for row in made:
        for name in but:
            del row[name]
    return [kind(**row) for row in made]


def turned(rows: Sequence[Row], count: int) -> Iterable[Sequence[Any]]:
    """Rows of `count` columns, as columns."""
    return zip(*rows, strict=True) if rows else [()] * count

"""Takings of many rows that go on without those that the database refuses.

Each statement that takes rows has narrower forms (`storage/statements.py`): for the search among what it would take.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from types import MappingProxyType
from typing import Any, NamedTuple, TypeVar

from dbos_events.errors import ExecutorFenced, StorageError
from dbos_events.storage.apart import Apart, halved, refuses
from dbos_events.storage.database import Database, Row, Tx
from dbos_events.storage.rollback import RollBack

R = TypeVar("R")

TOGETHER = "taking all that is due"


class Narrow(NamedTuple):
    """Which rows a taking may take: those that it finds, all but some, or no others than some."""

    suffix: str = ""
    lists: Mapping[str, Sequence[str]] = MappingProxyType({})

    @property
    def takes(self) -> bool:
        """Whether anything is taken at all."""
        return self.suffix != "_chosen"

    @property
    def taking(self) -> Narrow:
        """For a statement that takes nothing itself, but looks for what is taken."""
        return self if self.takes else but(self.lists["apart"])

    def run(self, tx: Tx, name: str, /, **parameters: Any) -> Sequence[Row]:
        """As `Tx.run`, of the form of the statement that is so narrow."""
        return tx.run(name + self.suffix, **parameters, **self.lists)

    def batch(
        self, tx: Tx, name: str, rows: Sequence[Mapping[str, Any]], /, **parameters: Any
    ) -> Sequence[Row]:
        """As `Tx.batch`."""
        return tx.batch(name + self.suffix, rows, **parameters, **self.lists)


ALL = Narrow()


def but(ids: Sequence[str]) -> Narrow:
    """All but these."""
    return Narrow("_apart", {"apart": ids}) if ids else ALL


def only(ids: Sequence[str]) -> Narrow:
    """None but these."""
    return Narrow("_among", {"among": ids})


def chosen(ids: Sequence[str]) -> Narrow:
    """Take nothing: give what would be taken, but these."""
    return Narrow("_chosen", {"apart": ids})


def take_apart(
    database: Database,
    kind: str,
    attempt: Callable[[Narrow], R],
    choose: Callable[[Narrow], Sequence[str]],
    apart: Apart | None = None,
) -> list[R]:
    """Take what can be taken; gives the answers of as many transactions as that needed, which is one.

    `attempt` is the whole taking as one transaction, and `choose` gives the ids that it would take. What the database
    refuses alone waits apart. Where it refuses all, also when there is nothing to be taken, it is no row that is to blame:
    then the error is raised.
    """
    apart = apart or database.apart
    known = apart.ids()
    try:
        answer = attempt(but(known))
    except RollBack:
        raise
    except Exception as error:
        if not apart.calls_for_search(kind, error):
            raise
        first = error
        apart.note(kind, error)
    else:
        apart.went_well(kind)
        return [answer]
    ids = choose(chosen(known))
    if not ids:
        raise first
    found, refused = halved(ids, lambda some: attempt(only(some)), partial(apart.note, kind))
    if not found:
        try:
            found.append(attempt(but([*known, *ids])))
            database.transact(lambda tx: tx.run("read_taken", ids=()))
        except Exception as last:  # noqa: BLE001 - whatever it is, the first one is what has to be told
            apart.note(kind, last)
            raise first from first.__cause__
    apart.went_well(kind)
    for id_, why in refused:
        apart.put(id_, why, kind)
    return found


def take_kinds(
    database: Database,
    kinds: Sequence[str],
    attempt: Callable[[Sequence[str], Narrow], R],
    choose: Callable[[str, Narrow], Sequence[str]],
) -> list[R]:
    """As `take_apart`, where one transaction takes of several kinds: a row that one of them fails of is not the others'.

    A kind that is refused whatever its rows are ends it, unless something was taken that the caller has to hear of.
    """
    apart = database.apart
    try:
        answer = attempt(kinds, but(apart.ids()))
    except Exception as error:
        if not refuses(error):
            raise
        apart.note(TOGETHER, error)
    else:
        for kind in (TOGETHER, *kinds):
            apart.went_well(kind)
        return [answer]
    found: list[R] = []
    for kind in kinds:
        try:
            found += take_apart(database, kind, partial(attempt, [kind]), partial(choose, kind))
        except ExecutorFenced:
            raise
        except StorageError:
            if not any(found):
                raise
            apart.went_well(kind)  # it is told when it is tried again
    apart.went_well(TOGETHER)
    return found

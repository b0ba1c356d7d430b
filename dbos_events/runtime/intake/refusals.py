"""Taking in what the database takes of a batch: a partition with a record that it refuses holds up no other."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

from dbos_events.connect.source import Record, TakenIn
from dbos_events.errors import StorageUnavailable
from dbos_events.storage.apart import after, concerns_rows, halved

R = TypeVar("R")
Take = Callable[[Sequence[Record]], TakenIn]


def answered(intake: Callable[[], R], ask: Callable[[Callable[[], R]], R]) -> R:
    """The answer to an intake; waited for, unless it is a refusal that one record may be to blame for."""
    try:
        return intake()
    except StorageUnavailable as error:
        if concerns_rows(error):
            raise
        intake = after(error, intake)
    return ask(intake)


def take_in_apart(
    records: Sequence[Record], take: Take, rest: Callable[[int, int, Exception], object]
) -> TakenIn:
    """Take records in, all together if that is possible.

    Where the database refuses that for a reason that may be one row's, partitions are tried by halves; of a refused one,
    what comes before the first record that is refused alone is taken in. `rest` is told of that one, by partition and
    offset: it waits, and what comes after it in its partition.
    """
    try:
        return take(records)
    except Exception as error:
        if not concerns_rows(error):
            raise
        first = error
    partitions = sorted({record.partition for record in records})
    found: list[TakenIn] = []
    refused: list[int] = partitions
    if len(partitions) > 1:
        found, alone = halved(
            partitions, lambda some: take([record for record in records if record.partition in some])
        )
        refused = [partition for partition, _ in alone]
    left: set[int] = set()
    for partition in refused:
        bad = _first_refused([record for record in records if record.partition == partition], take, found)
        if bad is not None:
            rest(partition, *bad)
            left.add(partition)
    if len(left) == len(partitions) > 1 and not found:
        raise first  # not one of them: it is the tables, or the server, and no record
    seen = {partition for one in found for partition in one.next_offsets} | left
    stale = frozenset(partition for one in found for partition in one.stale)
    halted = {partition: why for one in found for partition, why in (one.halted or {}).items()}
    untried = set(partitions) - seen - stale - halted.keys()
    following = {partition: offset for one in found for partition, offset in one.next_offsets.items()}
    return TakenIn(following, stale, halted or None, frozenset(left | untried))


def _first_refused(
    records: Sequence[Record], take: Take, found: list[TakenIn]
) -> tuple[int, Exception] | None:
    """Take in what comes before the first record of a partition that is refused; gives that one, and why."""
    part = list(records)
    while part:
        half = part[: max(1, len(part) // 2)]
        try:
            found.append(take(half))
        except Exception as error:
            if not concerns_rows(error):
                raise
            if len(half) == 1:
                return half[0].offset, error
            part = half
        else:
            if (part := part[len(half) :]) and found[-1].stale | (found[-1].halted or {}).keys():
                return None
    return None

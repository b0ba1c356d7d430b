"""What an intake does with the lanes of its events: which ones run from memory, which ones wait in the database."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import compress

from dbos_events.engine.run import Run
from dbos_events.runtime.intake.batch import NamedRecord
from dbos_events.runtime.intake.lanes import LaneGroup

Groups = Mapping[int, LaneGroup]


class LanePlan:
    """Made before the transaction and carried out after it, whatever became of it.

    `groups` are the lanes of each partition; records in none of them are kept always, unless `shared` says
    that all are in one lane over the partitions, which takes them from the database.
    """

    def __init__(self, groups: Groups, records: Sequence[NamedRecord], *, shared: bool = False) -> None:
        self._groups = groups
        self._names: dict[int, Counter[str]] = {}
        for record in records:
            if record.lane is not None and record.record.partition in groups:
                self._names.setdefault(record.record.partition, Counter())[record.lane] += 1
        room: dict[str, int] = {}
        unknown: set[str] = set()
        for partition, counts in self._names.items():
            kept, strange = groups[partition].plan(counts)
            room |= kept
            unknown |= strange
        self.unknown = frozenset(unknown)
        self.kept = [not shared and self._fits(record, room) for record in records]

    def _fits(self, record: NamedRecord, room: dict[str, int]) -> bool:
        """Only the first events of a lane are kept: those behind one that is not kept wait, too."""
        if record.lane is None or record.record.partition not in self._groups:
            return True
        left = room[record.lane]
        room[record.lane] = left - 1
        return left > 0

    def carry_out(self, kept: Mapping[str, list[Run]], spilled: Mapping[int, Counter[str]]) -> None:
        """Run what was kept, by lane; ask the database for the lanes of which it has more."""
        for partition in tuple(self._names):
            counts = self._names.pop(partition)
            self._groups[partition].admit(counts, kept, spilled.get(partition, Counter()))

    def give_up(self) -> None:
        """Nothing was taken in, or it cannot be carried out: lanes that nothing was done in go on without it."""
        self.carry_out({}, {})


def sort_out(
    plan: LanePlan,
    records: Sequence[NamedRecord],
    fresh: Sequence[bool],
    behind: frozenset[str],
    repeated: frozenset[int],
) -> tuple[list[NamedRecord], dict[int, Counter[str]], list[str]]:
    """What runs here of what is `fresh`, the lanes with events that wait in the database, and ids to give back."""
    runs: list[NamedRecord] = []
    spilled: dict[int, Counter[str]] = {}
    returned: list[str] = []
    for record, kept in compress(zip(records, plan.kept, strict=True), fresh):
        if record.lane is None:
            if kept:
                runs.append(record)
            continue
        partition = record.record.partition
        if partition in repeated:  # it is not known whether it was kept
            returned.append(record.workflow_id)
            spilled.setdefault(partition, Counter())[record.lane] += 1
        elif kept and record.lane not in behind:
            runs.append(record)
        else:
            spilled.setdefault(partition, Counter())[record.lane] += 1
    return runs, spilled, returned

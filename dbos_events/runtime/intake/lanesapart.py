"""Lanes from which the database lets nothing be taken for a while: they keep no other lane waiting."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

from dbos_events.clock import Clock
from dbos_events.runtime.intake.lanes import LaneGroup
from dbos_events.storage.apart import Apart, halved

Settle = Callable[[Sequence[str], bool], object]
"""Takes what is first in lanes; with True, nothing that comes behind the first event."""


KIND = "taking from lanes"


class LanesApart:
    """What the service of lanes remembers of them; used by its thread, its problems by any."""

    def __init__(self, clock: Clock) -> None:
        self._apart = Apart("lane", "`dbos-events workflow list` shows its events", clock)

    @property
    def problems(self) -> list[str]:
        """One line for each lane."""
        return self._apart.problems

    def next_due(self) -> int | None:
        """When the next of them is looked at again; None where none waits."""
        return self._apart.next_due()

    def without(self, group: LaneGroup, names: Sequence[str]) -> list[str]:
        """The lanes but those that wait apart, which are looked at again later."""
        found = []
        for name in names:
            if self._apart.holds(_shown(group, name)):
                group.blocked(name, watched=True)
            else:
                found.append(name)
        return found

    def put(self, group: LaneGroup, name: str, why: BaseException) -> None:
        """Nothing can be taken from the lane now."""
        self._apart.put(_shown(group, name), why)
        group.blocked(name, watched=True)

    def settle(self, group: LaneGroup, names: Sequence[str], settle: Settle) -> list[str]:
        """Settle lanes; gives those that are refused, each by itself, so that what was taken of them is unknown."""
        try:
            settle(names, False)
        except Exception as error:
            if not self._apart.calls_for_search(KIND, error):
                raise
            first = error
            self._apart.note(KIND, error)
        else:
            self._apart.went_well(KIND)
            self._apart.served([_shown(group, name) for name in names])
            return []
        found, refused = halved(
            names, lambda some: settle(some, len(some) == 1), partial(self._apart.note, KIND)
        )
        if not found and len(names) > 1:  # it is no lane that is to blame
            raise first
        self._apart.went_well(KIND)
        for name, why in refused:
            self.put(group, name, why)
        return [name for name, _ in refused]


def _shown(group: LaneGroup, name: str) -> str:
    """A lane, for people."""
    return f"{name} of consumer {group.place.consumer} (incarnation {group.place.incarnation})"

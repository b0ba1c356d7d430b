"""Runs what is left in partitions that nobody holds any more."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from dbos_events.engine.core import Core
from dbos_events.errors import DBOSException
from dbos_events.model.dataclass import dataclass
from dbos_events.runtime.failing import noted
from dbos_events.runtime.service import Service
from dbos_events.storage.subjects.orphans import Orphan
from dbos_events.storage.subjects.positions import AssignedPosition
from dbos_events.telemetry.log import logger

LOOK_SECONDS = 5.0
AT_ONCE = 16
"""Partitions that one process sweeps at a time, so that others get their share."""

Key = tuple[int, int, int]


class SweptLanes(Protocol):
    """The lanes of one orphaned partition while this process runs what is left in them."""

    @property
    def idle(self) -> bool:
        """Whether they have been looked at, nothing runs and nothing is ready; what sleeps stays for later."""
        ...

    def close(self) -> None:
        """Start nothing more, and release what has not started; what runs goes on."""
        ...


OpenLanes = Callable[[Orphan, AssignedPosition], SweptLanes]
"""Opens the lanes of a partition under the epoch of the position, below its next offset, without reading the log."""


@dataclass(frozen=True, slots=True)
class _Swept:
    orphan: Orphan
    epoch: int
    lanes: SweptLanes


class SweeperService(Service):
    """Takes partitions whose holder is dead for a grace time and that no process was assigned.

    A partition gets there when it is removed from the subscription, when its group moves away, and when its
    topic is made again. It is taken under an epoch of its own; a real assignment raises the epoch, and the
    sweeper yields. The grace time must be longer than a rebalance after a crash takes. `holds` says what this
    process was assigned itself.
    """

    name = "sweeper"
    takes_work = True

    def __init__(
        self,
        core: Core,
        open_lanes: OpenLanes,
        grace_seconds: float,
        holds: Callable[[Key], bool] = lambda _key: False,
    ) -> None:
        super().__init__(interval=LOOK_SECONDS)
        self._core = core
        self._holds = holds
        self._open_lanes = open_lanes
        self._grace_ms = round(grace_seconds * 1000)
        self._swept: dict[Key, _Swept] = {}
        self._session = 0

    @property
    def sweeping(self) -> frozenset[Key]:
        """What this process sweeps now: (consumer, incarnation, partition)."""
        return frozenset(self._swept)

    def tick(self) -> float | None:
        self._yield()
        errors: list[DBOSException] = []
        self._give_back(errors)
        self._take(errors)
        if errors:
            raise errors[0]
        return None

    def _yield(self) -> None:
        """Let go of what was assigned to somebody, or of all when this process goes on as another executor."""
        if self._session != self._core.executor:
            held: set[Key] = set()
            self._session = self._core.executor
        else:
            epochs = [(key, swept.epoch) for key, swept in self._swept.items()]
            held = self._core.storage.orphans.still_held(self._session, epochs)
        for key in self._swept.keys() - held:
            self._swept.pop(key).lanes.close()

    def _give_back(self, errors: list[DBOSException]) -> None:
        for key, swept in tuple(self._swept.items()):
            if swept.lanes.idle:
                del self._swept[key]
                swept.lanes.close()
                with noted(errors):
                    self._core.storage.orphans.release(self._session, key, swept.epoch)
                    logger.info("%s is swept: nothing is left to run.", _name(swept.orphan))

    def _take(self, errors: list[DBOSException]) -> None:
        if len(self._swept) >= AT_ONCE:
            return
        core = self._core
        found = [
            orphan
            for orphan in core.storage.orphans.find(
                core.application, core.registry.names(), self._grace_ms, core.executor
            )
            if not self._holds((orphan.consumer, orphan.incarnation, orphan.partition))
        ]
        for orphan in found[: AT_ONCE - len(self._swept)]:
            with noted(errors):  # one that cannot be taken now keeps none of the others
                self._sweep(orphan)

    def _sweep(self, orphan: Orphan) -> None:
        position = self._core.storage.orphans.take(self._session, orphan)
        if position is not None:
            logger.warning(
                "%s has no holder any more; what is left in it is run here.",
                _name(orphan),
                extra={"consumer": orphan.name, "topic": orphan.topic, "partition": orphan.partition},
            )
            key = (orphan.consumer, orphan.incarnation, orphan.partition)
            self._swept[key] = _Swept(orphan, position.epoch, self._open_lanes(orphan, position))


def _name(orphan: Orphan) -> str:
    return f"{orphan.name}: {orphan.topic}[{orphan.partition}] (incarnation {orphan.incarnation})"

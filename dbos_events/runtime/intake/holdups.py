"""What keeps a partition from taking more in, apart from places: partitions before it, and too many held events."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Mapping

from dbos_events.engine.core import Core
from dbos_events.engine.tickets import shown
from dbos_events.errors import StorageError
from dbos_events.model.dataclass import dataclass, field
from dbos_events.model.event import HeldQuotas
from dbos_events.storage.apart import Apart
from dbos_events.telemetry.log import logger

Key = tuple[int, int]
"""Incarnation, partition."""

PUSHED: Key = (0, -1)
"""What stands for them where events are pushed."""

COUNT_EVERY = 10
"""A lane is counted each time that a tenth of its quota was added to it."""
LOOK_AGAIN_SECONDS = 5.0
LANES_REMEMBERED = 100_000


@dataclass(slots=True)
class _Held:
    """What one incarnation of a topic holds: as many as were `counted`, and those `added` since."""

    counted: int | None = None
    added: int = 0
    lanes: Counter[str] = field(default_factory=Counter)
    full: str | None = None
    full_lanes: dict[str, int] = field(default_factory=dict)


class HoldUps:
    """Looked after by the intake thread, about once a second; `reason` is quick and asks nobody.

    With `strict_key_order`, a partition that was added to a topic waits behind its **gate**: until all that lay
    in the other partitions at that moment has been taken in and has freed its lane, since a key may have moved from there.
    At a **quota** of held events a partition waits, too, so that the rest of the backlog stays with the broker.
    So does one with a record that the database refuses.
    """

    def __init__(self, core: Core, name: str, quotas: HeldQuotas) -> None:
        self._core = core
        self._name = name
        self._quotas = quotas
        self._gates: dict[Key, Mapping[int, int]] = {}
        self._held: dict[int, _Held] = {}
        self._told: dict[str, str] = {}
        self._look_at = 0.0
        self._refused = Apart("partition", f"It is one of {name}", core.clock)

    def refused(self, incarnation: int, partition: int, offset: int, why: Exception) -> None:
        """The database refuses one record: its partition waits from there on, and is tried again after a while."""
        about = StorageError(f"the database refuses the record at offset {offset}: {shown(why)}")
        self._refused.put(_place(incarnation, partition), about)

    def assigned(self, key: Key, gate: str | None) -> None:
        """A partition is ours from now on."""
        self._gates.pop(key, None)
        if gate is not None:
            self._gates[key] = {int(number): offset for number, offset in json.loads(gate).items()}
        self._held.setdefault(key[0], _Held())

    @property
    def watches(self) -> bool:
        """Whether something is to be counted, or was too much when it was."""
        return any(held.full or held.full_lanes or held.added for held in self._held.values())

    def reason(self, incarnation: int, partition: int) -> str | None:
        """Why the partition takes nothing in now; None when nothing keeps it."""
        if (incarnation, partition) in self._gates:
            return "strict_key_order: waits until the events of the partitions that were there before have finished"
        if self._refused.holds(place := _place(incarnation, partition)):
            return self._refused.reasons.get(place)
        held = self._held.get(incarnation)
        if held is None:
            return None
        return held.full or self._told.get(f"{incarnation}/{partition}")

    def shown(self, incarnation: int, partition: int) -> str | None:
        """The same for people, also while what was refused is tried again."""
        place = _place(incarnation, partition)
        return self.reason(incarnation, partition) or self._refused.reasons.get(place)

    def reason_of(self, lane: str) -> str | None:
        """Why a lane of pushed events takes nothing in now."""
        held = self._held.get(PUSHED[0])
        if held is None:
            return None
        return held.full or (self._told.get(f"{PUSHED[0]}/{PUSHED[1]}") if lane in held.full_lanes else None)

    def spilled(self, incarnation: int, counts: Mapping[int, Counter[str]]) -> None:
        """Events were taken in that wait in the database."""
        held = self._held.setdefault(incarnation, _Held())
        step = max(1, self._quotas.lane // COUNT_EVERY)
        for partition, lanes in counts.items():
            for lane, count in lanes.items():
                before = held.lanes[lane]
                held.lanes[lane] = before + count
                if (before + count) // step > before // step:
                    held.full_lanes[lane] = partition  # to be counted
                    self._look_at = 0.0
            held.added += lanes.total()
        if len(held.lanes) > LANES_REMEMBERED:
            held.lanes.clear()

    def look(self, consumer: int, epochs: Mapping[Key, int]) -> None:
        """Open the gates that nothing keeps closed, and count what is held where it may be too much."""
        for key in tuple(self._gates):
            if key not in epochs:
                del self._gates[key]
            elif not self._core.storage.positions.gate_holds(consumer, key[0], self._gates[key]):
                self._core.storage.positions.open_gate(consumer, *key, epochs[key])
                logger.info(
                    "%s: partition %d goes on: the events before it have finished.", self._name, key[1]
                )
                del self._gates[key]
        now = time.monotonic()
        if now < self._look_at:
            return
        self._look_at = now + LOOK_AGAIN_SECONDS
        for incarnation, held in self._held.items():
            self._count(consumer, incarnation, held)
            self._count_lanes(consumer, incarnation, held)

    def _count(self, consumer: int, incarnation: int, held: _Held) -> None:
        quota = self._quotas.consumer
        if not held.added and held.counted is None:
            return
        if held.counted is not None and held.full is None and held.counted + held.added < quota:
            return
        held.counted = self._core.storage.lanes.count_held(consumer, incarnation, "", quota)
        held.added = 0
        full = held.counted >= quota
        held.full = (
            f"{quota} events wait behind others, as many as held_per_consumer allows" if full else None
        )
        self._tell(f"{incarnation}", held.full)

    def _count_lanes(self, consumer: int, incarnation: int, held: _Held) -> None:
        reasons: dict[int, str] = {}
        for lane, partition in tuple(held.full_lanes.items()):
            if (
                self._core.storage.lanes.count_open(consumer, incarnation, lane, self._quotas.lane)
                < self._quotas.lane
            ):
                del held.full_lanes[lane]
            else:
                reasons[partition] = (
                    f"{self._quotas.lane} events wait in the lane {lane}, as many as held_per_lane allows"
                )
        mine = [place for place in self._told if place.startswith(f"{incarnation}/")]
        for place in {*mine, *(f"{incarnation}/{partition}" for partition in reasons)}:
            self._tell(place, reasons.get(int(place.rpartition("/")[2])))

    def _tell(self, place: str, reason: str | None) -> None:
        if reason is None:
            if self._told.pop(place, None) is not None:
                logger.info(
                    "%s: intake goes on: fewer events wait.", self._name, extra={"consumer": self._name}
                )
        elif self._told.get(place) != reason:
            self._told[place] = reason
            logger.error(
                "%s: intake waits: %s. Redrive or discard what holds them up: dbos-events quarantine list.",
                self._name, reason, extra={"consumer": self._name},
            )  # fmt: skip


def _place(incarnation: int, partition: int) -> str:
    return f"{partition} (incarnation {incarnation})"

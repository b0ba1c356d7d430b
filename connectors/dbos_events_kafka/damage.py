"""Partitions that stand still because what the broker sends of them is not what was written."""

from __future__ import annotations

from collections.abc import Collection

from confluent_kafka import KafkaError

from dbos_events_kafka.buffers import Place
from dbos_events_kafka.state import SourceState

_CODES = (KafkaError._BAD_MSG, KafkaError.INVALID_MSG)  # noqa: SLF001


class Damage:
    """The client asks for the same record again and again, and skips nothing; here it is told of."""

    def __init__(self, state: SourceState) -> None:
        self._state = state
        self._places: set[Place] = set()

    def notes(self, place: Place, offset: int | None, error: KafkaError) -> bool:
        """Whether the error is of this kind, and told."""
        if error.code() not in _CODES or not place.topic:
            return False
        self._places.add(place)
        self._state.trouble(
            f"{place.topic}[{place.partition}] stands at offset {offset}: the record that the broker sends is "
            "damaged; see to the disk of the partition's leader, or move the leader to another replica. Reading "
            f"goes on by itself then ({error.str()})",
            _cause(place),
        )
        return True

    def repaired(self, places: Collection[Place]) -> None:
        """Records of these arrive, or they are another member's now."""
        for place in self._places.intersection(places):
            self._places.discard(place)
            self._state.mended(_cause(place))

    def __bool__(self) -> bool:
        return bool(self._places)


def _cause(place: Place) -> str:
    return f"damage of {place.topic}[{place.partition}]"

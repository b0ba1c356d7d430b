"""The core's side of positions: lives of topics, first offsets, halts, and the record that tells one log from another."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

from dbos_events.connect.source import Record
from dbos_events.engine.core import Core
from dbos_events.model.event import ConsumerOptions
from dbos_events.model.topic import TopicHistory
from dbos_events.runtime.encoding import fingerprint_of, id_prefix
from dbos_events.runtime.intake.batch import Assignment
from dbos_events.storage.subjects.positions import AssignedPosition

R = TypeVar("R")
Key = tuple[int, int]


class Positioning:
    """What a consumer's intake asks and tells the storage about positions."""

    options: ConsumerOptions
    _core: Core
    _prefix: str
    _number: int
    _assignments: dict[Key, Assignment]

    def __init__(self) -> None:
        self._witnesses: dict[Key, tuple[int, int]] = {}

    def _ask(self, work: Callable[[], R]) -> R:
        self._core.refuse_when_stopped()
        return self._core.ask(work)

    # -- topics -------------------------------------------------------------------------------

    def identify(self, cluster_id: str, topic: str, topic_id: str) -> int:
        storage = self._core.storage
        self._ask(lambda: storage.subscriptions.check(self._number, topic))
        return self._ask(lambda: storage.lives.identify(self._number, cluster_id, topic, topic_id))

    def branches(self, incarnation: int) -> Mapping[int, int]:
        return self._ask(lambda: self._core.storage.lives.branches(self._number, incarnation))

    def history(self, topic: str) -> TopicHistory:
        return self._ask(lambda: self._core.storage.lives.history(self._number, topic))

    def registered(self) -> frozenset[str]:
        return self._ask(lambda: self._core.storage.subscriptions.registered(self._number))

    def register(self, subscription: str) -> None:
        self._ask(lambda: self._core.storage.subscriptions.register(self._number, subscription))

    # -- partitions ---------------------------------------------------------------------------

    def known_partitions(self, incarnation: int) -> frozenset[int]:
        return self._ask(lambda: self._core.storage.positions.known_partitions(self._number, incarnation))

    def begin(
        self,
        incarnation: int,
        positions: Mapping[int, tuple[int, str]],
        gate: Mapping[int, int] | None = None,
    ) -> None:
        self._ask(lambda: self._core.storage.positions.create(self._number, incarnation, positions, gate))

    def skip(self, incarnation: int, partition: int, offset: int, alarm: str) -> bool:
        assignment = self._assignments[incarnation, partition]
        skipped = self._ask(
            lambda: self._core.storage.positions.skip(
                self._core.executor,
                (self._number, incarnation, partition),
                assignment.epoch,
                (assignment.next_offset, offset),
                alarm,
            )
        )
        if skipped:
            assignment.next_offset = offset
            self._witnesses.pop((incarnation, partition), None)
        return skipped

    def halt(self, incarnation: int, partition: int, reason: str, divergence: int | None) -> None:
        place = (self._number, incarnation, partition)
        self._ask(lambda: self._core.storage.positions.halt(self._core.executor, place, reason, divergence))

    def halted(self, incarnation: int) -> frozenset[int]:
        return self._ask(lambda: self._core.storage.positions.halted(self._number, incarnation))

    def alarm(self, incarnation: int, partition: int, text: str, regression: int | None = None) -> None:
        place = (self._number, incarnation, partition)
        self._ask(lambda: self._core.storage.positions.note_alarm(place, text, regression))

    def unfinished(self, incarnation: int) -> Mapping[int, frozenset[int]]:
        if self.options.ordering == "none":
            return {}
        return self._ask(lambda: self._core.storage.lives.unfinished(self._number, incarnation))

    # -- whether the log is still the same one ------------------------------------------------

    def _witness(self, topic: str, incarnation: int, found: Sequence[AssignedPosition]) -> dict[int, int]:
        """The last offset that was taken in of each partition, if it is known what the record was."""
        ids = {
            f"{id_prefix(self._prefix, topic, incarnation, row.partition)}{row.next_offset - 1}": row
            for row in found
        }
        known = self._ask(lambda: self._core.storage.intake.fingerprints(list(ids)))
        offsets = {}
        for id_, row in ids.items():
            self._witnesses.pop((incarnation, row.partition), None)
            if id_ in known:
                offsets[row.partition] = row.next_offset - 1
                self._witnesses[incarnation, row.partition] = (row.next_offset - 1, known[id_])
        return offsets

    def _contradicted(self, incarnation: int, records: Sequence[Record]) -> dict[int, str]:
        """The partitions whose log has another record where the last one was taken in, with what to say."""
        halted = {}
        for record in records:
            key = (incarnation, record.partition)
            witness = self._witnesses.get(key)
            if witness is None or record.offset < witness[0]:
                continue
            del self._witnesses[key]
            if record.offset == witness[0] and fingerprint_of(record) != witness[1]:
                halted[record.partition] = (
                    f"offset {record.offset} holds another record than the one that was taken in: the topic was "
                    "truncated or replaced"
                )
        return halted

"""Ask how far consumers are, and decide where they go on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal

from dbos_events.connect.connector import Connector
from dbos_events.connect.plugins import find_connector
from dbos_events.errors import ConnectorError

if TYPE_CHECKING:
    from dbos_events.model.consumer import PartitionDecided, PartitionState
    from dbos_events.storage.protocol import Storage

Adoption = Literal["continue", "restart"]
"""How a consumer begins in another cluster: at its watermarks, or as if it were new."""


MADE_AGAIN = "the topic was made again, and no process of the consumer has seen that yet"


class PositionControl:
    """What an operator may decide about the positions of one application's consumers.

    Each decision raises `RegistrationError` where there is no such consumer, or nothing to decide.
    """

    def __init__(
        self, storage: Storage, application: str, sections: Mapping[str, Mapping[str, Any]] | None = None
    ) -> None:
        self._storage = storage
        self._application = application
        self._sections = sections or {}

    def partitions(self, application: str | None = None) -> list[PartitionState]:
        """Every partition that a consumer has a watermark for, in the order of its names and numbers."""
        return sorted(
            self._storage.positions.read(application),
            key=lambda row: (row.application, row.consumer, row.topic, row.incarnation, row.partition),
        )

    def with_ends(
        self, connector: str, rows: Sequence[PartitionState], application: str | None = None
    ) -> list[PartitionState]:
        """The same partitions with the ends that this connector's broker tells now, whoever reads them or does not.

        The end of a topic that was made again and not yet seen by its consumer is not one of what it has read, so it
        stays unknown.

        Raises:
            ConfigurationError: No broker is named.
            ConnectorError: It does not answer.
        """
        found = find_connector(connector)
        if not isinstance(found, Connector) or found.ask_ends is None:
            raise ConnectorError(f"The {connector} connector cannot be asked for the ends of partitions.")
        stored = self._storage.consumers.settings(application)
        wanted: dict[tuple[str, str], dict[str, list[int]]] = {}
        for row in rows:
            if row.state != "retired":
                topics = wanted.setdefault((row.application, row.consumer), {})
                topics.setdefault(row.topic, []).append(row.partition)
        section, ask = self._sections.get(connector, {}), found.ask_ends
        answers = {key: ask(section, stored.get(key, {}), topics) for key, topics in wanted.items()}
        told = []
        for row in rows:
            answer = answers.get((row.application, row.consumer))
            if answer is None or row.state == "retired":
                told.append(row)
            elif row.topic_id and answer.topic_ids.get(row.topic) not in (None, "", row.topic_id):
                told.append(replace(row, end_offset=None, detail=row.detail or MADE_AGAIN))
            else:
                told.append(replace(row, end_offset=answer.offsets.get((row.topic, row.partition))))
        return told

    def adopt_cluster(self, consumer: str, adoption: Adoption) -> str:
        """Have a consumer read the cluster that it has met; gives the cluster's id."""
        return self._storage.decisions.adopt_cluster(self._application, consumer, adoption)

    def resolve_truncation(
        self, consumer: str, topic: str, partition: int, from_offset: int | None = None
    ) -> PartitionDecided:
        """Read a halted partition on as a new branch, from an offset or from where its log was found to differ."""
        return self._storage.decisions.resolve_truncation(
            self._application, consumer, (topic, partition), from_offset
        )

    def resolve_regression(
        self, consumer: str, topic: str, partition: int, *, skip: bool
    ) -> PartitionDecided:
        """Read a halted partition on from its watermark, or with `skip` from the broker's committed offset."""
        return self._storage.decisions.resolve_regression(
            self._application, consumer, (topic, partition), skip=skip
        )

    def adopt_watermark(self, consumer: str, from_group: str, to_group: str) -> None:
        """Have a consumer go on under another group, where it stands; its processes have to be stopped."""
        self._storage.decisions.adopt_watermark(self._application, consumer, from_group, to_group)

    def rename_consumer(self, consumer: str, to_name: str) -> str:
        """Give a consumer another name; gives the group that it reads with from now on."""
        return self._storage.decisions.rename_consumer(self._application, consumer, to_name)

    def clear_alarms(self, consumer: str) -> int:
        """Forget what the status told; gives how many partitions had something."""
        return self._storage.decisions.clear_alarms(self._application, consumer)

"""Ask how far consumers are, and decide where they go on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from dbos_events.model.consumer import PartitionDecided, PartitionState
    from dbos_events.storage.protocol import Storage

Adoption = Literal["continue", "restart"]
"""How a consumer begins in another cluster: at its watermarks, or as if it were new."""


class PositionControl:
    """What an operator may decide about the positions of one application's consumers.

    Each decision raises `RegistrationError` where there is no such consumer, or nothing to decide.
    """

    def __init__(self, storage: Storage, application: str) -> None:
        self._storage = storage
        self._application = application

    def partitions(self, application: str | None = None) -> list[PartitionState]:
        """Every partition that a consumer has a watermark for, in the order of its names and numbers."""
        return sorted(
            self._storage.list_partitions(application),
            key=lambda row: (row.application, row.consumer, row.topic, row.incarnation, row.partition),
        )

    def adopt_cluster(self, consumer: str, adoption: Adoption) -> str:
        """Have a consumer read the cluster that it has met; gives the cluster's id."""
        return self._storage.adopt_cluster(self._application, consumer, adoption)

    def resolve_truncation(
        self, consumer: str, topic: str, partition: int, from_offset: int | None = None
    ) -> PartitionDecided:
        """Read a halted partition on as a new branch, from an offset or from where its log was found to differ."""
        return self._storage.resolve_truncation(self._application, consumer, (topic, partition), from_offset)

    def resolve_regression(
        self, consumer: str, topic: str, partition: int, *, skip: bool
    ) -> PartitionDecided:
        """Read a halted partition on from its watermark, or with `skip` from the broker's committed offset."""
        return self._storage.resolve_regression(self._application, consumer, (topic, partition), skip=skip)

    def adopt_watermark(self, consumer: str, from_group: str, to_group: str) -> None:
        """Have a consumer go on under another group, where it stands; its processes have to be stopped."""
        self._storage.adopt_watermark(self._application, consumer, from_group, to_group)

    def rename_consumer(self, consumer: str, to_name: str) -> str:
        """Give a consumer another name; gives the group that it reads with from now on."""
        return self._storage.rename_consumer(self._application, consumer, to_name)

    def clear_alarms(self, consumer: str) -> int:
        """Forget what the status told; gives how many partitions had something."""
        return self._storage.clear_alarms(self._application, consumer)

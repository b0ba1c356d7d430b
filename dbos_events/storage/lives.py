"""What the storage knows of the lives of topics, and what operators decide about positions."""

from __future__ import annotations

from typing import Protocol

from dbos_events.model.consumer import PartitionDecided
from dbos_events.model.topic import TopicHistory


class Lives(Protocol):
    """Incarnations, branches, and decisions about partitions (protocol 7 to 9)."""

    def identify(self, consumer: int, cluster_id: str, topic: str, topic_id: str) -> int:
        """The number of the topic's life in use, new if need be; earlier lives are retired then.

        Raises `StaleTopic` when the id is a retired one, and `ClusterChanged` when the consumer has read another
        cluster and nobody has decided about this one.
        """
        ...

    def claim_topic(self, consumer: int, topic: str) -> None:
        """Raise `RegistrationError` when another consumer of the application and the group subscribes to it."""
        ...

    def id_group(self, consumer: int) -> str:
        """The group that the ids of a consumer's events name: the one that it began with."""
        ...

    def fingerprints(self, workflow_ids: list[str]) -> dict[str, int]:
        """Those of the events that are known."""
        ...

    def branches(self, consumer: int, incarnation: int) -> dict[int, int]:
        """The newest branch of each partition that has one."""
        ...

    def unfinished_lives(self, consumer: int, incarnation: int) -> dict[int, frozenset[int]]:
        """Lives and branches of the same topic that are over, with the partitions that hold ordered events still."""
        ...

    def history(self, consumer: int, topic: str) -> TopicHistory:
        """What the consumer has to do with the topic already."""
        ...

    def registered(self, consumer: int) -> frozenset[str]:
        """The topics and patterns whose first positions are written."""
        ...

    def register_subscription(self, consumer: int, subscription: str) -> None:
        """From now on, what appears under it begins at its first record."""
        ...

    def skip(
        self, executor: int, place: tuple[int, int, int], epoch: int, offsets: tuple[int, int], alarm: str
    ) -> bool:
        """Move the watermark of (consumer, incarnation, partition) over offsets that are gone, with a gap.

        `offsets` are where the assignment stands, and where it goes on. False when it has been fenced.
        """
        ...

    def halt(self, executor: int, place: tuple[int, int, int], reason: str, divergence: int | None) -> None:
        """Keep a partition from being read until an operator decides, also in the next process."""
        ...

    def halted_partitions(self, consumer: int, incarnation: int) -> frozenset[int]:
        """Those that wait for a decision."""
        ...

    def note_alarm(self, place: tuple[int, int, int], alarm: str, regression: int | None) -> None:
        """Show it in the status until somebody says that it was read."""
        ...

    def adopt_cluster(self, application: str, name: str, adoption: str) -> str:
        """Decide that the consumer reads the cluster that it has met; gives the cluster's id.

        Raises `RegistrationError` when there is no such consumer, or nothing to decide; so do the others.
        """
        ...

    def resolve_truncation(
        self, application: str, name: str, place: tuple[str, int], offset: int | None
    ) -> PartitionDecided:
        """Open a new branch of a halted (topic, partition) from `offset`, or where the log diverges."""
        ...

    def resolve_regression(
        self, application: str, name: str, place: tuple[str, int], *, skip: bool
    ) -> PartitionDecided:
        """Read a halted partition on from its watermark, or from the broker's committed offset."""
        ...

    def adopt_watermark(self, application: str, name: str, from_group: str, to_group: str) -> None:
        """Have a consumer go on under another group, where it stands."""
        ...

    def rename_consumer(self, application: str, name: str, to_name: str) -> str:
        """Give a consumer another name; gives the group that it reads with from now on."""
        ...

    def clear_alarms(self, application: str, name: str) -> int:
        """Forget what the status told; gives how many partitions had something."""
        ...

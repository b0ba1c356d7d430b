"""A small cluster: one controller and two brokers, each a process of its own, to lose records on purpose."""

from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import Self

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient
from confluent_kafka.admin._metadata import ClusterMetadata, PartitionMetadata
from confluent_kafka.cimpl import NewTopic

from tests.servers.kafka import ADMIN_SECONDS, KafkaServer, make_admin, random_id
from tests.servers.process import accepts_connections

ASK_SECONDS = 1.0
"""The client asks a broker that has just been killed, too, and waits for it."""
CONTROLLER = 1
CLUSTER_SETTINGS = {
    "offsets.topic.replication.factor": "2",
    # Longer than a busy machine lets a broker wait for its turn: one that is alive must not be given up.
    "broker.session.timeout.ms": "5000",
    # A coordinator that lost what it knew of its group waits for members that are gone.
    "group.consumer.session.timeout.ms": "7000",
    "min.insync.replicas": "1",
    # A replica that lacks records may lead, when there is no other: this is what loses them.
    "unclean.leader.election.enable": "true",
}


class _Controller(KafkaServer):
    """Knows who leads; keeps no records. Its only port is that of the controllers."""

    node = CONTROLLER

    def __init__(self, cluster_id: str) -> None:
        super().__init__(settings=CLUSTER_SETTINGS, local=True)
        self._cluster_id = cluster_id

    def _serves(self) -> bool:
        return accepts_connections(self.port)

    def _settings(self, host: str, controller_port: int) -> dict[str, str]:
        settings = super()._settings(host, controller_port) | {
            "process.roles": "controller",
            "listeners": f"CONTROLLER://{self.bootstrap}",
            "controller.quorum.voters": f"{CONTROLLER}@{self.bootstrap}",
        }
        del settings["advertised.listeners"]
        return settings


class ClusterBroker(KafkaServer):
    """One broker of a cluster: `stop`, `kill` and `start` it."""

    def __init__(self, node: int, cluster_id: str, controller: str) -> None:
        super().__init__(settings=CLUSTER_SETTINGS, local=True)
        self.node = node
        self._cluster_id = cluster_id
        self._controller = controller

    def _settings(self, host: str, controller_port: int) -> dict[str, str]:
        return super()._settings(host, controller_port) | {
            "process.roles": "broker",
            "node.id": str(self.node),
            "listeners": f"PLAINTEXT://{self.bootstrap}",
            "controller.quorum.voters": f"{CONTROLLER}@{self._controller}",
        }


class KafkaCluster:
    """Two brokers and the controller, which no test ends: use it in a `with` block."""

    def __init__(self) -> None:
        """Find the programs; nothing starts yet."""
        cluster_id = random_id()
        self._controller = _Controller(cluster_id)
        self.brokers = [
            ClusterBroker(node, cluster_id, self._controller.bootstrap)
            for node in (CONTROLLER + 1, CONTROLLER + 2)
        ]
        self._admin: AdminClient | None = None

    def __enter__(self) -> Self:
        try:
            with ThreadPoolExecutor() as together:  # a broker waits for its controller by itself
                for started in [together.submit(one.start) for one in (self._controller, *self.brokers)]:
                    started.result()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def bootstrap(self) -> str:
        """The addresses of both brokers, for clients."""
        return ",".join(broker.bootstrap for broker in self.brokers)

    def close(self) -> None:
        """End all three and remove their data."""
        for server in (*self.brokers, self._controller):
            server.close()

    @property
    def admin(self) -> AdminClient:
        """One client for all questions: one that nobody refers to any more takes its answers with it."""
        if self._admin is None:
            self._admin = make_admin(self.bootstrap)
        return self._admin

    def create_topic(self, name: str, partitions: int) -> None:
        """Create a topic that both brokers have; the first one leads every partition."""
        nodes = [broker.node for broker in self.brokers]
        topic = NewTopic(name, num_partitions=partitions, replica_assignment=[nodes] * partitions)
        self.admin.create_topics([topic], operation_timeout=ADMIN_SECONDS)[name].result(ADMIN_SECONDS)

    def leaders(self, topic: str) -> list[int]:
        """The node that leads each partition, as one of the brokers knows it; -1 where none does."""
        return [one.leader for one in self._partitions(topic)]

    def in_sync(self, topic: str) -> list[set[int]]:
        """The nodes that have all records of each partition."""
        return [set(one.isrs) for one in self._partitions(topic)]

    def _partitions(self, topic: str) -> list[PartitionMetadata]:
        try:
            found: ClusterMetadata = self.admin.list_topics(topic, timeout=ASK_SECONDS)
        except KafkaException:  # it has asked a broker that is dead
            return []
        return list(found.topics[topic].partitions.values())

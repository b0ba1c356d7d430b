"""Apache Kafka for tests: a broker of our own, one node in KRaft mode."""

import subprocess
import uuid
from base64 import urlsafe_b64encode
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from tests.servers import containers, kafka_binaries
from tests.servers.errors import ServerFailed
from tests.servers.process import (
    GuardedProcess,
    Process,
    accepts_connections,
    free_port,
    make_directory,
    remove_directory,
)

READY_SECONDS = 90.0
START_TRIES = 3
ADMIN_SECONDS = 30.0
# C1 alone and the serial collector: the broker is up sooner, and leaves the two cores to the tests.
JAVA_OPTIONS = (
    "-Xms256m",
    "-Xmx512m",
    "-XX:+UseSerialGC",
    "-XX:TieredStopAtLevel=1",
    "-Djava.awt.headless=true",
)
FORMAT_OPTIONS = ("-Xshare:auto", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1")

SETTINGS = {
    "process.roles": "broker,controller",
    "node.id": "1",
    "controller.listener.names": "CONTROLLER",
    "inter.broker.listener.name": "PLAINTEXT",
    "default.replication.factor": "1",
    "offsets.topic.replication.factor": "1",
    "offsets.topic.num.partitions": "5",
    "transaction.state.log.replication.factor": "1",
    "transaction.state.log.min.isr": "1",
    "transaction.state.log.num.partitions": "5",
    "share.coordinator.state.topic.replication.factor": "1",
    "share.coordinator.state.topic.min.isr": "1",
    # After a crash the broker waits until its last registration has run out.
    "broker.session.timeout.ms": "3000",
    "broker.heartbeat.interval.ms": "500",
    # A test makes its topics itself: a name that is misspelt must not become a topic.
    "auto.create.topics.enable": "false",
    # Members come and go often in tests: look after groups sooner than a production broker would.
    "group.initial.rebalance.delay.ms": "0",
    "group.min.session.timeout.ms": "1000",
    "group.consumer.min.session.timeout.ms": "1000",
    "group.consumer.min.heartbeat.interval.ms": "100",
    "group.consumer.heartbeat.interval.ms": "500",
    "group.consumer.session.timeout.ms": "10000",
}


class KafkaServer:
    """A broker of our own, in Docker or from local jars; data and port stay the same over restarts.

    Each of its `doors` is one more port that it listens on; who comes in there is told to come back to the port that
    belongs to it, where a test has put a proxy. Use it in a `with` block, or call `close` at the end.
    """

    node = 1
    """Its number in its cluster."""

    def __init__(
        self,
        *,
        settings: Mapping[str, str] | None = None,
        local: bool = False,
        doors: Mapping[int, int] | None = None,
    ) -> None:
        """Find the programs; `local` means from jars, for what a container could not reach."""
        self._overrides = dict(settings or {})
        self._doors = {f"DOOR{door}": (door, told) for door, told in (doors or {}).items()}
        self._image = f"apache/kafka:{kafka_binaries.version()}"
        self._in_docker = not (local or doors) and containers.can_run(self._image)
        self._java = "" if self._in_docker else kafka_binaries.java()
        self._jars = Path() if self._in_docker else kafka_binaries.jars()
        self._directory: Path | None = None
        self._process: Process | None = None
        self._cluster_id = random_id()
        self.port = free_port()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def bootstrap(self) -> str:
        """The address for clients, `host:port`."""
        return f"127.0.0.1:{self.port}"

    def segment(self, topic: str, partition: int = 0) -> Path:
        """The file with the first records of a partition; only of a broker that runs from jars."""
        assert self._directory is not None
        return next((self._directory / "data" / f"{topic}-{partition}").glob("*.log"))

    @property
    def running(self) -> bool:
        """Whether the broker is alive."""
        return self._process is not None and self._process.running

    def start(self) -> None:
        """Start the broker and return when it serves clients."""
        if self._process is not None:
            self._launch(self._process)
            return
        for attempt in range(1, START_TRIES + 1):
            self._process = self._make_process()
            try:
                self._launch(self._process)
            except ServerFailed:
                self.close()
                if attempt == START_TRIES:
                    raise
                self.port = free_port()  # another process may have taken the first one since
            else:
                return

    def stop(self) -> None:
        """Stop in order: the log is closed cleanly."""
        if self._process is not None:
            self._process.stop()

    def kill(self) -> None:
        """Stop as a crash would (`kill -9`); the next start recovers the log."""
        if self._process is not None:
            self._process.kill()

    def restart(self) -> None:
        """Stop in order and start again."""
        self.stop()
        self.start()

    def close(self) -> None:
        """Stop the broker and remove its data."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.remove()
        if self._directory is not None:
            remove_directory(self._directory)
            self._directory = None

    def _launch(self, process: Process) -> None:
        process.start()
        process.wait_ready(self._serves, seconds=READY_SECONDS)

    def _serves(self) -> bool:
        # The port first: the client reports each refused connection on standard error.
        if not accepts_connections(self.port):
            return False
        try:
            return self.node in make_admin(self.bootstrap).list_topics(timeout=5).brokers
        except KafkaException:
            return False

    def _make_process(self) -> Process:
        if self._in_docker:
            return self._make_container()
        self._directory = make_directory("kafka")
        properties = self._directory / "server.properties"
        settings = self._settings("127.0.0.1", free_port()) | {"log.dirs": str(self._directory / "data")}
        properties.write_text("".join(f"{name}={value}\n" for name, value in settings.items()))
        self._format(properties)
        return GuardedProcess(
            [self._java, *JAVA_OPTIONS, "-cp", f"{self._jars}/*", "kafka.Kafka", str(properties)],
            directory=self._directory,
        )

    def _make_container(self) -> Process:
        settings = self._settings("0.0.0.0", self.port + 1)  # noqa: S104 - inside the container
        environment = {f"KAFKA_{name.replace('.', '_').upper()}": value for name, value in settings.items()}
        return containers.ContainerProcess(
            self._image, port=self.port, environment=environment | {"CLUSTER_ID": self._cluster_id}
        )

    def _settings(self, host: str, controller_port: int) -> dict[str, str]:
        listens = {
            "PLAINTEXT": f"{host}:{self.port}",
            "CONTROLLER": f"127.0.0.1:{controller_port}",
            **{name: f"127.0.0.1:{door}" for name, (door, _) in self._doors.items()},
        }
        tells = {
            "PLAINTEXT": self.bootstrap,
            **{name: f"127.0.0.1:{told}" for name, (_, told) in self._doors.items()},
        }
        addresses = {
            "listeners": ",".join(f"{name}://{address}" for name, address in listens.items()),
            "advertised.listeners": ",".join(f"{name}://{address}" for name, address in tells.items()),
            "listener.security.protocol.map": ",".join(f"{name}:PLAINTEXT" for name in listens),
            "controller.quorum.voters": f"1@127.0.0.1:{controller_port}",
        }
        return SETTINGS | addresses | self._overrides

    def _format(self, properties: Path) -> None:
        tool = [*FORMAT_OPTIONS, "-cp", f"{self._jars}/*", "kafka.tools.StorageTool"]
        done = subprocess.run(
            [self._java, *tool, "format", "-t", self._cluster_id, "-c", str(properties)],
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            message = f"formatting the broker's storage failed:\n{done.stdout}{done.stderr}"
            raise ServerFailed(message)


def make_admin(bootstrap: str) -> AdminClient:
    """Return a client for topics and groups that keeps its own troubles to itself."""
    return AdminClient({"bootstrap.servers": bootstrap, "log_level": 0})


def create_topic(
    bootstrap: str, name: str, *, partitions: int = 1, settings: Mapping[str, str] | None = None
) -> None:
    """Create a topic and return when every partition of it has a leader."""
    admin = make_admin(bootstrap)
    topic = NewTopic(name, num_partitions=partitions, replication_factor=1, config=dict(settings or {}))
    admin.create_topics([topic], operation_timeout=ADMIN_SECONDS)[name].result(ADMIN_SECONDS)


def delete_topics(bootstrap: str, names: Sequence[str]) -> None:
    """Delete topics, those that are still there."""
    if not names:
        return
    admin = make_admin(bootstrap)
    for deleted in admin.delete_topics(list(names), operation_timeout=ADMIN_SECONDS).values():
        with suppress(KafkaException):
            deleted.result(ADMIN_SECONDS)


def random_id() -> str:
    """Return a cluster id in Kafka's form: 16 bytes in URL-safe base 64, not taken for an option."""
    return urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=").replace("-", "A")

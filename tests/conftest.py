"""Fixtures that tests of every kind share: databases and topics, on real servers.

A test says what it needs by the fixtures that it takes; the markers `postgres` and `kafka` follow from
them, so that `-m "not kafka"` works. Servers start when the first test that needs them runs. Where no
server can be had, its tests are skipped with a line that says how to get one; with
DBOS_EVENTS_REQUIRE_SERVERS=1 they fail instead.
"""

import os
import shutil
import tempfile
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Protocol

import psycopg
import pytest

from tests.servers import (
    KafkaServer,
    Postgres,
    PostgresServer,
    RemoteServers,
    Servers,
    ServerUnavailable,
    SharedServers,
)
from tests.servers.kafka import create_topic, delete_topics
from tests.servers.kafka_secure import SecureKafkaServer
from tests.servers.migrated import MigratedDatabases
from tests.servers.postgres_binaries import installed
from tests.servers.shared import KAFKA_ADDRESS

TESTS = Path(__file__).parent
FIRST = ("architecture", "unit", "storage", "engine")
"""Folders whose tests fail most often when something is changed, and take least time to do so."""

REQUIRE = "DBOS_EVENTS_REQUIRE_SERVERS"
SERVERS = pytest.StashKey[Servers]()
TOLD = pytest.StashKey[Path]()
OWN_SERVERS: dict[str, Callable[[], object]] = {"postgres": PostgresServer, "kafka": KafkaServer}
MARKER_OF_FIXTURE = {
    "postgres": "postgres",
    "postgres_url": "postgres",
    "postgres_server": "postgres",
    "each_postgres_url": "postgres",
    "migrated_postgres": "postgres",
    "kafka_bootstrap": "kafka",
    "kafka_topic": "kafka",
    "kafka_server": "kafka",
    "secure_kafka": "kafka",
}
ONE_PROCESS = {"secure_kafka"}
"""What takes seconds to start, and is shared by the tests of one process: all that want it run there."""
FIXTURES_WITH_OWN_SERVER = {"postgres": {"postgres_server"}, "kafka": {"kafka_server", "secure_kafka"}}


class TopicFactory(Protocol):
    """Makes topics with names of their own."""

    def __call__(self, partitions: int = 1, *, prefix: str = "topic", **settings: str) -> str:
        """Create a topic and return its name; settings are written with `_` for `.`."""
        ...


# ------------------------------------------------------------------ one set of servers for the run


def pytest_configure(config: pytest.Config) -> None:
    worker = getattr(config, "workerinput", None)
    config.stash[SERVERS] = RemoteServers(*worker["servers"]) if worker else SharedServers()
    config.stash[TOLD] = Path(worker["told"] if worker else tempfile.mkdtemp(prefix="dbos_events_"))


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """Tell an xdist worker where to ask for servers, and where to tell of its tests."""
    servers = node.config.stash[SERVERS]
    node.workerinput["servers"] = servers.listen()
    node.workerinput["told"] = str(node.config.stash[TOLD])


def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """Leave word of how the run ended: `.ci/run` tells tests that failed from a run that did not come to its end."""
    if not hasattr(session.config, "workerinput") and session.config.cache is not None:
        session.config.cache.set("tests/ended", int(exitstatus))


def pytest_unconfigure(config: pytest.Config) -> None:
    servers = config.stash.get(SERVERS, None)
    if servers is not None:
        servers.close()
    if TOLD in config.stash and not hasattr(config, "workerinput"):
        shutil.rmtree(config.stash[TOLD], ignore_errors=True)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Share the tests out as `make test` has it."""
    if config.getvalue("dist") != "loadgroup":
        return None
    from tests.scheduling import Sharing

    return Sharing(config, log, config.stash[TOLD])


@pytest.hookimpl(tryfirst=True)
def pytest_collection_finish(session: pytest.Session) -> None:
    """Tell the process that shares the tests out which of them are slow, before it hears of them."""
    worker = getattr(session.config, "workerinput", None)
    if worker:
        from tests.scheduling import tell

        tell(session.items, session.config.stash[TOLD], worker["workerid"])


@pytest.hookimpl(wrapper=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> Iterator[None]:
    """Mark each test with the servers that its fixtures need; then the quick tests that find most come first.

    Behind them come groups and those marked slow, of which two at most run at once (`tests/scheduling.py`), then the rest,
    so that no process is left alone with a long one in the end. Marks are put on before `-m` chooses. The order is made
    after `pytest-randomly` shuffled, and before `--ff` puts what failed last in front.
    """
    for item in items:
        if " at 0x" in item.nodeid:  # processes that run tests beside each other must have the same ones
            raise pytest.UsageError(f"{item.nodeid}: give it an id that is the same in every process")
    for item in items:
        for fixture in getattr(item, "fixturenames", ()):
            marker = MARKER_OF_FIXTURE.get(fixture)
            if marker:
                item.add_marker(marker)
            if fixture in ONE_PROCESS:
                item.add_marker(pytest.mark.xdist_group(fixture))
    yield
    items.sort(key=_turn)


def _turn(item: pytest.Item) -> int:
    if item.get_closest_marker("slow") or item.get_closest_marker("xdist_group"):
        return len(FIRST)
    folder = item.path.relative_to(TESTS).parts[0] if item.path.is_relative_to(TESTS) else ""
    return FIRST.index(folder) if folder in FIRST else len(FIRST) + 1


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Leave the test out when its server cannot be had: here, so that the report has one line per server."""
    fixtures: tuple[str, ...] = getattr(item, "fixturenames", ())
    for name, own_server in OWN_SERVERS.items():
        if item.get_closest_marker(name) is None:
            continue
        with or_left_out(name):
            if FIXTURES_WITH_OWN_SERVER[name].intersection(fixtures):
                own_server()  # looks for the programs, and starts nothing
            else:
                item.config.stash[SERVERS].address(name)


@contextmanager
def or_left_out(name: str) -> Iterator[None]:
    """Skip the running test when there is no such server, or fail it where servers are required."""
    try:
        yield
    except ServerUnavailable as error:
        message = f"tests marked `{name}` are left out: {error}"
        if os.environ.get(REQUIRE, "0") not in {"", "0"}:
            pytest.fail(f"{message} ({REQUIRE} is set)", pytrace=False)
        pytest.skip(message)


@pytest.fixture(scope="session")
def servers(pytestconfig: pytest.Config) -> Servers:
    """The servers of this test run, shared by all its workers."""
    return pytestconfig.stash[SERVERS]


def unique_name(prefix: str) -> str:
    """Return a name that no other test uses."""
    return f"{prefix}_{uuid.uuid4().hex[:16]}"


# ------------------------------------------------------------------ databases


@pytest.fixture
def postgres(servers: Servers) -> Postgres:
    """The shared PostgreSQL server, for tests that make several databases or templates."""
    return Postgres(servers.address("postgres"))


@contextmanager
def fresh_database(server: Postgres) -> Iterator[str]:
    """Create a database for the time of the block."""
    name = unique_name("test")
    url = server.create_database(name)
    try:
        yield url
    finally:
        with suppress(psycopg.OperationalError):  # a test may have stopped its server
            server.drop_database(name)


@pytest.fixture
def postgres_url(postgres: Postgres) -> Iterator[str]:
    """A fresh, empty PostgreSQL database."""
    with fresh_database(postgres) as url:
        yield url


@pytest.fixture(params=sorted(installed()), ids=lambda version: f"postgres{version}")
def each_postgres_url(request: pytest.FixtureRequest, servers: Servers) -> Iterator[str]:
    """A fresh, empty database on each version of PostgreSQL that this machine has."""
    server = Postgres(servers.address(f"postgres-{request.param}"))
    with fresh_database(server) as url:
        yield url


@pytest.fixture
def sqlite_url(tmp_path: Path) -> str:
    """A SQLite file that does not exist yet."""
    return f"sqlite:///{tmp_path / 'test.sqlite'}"


@pytest.fixture(scope="session")
def migrated_databases(servers: Servers) -> Iterator[MigratedDatabases]:
    """Those that the tests of this process use one after the other."""
    databases = MigratedDatabases(Postgres(servers.address("postgres")))
    yield databases
    databases.close()


@pytest.fixture
def migrated_postgres(migrated_databases: MigratedDatabases) -> Iterator[str]:
    """A PostgreSQL database with our schema and without rows."""
    url = migrated_databases.take()
    yield url
    migrated_databases.give_back(url)


@pytest.fixture
def migrated_sqlite(tmp_path: Path, dbos_template: Path) -> str:
    """A SQLite file with our schema and without rows."""
    return f"sqlite:///{shutil.copy(dbos_template, tmp_path / 'test.sqlite')}"


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def database_url(request: pytest.FixtureRequest) -> str:
    """A database of each kind with our schema and without rows: the test runs on SQLite and on PostgreSQL."""
    url: str = request.getfixturevalue(f"migrated_{request.param}")
    return url


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def empty_database_url(request: pytest.FixtureRequest) -> str:
    """As `database_url`, before anything is migrated."""
    url: str = request.getfixturevalue(f"{request.param}_url")
    return url


@pytest.fixture
def postgres_server() -> Iterator[PostgresServer]:
    """A PostgreSQL server of the test's own, to stop, crash and restart."""
    with PostgresServer() as server:
        yield server


# ------------------------------------------------------------------ Kafka


@pytest.fixture(scope="session")
def kafka_bootstrap(servers: Servers) -> str:
    """The address of the shared broker."""
    return servers.address("kafka")


@pytest.fixture
def kafka_topic(kafka_bootstrap: str) -> Iterator[TopicFactory]:
    """Make topics on the shared broker: `kafka_topic(partitions=4)` returns the new topic's name."""
    made: list[str] = []

    def make(partitions: int = 1, *, prefix: str = "topic", **settings: str) -> str:
        name = unique_name(prefix)
        dotted = {key.replace("_", "."): value for key, value in settings.items()}
        create_topic(kafka_bootstrap, name, partitions=partitions, settings=dotted)
        made.append(name)
        return name

    yield make
    if KAFKA_ADDRESS in os.environ:  # a broker that outlives the tests
        delete_topics(kafka_bootstrap, made)


@pytest.fixture
def kafka_server() -> Iterator[KafkaServer]:
    """A broker of the test's own, to stop, kill and restart."""
    with KafkaServer() as server:
        yield server


@pytest.fixture(scope="session")
def secure_kafka() -> Iterator[SecureKafkaServer]:
    """A broker with users, rights and TLS; all tests that want one share it."""
    with SecureKafkaServer() as server:
        yield server

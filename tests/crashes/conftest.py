"""Places where scenarios are run, and how many points are struck."""

import os
import random
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from tests.conftest import fresh_database
from tests.crashes.running import Databases, Runs
from tests.servers import Postgres, Servers

AT_ONCE = 2


@pytest.fixture(scope="session")
def sqlite_runs(dbos_template: object) -> Iterator[Runs]:
    with Runs(Databases("sqlite", [""] * AT_ONCE, str(dbos_template))) as runs:
        yield runs


@pytest.fixture(scope="session")
def crash_databases(servers: Servers) -> Iterator[Databases]:
    """PostgreSQL databases that are emptied before each run."""
    with ExitStack() as stack:
        server = Postgres(servers.address("postgres"))
        yield Databases("postgres", [stack.enter_context(fresh_database(server)) for _ in range(AT_ONCE)])


@pytest.fixture(scope="session")
def postgres_runs(crash_databases: Databases) -> Iterator[Runs]:
    with Runs(crash_databases) as runs:
        yield runs


@pytest.fixture
def sample() -> random.Random:
    """Chooses points. The seed is printed, and repeats the choice."""
    seed = int(os.environ.get("DBOS_EVENTS_CRASH_SEED", "0")) or random.randrange(1, 1_000_000)
    print(f"seed {seed}: DBOS_EVENTS_CRASH_SEED={seed} chooses the same points")
    return random.Random(seed)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if "postgres_runs" in getattr(item, "fixturenames", ()):
            item.add_marker("postgres")

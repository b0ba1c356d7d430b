"""Fixtures of the tests of the checker."""

from collections.abc import Iterator

import pytest

from tests.chaos.made_rows import Made
from tests.conftest import fresh_database
from tests.faults.operator import make_schema
from tests.servers import Postgres, Servers


@pytest.fixture(scope="module")
def database(servers: Servers) -> Iterator[Made]:
    with fresh_database(Postgres(servers.address("postgres"))) as url:
        make_schema(url)
        made = Made(url)
        made.audit.install()
        yield made


@pytest.fixture
def made(database: Made) -> Made:
    database.empty()
    return database

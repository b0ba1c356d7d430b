"""What the harness does as an operator bites the workers' role, is over afterwards, and never concerns the harness."""

import threading
from collections.abc import Callable, Iterator
from contextlib import suppress

import psycopg
import pytest
from psycopg import errors

from tests.chaos.database_faults import LIMITS, LOCKS, SETTINGS
from tests.chaos.operators import PLACES, RIGHTS, ROLE, Operators, Right
from tests.faults.operator import make_schema
from tests.faults.waiting import wait_until
from tests.servers import PostgresServer

pytestmark = pytest.mark.postgres

PATIENCE = 30.0


@pytest.fixture(scope="module")
def owner_url() -> Iterator[str]:
    """A server of our own: settings of a server are everybody's."""
    with PostgresServer() as server:
        url = server.create_database("chaos")
        make_schema(url)
        Operators(url).make_role()
        yield url


@pytest.fixture
def operators(owner_url: str) -> Iterator[Operators]:
    yield Operators(owner_url)
    after = Operators(owner_url)
    after.let_write()
    after.heal()


@pytest.fixture
def session(owner_url: str) -> Iterator[Callable[[], psycopg.Connection]]:
    """Opens sessions of the workers' role."""
    opened: list[psycopg.Connection] = []

    def open_one() -> psycopg.Connection:
        url = owner_url.replace("//postgres@", f"//{ROLE}@")
        opened.append(psycopg.connect(url, autocommit=True, connect_timeout=10))
        return opened[-1]

    yield open_one
    for connection in opened:
        connection.close()


Open = Callable[[], psycopg.Connection]


def shown(connection: psycopg.Connection, name: str) -> str:
    [value] = connection.execute("SELECT current_setting(%s)", (name,)).fetchone() or [""]
    return str(value)


def write(connection: psycopg.Connection) -> None:
    connection.execute("UPDATE dbos_events.watermarks SET next_offset = next_offset WHERE false")


# ------------------------------------------------------------------ locks, cancelled statements, sessions


@pytest.mark.parametrize(("table", "mode"), LOCKS)
def test_a_lock_keeps_writers_out_until_it_is_given_back(
    operators: Operators, session: Open, table: str, mode: str
) -> None:
    connection = session()
    statement = f"DELETE FROM dbos_events.{table} WHERE false".encode()
    connection.execute("SET lock_timeout = '50ms'")

    def look() -> None:
        with pytest.raises(errors.LockNotAvailable):
            connection.execute(statement)

    operators.lock(table, mode, look)
    connection.execute(statement)


def test_a_statement_that_runs_is_cancelled_and_its_session_lives(
    operators: Operators, session: Open
) -> None:
    connection = session()
    raised: list[BaseException] = []

    def sleep() -> None:
        try:
            connection.execute("SELECT pg_sleep(60)")
        except errors.QueryCanceled as error:
            raised.append(error)

    thread = threading.Thread(target=sleep)
    thread.start()
    wait_until(lambda: operators.cancel() > 0, "nothing was cancelled", seconds=PATIENCE)
    thread.join(PATIENCE)
    assert len(raised) == 1
    write(connection)


def test_sessions_are_ended_all_or_some_and_only_those_of_the_role(
    operators: Operators, session: Open, owner_url: str
) -> None:
    with psycopg.connect(owner_url) as owner:
        sessions = [session() for _ in range(6)]
        some = operators.terminate(every=2)
        assert 0 <= some < len(sessions) + 1
        assert some + operators.terminate() >= len(sessions)
        for connection in sessions:
            with pytest.raises(psycopg.OperationalError):
                write(connection)
        owner.execute("SELECT 1")


# ------------------------------------------------------------------ rights


@pytest.mark.parametrize("right", RIGHTS, ids=lambda right: right.name)
def test_a_right_is_missing_until_it_is_given_back(operators: Operators, session: Open, right: Right) -> None:
    operators.revoke(right)
    try:
        with suppress(errors.InsufficientPrivilege, psycopg.OperationalError):
            connection = session()
            for table, change in COLUMN.items():
                connection.execute(f"SELECT count(*) FROM dbos_events.{table}".encode())
                connection.execute(f"UPDATE dbos_events.{table} SET {change} WHERE false".encode())
            for table in ("checkpoints", "published_values"):
                connection.execute(
                    f"INSERT INTO dbos_events.{table} SELECT * FROM dbos_events.{table}".encode()
                )
            if right.name == "call functions":
                [(allowed,)] = connection.execute(
                    "SELECT bool_or(has_function_privilege(p.oid, 'EXECUTE')) FROM pg_proc p "
                    "JOIN pg_namespace n ON n.oid = p.pronamespace WHERE n.nspname = 'dbos_events'"
                ).fetchall()
                assert not allowed
                return
            pytest.fail("all is allowed")
    finally:
        operators.grant()
    write(session())


COLUMN = {
    "events": "workflow_id = workflow_id",
    "workflows": "status = status",
    "checkpoints": "name = name",
    "watermarks": "epoch = epoch",
    "messages": "topic = topic",
    "ticks": "outcome = outcome",
}


# ------------------------------------------------------------------ settings


@pytest.mark.parametrize(
    ("place", "name", "value"), sorted({*LIMITS, *SETTINGS}), ids=lambda value: value.replace(" ", "_")
)
def test_a_setting_reaches_the_sessions_that_it_should_and_is_over_afterwards(
    operators: Operators, session: Open, owner_url: str, place: str, name: str, value: str
) -> None:
    old, usual = session(), shown(session(), name)
    operators.set_default(place, name, value)
    try:
        if place == "server":
            wait_until(lambda: refuses(lambda: shown(old, name) == usual), f"{name} did not arrive")
        else:
            assert shown(old, name) == usual
            assert refuses(lambda: shown(session(), name) == usual)
        with psycopg.connect(owner_url) as owner:
            assert shown(owner, name) == usual, "the harness is spared"
    finally:
        operators.reset_default(place, name)
    wait_until(lambda: shown(session(), name) == usual, f"{name} is still there")


def refuses(question: Callable[[], bool]) -> bool:
    """Whether something is not so, or cannot even be asked: a time-out may be as short as that."""
    with suppress(psycopg.OperationalError, errors.LockNotAvailable):
        return not question()
    return True


def test_after_healing_all_rights_are_there(operators: Operators, session: Open) -> None:
    for right in RIGHTS:
        operators.revoke(right)
    with pytest.raises(psycopg.OperationalError):
        session()
    operators.heal()
    write(session())


def test_after_healing_no_setting_is_left(operators: Operators, session: Open) -> None:
    usual = {name: shown(session(), name) for _, name, _ in (*LIMITS, *SETTINGS)}
    for place, name, value in (*LIMITS, *SETTINGS):
        operators.set_default(place, name, value)
    operators.heal()
    wait_until(lambda: {name: shown(session(), name) for name in usual} == usual, "something is set for ever")
    assert set(PLACES) == {place for place, _, _ in (*LIMITS, *SETTINGS)}


def test_old_sessions_turn_read_only_new_ones_write_and_healing_does_not_help_the_old(
    operators: Operators, session: Open, owner_url: str
) -> None:
    old = session()
    write(old)
    operators.turn_read_only(stays=False)
    wait_until(lambda: shown(old, "default_transaction_read_only") == "on", "the old session can still write")
    write(session())
    operators.heal()
    with pytest.raises(errors.ReadOnlySqlTransaction):
        write(old)
    with psycopg.connect(owner_url) as owner:
        write(owner)
    operators.let_write()
    wait_until(lambda: shown(old, "default_transaction_read_only") == "off", "nothing was taken back")


def test_where_old_sessions_stay_read_only_nothing_undoes_it(operators: Operators, session: Open) -> None:
    old = session()
    operators.turn_read_only(stays=True)
    operators.turn_read_only(stays=False)
    operators.let_write()
    operators.heal()
    operators.set_default("server", "bytea_output", "escape")  # this one arrives when all before it has
    wait_until(lambda: shown(old, "bytea_output") == "escape", "the server does not hear")
    with pytest.raises(errors.ReadOnlySqlTransaction):
        write(old)
    write(session())

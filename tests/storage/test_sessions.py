"""What the code stands on is set on every way to the database, whatever server, role, database and environment say."""

from __future__ import annotations

import shutil
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest
import sqlalchemy as sa

from dbos_events.clock import SystemClock
from dbos_events.errors import BadWrite, ConfigurationError, StorageUnavailable
from dbos_events.storage import callconnection, postgres
from dbos_events.storage.line import Line
from dbos_events.storage.migrate import migrate
from dbos_events.storage.opening import open_storage
from dbos_events.storage.sessions import SETTINGS
from dbos_events.storage.sqldatabase import SqlStorage
from dbos_events.storage.writes import WRITTEN
from tests.servers import Postgres
from tests.storage.building import begin, end, read, register, step, steps, workflow, write
from tests.storage.conftest import Open

pytestmark = pytest.mark.postgres

ODD = {
    "default_transaction_isolation": "serializable",
    "synchronous_commit": "off",
    "search_path": "nowhere, pg_catalog",
    "statement_timeout": "3s",
    "lock_timeout": "1ms",
    "idle_in_transaction_session_timeout": "3s",
    "client_encoding": "LATIN1",
    "DateStyle": "SQL, DMY",
    "IntervalStyle": "iso_8601",
    "TimeZone": "Asia/Kathmandu",
    "bytea_output": "escape",
    "extra_float_digits": "-15",
    "array_nulls": "off",
}
"""As somebody may have set them for a database or a role."""

WANTED = {
    "transaction_isolation": "read committed",
    "synchronous_commit": "on",
    "search_path": "pg_catalog",
    "lock_timeout": SETTINGS["lock_timeout"],
    "client_encoding": "UTF8",
}
"""In each transaction of ours, also behind a pooler."""

OF_TRANSACTIONS = {
    "statement_timeout": "0",
    "idle_in_transaction_session_timeout": "1min",
    "extra_float_digits": "1",
    "standard_conforming_strings": "on",
}
"""In each that has more than one statement; idle_bound makes the second one shorter where the fence is held."""


@pytest.fixture
def odd_url(postgres_url: str) -> str:
    name = sa.make_url(postgres_url).database
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        for setting, value in ODD.items():
            connection.execute(f'ALTER DATABASE "{name}" SET {setting} = {_quoted(setting, value)}')
    return postgres_url


def _quoted(setting: str, value: str) -> str:
    return value if setting == "search_path" else f"'{value}'"


def settings_in(connection: Any) -> dict[str, str]:
    names = {**WANTED, **OF_TRANSACTIONS}
    columns = ", ".join(f"pg_catalog.current_setting('{name}')" for name in names)
    row = connection.exec_driver_sql(f"SELECT {columns}").one()
    return dict(zip(names, row, strict=True))


def spy_on_writes(url: str) -> None:
    """Note what holds in each transaction that changes something of ours."""
    with psycopg.connect(
        url, autocommit=True, options="-c statement_timeout=0 -c lock_timeout=0"
    ) as connection:
        columns = ", ".join(f"pg_catalog.current_setting('{name}')" for name in WANTED)
        connection.execute("CREATE TABLE public.seen (of_table text, settings text[])")
        connection.execute(
            "CREATE FUNCTION public.note() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN INSERT INTO public.seen VALUES "
            f"(tg_table_name, ARRAY[{columns}]); RETURN NULL; END $$"
        )
        for table in ("workflows", "checkpoints", "executors", "results", "payloads"):
            connection.execute(
                f"CREATE TRIGGER note AFTER INSERT OR UPDATE ON dbos_events.{table} "
                "FOR EACH STATEMENT EXECUTE FUNCTION public.note()"
            )


def seen(url: str) -> set[tuple[str, ...]]:
    with psycopg.connect(url, options="-c statement_timeout=0") as connection:
        return {tuple(row[0]) for row in connection.execute("SELECT DISTINCT settings FROM public.seen")}


def write_on_all_ways(storage: SqlStorage, executor: int) -> None:
    """By calls of functions, statement by statement, and over a line."""
    begin(storage, executor, "call", "statements", "line")
    assert write(storage, executor, step("call"), end("call")) == [WRITTEN] * 2
    first = step("statements")
    assert write(storage, executor, first) == [WRITTEN]
    assert write(storage, executor, first, end("statements")) == [WRITTEN] * 2, "by statements: it was there"
    line = storage.open_line()
    assert line is not None
    assert storage.send_batch(line, executor, [step("line"), end("line")])
    await_answer(line)
    line.close()


def await_answer(line: Line) -> None:
    while line.wait(10.0):
        if line.receive():
            return
    raise AssertionError("no answer came")


@pytest.mark.parametrize("pooled", [False, True], ids=["direct", "pooled"])
def test_each_write_runs_under_what_the_code_stands_on(
    odd_url: str, opened: Open, pooled: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if pooled:
        seem_pooled(monkeypatch)
    storage = opened(odd_url, clock=SystemClock())
    migrate(storage)
    spy_on_writes(odd_url)
    executor = register(storage)
    if (
        pooled
    ):  # a call is a transaction of the role's own isolation there: it does nothing, and statements do it
        begin(storage, executor, "w")
        assert write(storage, executor, step("w"), end("w")) == [WRITTEN] * 2
    else:
        write_on_all_ways(storage, executor)
    assert seen(odd_url) == {tuple(WANTED.values())}


def test_a_call_behind_a_pooler_sets_what_it_can(
    odd_url: str, opened: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    with psycopg.connect(odd_url, autocommit=True) as connection:
        name = connection.info.dbname
        connection.execute(f'ALTER DATABASE "{name}" RESET default_transaction_isolation')
        connection.execute(f'ALTER DATABASE "{name}" RESET statement_timeout')
    seem_pooled(monkeypatch)
    storage = opened(odd_url, clock=SystemClock())
    migrate(storage)
    spy_on_writes(odd_url)
    write_on_all_ways(storage, register(storage))
    assert seen(odd_url) == {tuple(WANTED.values())}


@pytest.mark.parametrize("pooled", [False, True], ids=["direct", "pooled"])
def test_each_transaction_of_the_pool_has_all_settings(
    odd_url: str, opened: Open, pooled: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Intake, claims, recovery, questions, long looks, migrations and the command line are transactions of the pool."""
    if pooled:
        seem_pooled(monkeypatch)
    storage = opened(odd_url)
    for ask in (storage.database.transact, storage.database.look):
        assert ask(lambda tx: settings_in(tx.connection)) == {**WANTED, **OF_TRANSACTIONS}
    with storage.database.engine.connect() as connection:  # as migrations do
        assert settings_in(connection) == {**WANTED, **OF_TRANSACTIONS}


def test_what_others_will_get_behind_a_pooler_is_left_as_it_was(
    odd_url: str, opened: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    seem_pooled(monkeypatch)
    storage = opened(odd_url, clock=SystemClock())
    migrate(storage)
    executor = register(storage)
    begin(storage, executor, "w")
    write(storage, executor, end("w"))
    left = "SELECT name, setting FROM pg_settings WHERE source = 'session' ORDER BY name"
    raw: Any = storage.database.engine.raw_connection()
    connections = [raw.driver_connection.pgconn]
    calls = storage.database._driver.calls
    assert calls is not None
    connections += [one.pg for one in calls._idle]
    assert len(connections) == 2
    for pg in connections:
        answer = pg.exec_(left.encode())
        assert [answer.get_value(row, 0) for row in range(answer.ntuples)] == []
    raw.close()


def test_a_listener_stays_though_idle_sessions_are_ended(postgres_url: str, opened: Open) -> None:
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        if connection.info.server_version < 140000:
            pytest.skip("idle_session_timeout is of PostgreSQL 14")
        connection.execute(f"ALTER DATABASE \"{connection.info.dbname}\" SET idle_session_timeout = '100ms'")
    storage, other = opened(postgres_url), opened(postgres_url)
    heard = threading.Event()
    stop = storage.listen(lambda _: heard.set())  # type: ignore[func-returns-value]
    try:
        with psycopg.connect(postgres_url, autocommit=True, options="-c idle_session_timeout=0") as watch:
            until(lambda: _listeners(watch) == 1)
            pid = _listener(watch)
            watch.execute("SELECT pg_sleep(0.4)")  # the server's own clock ends idle sessions
            assert _listener(watch) == pid
        other.notify(["queues"])
        assert heard.wait(10.0)
    finally:
        stop()  # type: ignore[misc]


LISTENING = "FROM pg_stat_activity WHERE datname = current_database() AND query LIKE 'LISTEN%'"


def _listeners(watch: Any) -> int:
    return int(watch.execute(f"SELECT count(*) {LISTENING}").fetchone()[0])


def _listener(watch: Any) -> int | None:
    row = watch.execute(f"SELECT pid {LISTENING}").fetchone()
    return None if row is None else int(row[0])


def until(condition: Callable[[], bool]) -> None:
    for _ in range(2000):
        if condition():
            return
        threading.Event().wait(0.005)
    raise AssertionError("it did not come to this")


def seem_pooled(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (postgres, callconnection):
        monkeypatch.setattr(module, "is_direct", lambda _: False)


# ------------------------------------------------------------------ sessions that are not what they were


def test_sessions_that_turn_read_only_are_replaced_at_once(postgres_url: str, opened: Open) -> None:
    """As after a fail-over that leaves them open: those in the pool, those for calls, and lines."""
    storage = opened(postgres_url, clock=SystemClock())
    migrate(storage)
    executor = register(storage)
    begin(storage, executor, "a", "b", "c")
    line = storage.open_line()
    assert line is not None
    old = {storage.database.transact(_pid)}
    calls = storage.database._driver.calls
    assert calls is not None
    [call] = calls._idle
    for pg in (call.pg, line._pg, _pooled(storage)):
        pg.nonblocking = 0
        pg.exec_(b"SET default_transaction_read_only = on")
    line._pg.nonblocking = 1
    storage.send_batch(line, executor, [step("a")])
    with pytest.raises(psycopg.errors.ReadOnlySqlTransaction):
        await_answer(line)
    assert line.broken
    with pytest.raises(StorageUnavailable, match="read-only"):
        write(storage, executor, step("a"), end("a"))
    assert write(storage, executor, step("a"), end("a")) == [WRITTEN] * 2, "the next try has a new session"
    assert storage.database.transact(_pid) not in old
    line.close()


def _pid(tx: Any) -> int:
    return int(tx.connection.exec_driver_sql("SELECT pg_backend_pid()").scalar_one())


def _pooled(storage: SqlStorage) -> Any:
    raw: Any = storage.database.engine.raw_connection()
    pg = raw.driver_connection.pgconn
    raw.close()
    return pg


@pytest.mark.parametrize("state", ["25006", "57P01", "0A000", "28000", "XX000", "42501"])
def test_a_connection_is_not_used_again_after_an_answer_about_its_session(
    postgres_url: str, opened: Open, state: str
) -> None:
    storage = opened(postgres_url)
    before = storage.database.transact(_pid)
    raising = f"DO $$ BEGIN RAISE EXCEPTION USING ERRCODE = '{state}', MESSAGE = 'as asked'; END $$"
    with pytest.raises(StorageUnavailable, match="as asked"):
        storage.database.transact(lambda tx: tx.connection.exec_driver_sql(raising))
    assert storage.database.transact(_pid) != before


@pytest.mark.parametrize("state", ["22003", "23505", "40001", "55P03", "57014"])
def test_a_connection_is_kept_after_an_answer_about_data_or_others(
    postgres_url: str, opened: Open, state: str
) -> None:
    storage = opened(postgres_url)
    before = storage.database.transact(_pid)
    raising = f"DO $$ BEGIN RAISE EXCEPTION USING ERRCODE = '{state}', MESSAGE = 'as asked'; END $$"
    with pytest.raises((StorageUnavailable, BadWrite), match="as asked"):
        storage.database.transact(lambda tx: tx.connection.exec_driver_sql(raising))
    assert storage.database.transact(_pid) == before


# ------------------------------------------------------------------ URLs and names


def test_of_several_hosts_the_one_that_answers_is_used_on_all_ways(postgres_url: str, opened: Open) -> None:
    url = sa.make_url(postgres_url)
    nowhere = "127.0.0.1:1"
    there = f"{url.host}:{url.port}"
    forms = [
        f"postgresql://{url.username}@/{url.database}?host={nowhere}&host={there}",
        f"postgresql://{url.username}@{nowhere},{there}/{url.database}",
        f"postgresql://{url.username}@{nowhere},{there}/{url.database}?connect_timeout=3",
    ]
    for number, form in enumerate(forms):
        storage, other = opened(form, clock=SystemClock()), opened(form, clock=SystemClock())
        migrate(storage)
        executor = register(storage)
        begin(storage, executor, f"w{number}")
        heard = threading.Event()
        stop = storage.listen(lambda _, heard=heard: heard.set())  # type: ignore[func-returns-value,misc]
        try:
            with psycopg.connect(postgres_url, autocommit=True) as watch:
                until(lambda watch=watch: _listeners(watch) == 1)  # type: ignore[misc]
            other.notify(["queues"])
            assert heard.wait(10.0), form
        finally:
            stop()  # type: ignore[misc]


ODD_NAMES = ["my$$schema", "a$$q$b", "select", "UPPER", "with-dash", "_", "a$", "$$"[:0] + "q$q$$q", "s" * 63]


@pytest.mark.parametrize("schema", ODD_NAMES)
def test_a_schema_may_have_an_odd_name(postgres_url: str, opened: Open, schema: str) -> None:
    storage, other = (opened(postgres_url, clock=SystemClock(), schema=schema) for _ in range(2))
    migrate(storage)
    executor = register(storage)
    begin(storage, executor, "w")
    assert write(storage, executor, step("w", output="1"), end("w")) == [WRITTEN] * 2
    assert storage.database.calls, "by a call"
    assert steps(storage, "w") == {1: "1"}
    heard: list[str] = []
    told = threading.Event()
    stop = storage.listen(lambda channel: (heard.append(channel), told.set()))  # type: ignore[func-returns-value]
    try:
        with psycopg.connect(postgres_url, autocommit=True) as watch:
            until(lambda: _listeners(watch) == 1)
        other.notify(["x" * 9000, "a\0b", "\ud800", "größe"])
        assert told.wait(10.0)
        assert heard == ["größe"], "what does not fit is left to polls, and holds nothing up"
    finally:
        stop()  # type: ignore[misc]


@pytest.mark.parametrize(
    "schema", ["", "a\0b", "größe", "1a", "$a", "-a", "pg_ours", "s" * 64, 'a"b', "information_schema"]
)
def test_a_schema_name_that_cannot_be_used_is_refused_where_it_is_given(schema: str) -> None:
    with pytest.raises(ConfigurationError, match="dbos_system_schema"):
        open_storage("postgresql://me@127.0.0.1/shop", schema=schema, clock=SystemClock())


@pytest.fixture(params=["UTF8", "LATIN1", "SQL_ASCII", "WIN1251"])
def encoded_url(request: pytest.FixtureRequest, postgres: Postgres) -> Iterator[tuple[str, str]]:
    """A database of another encoding, whose sessions say LATIN1 by themselves."""
    name = f"encoded_{request.param.lower()}_{threading.get_native_id()}"
    with psycopg.connect(postgres.url, autocommit=True) as connection:
        connection.execute(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')
        connection.execute(
            f"CREATE DATABASE \"{name}\" ENCODING '{request.param}' TEMPLATE template0 LC_COLLATE 'C' LC_CTYPE 'C'"
        )
        connection.execute(f"ALTER DATABASE \"{name}\" SET client_encoding = 'LATIN1'")
        url = sa.make_url(postgres.url).set(database=name).render_as_string(hide_password=False)
        yield request.param, url
        connection.execute(f'DROP DATABASE "{name}" WITH (FORCE)')


IDS = ["zahlung-ü", "платёж-1", "支払い", "a'b\"c\\d", "\U0001f600", "e\u0301", "x" * 2000]


def test_an_id_is_the_same_text_on_every_way_or_is_refused_where_it_is_given(
    encoded_url: tuple[str, str], opened: Open
) -> None:
    encoding, url = encoded_url
    storage = opened(url, clock=SystemClock())
    migrate(storage)
    executor = register(storage, "große Straße" if encoding != "WIN1251" else "plain")
    codec = {"UTF8": "utf-8", "LATIN1": "latin-1", "SQL_ASCII": "utf-8", "WIN1251": "cp1251"}[encoding]
    for number, name in enumerate(IDS):
        try:
            name.encode(codec)
        except UnicodeEncodeError:
            with pytest.raises(BadWrite, match="refuses a value"):
                begin(storage, executor, name)
            continue
        begin(storage, executor, name, name=name)
        assert write(storage, executor, step(name, output=name)) == [WRITTEN], "by a call"
        line = storage.open_line()
        assert line is not None
        assert storage.send_batch(line, executor, [step(name, 2, output=name)])
        await_answer(line)
        line.close()
        assert workflow(storage, name).name == name, "by a statement"
        assert steps(storage, name) == {1: name, 2: name}
        assert read(storage, "SELECT count(*) AS n FROM {schema}.workflows")[0].n >= number // len(IDS)


# ------------------------------------------------------------------ a real pooler


@contextmanager
def pgbouncer(url: str, folder: Path) -> Iterator[str]:
    """In transaction mode, with one connection to the server for all clients."""
    parsed = sa.make_url(url)
    port = _free_port()
    folder.chmod(0o777)
    settings = folder / "pgbouncer.ini"
    settings.write_text(
        f"[databases]\n* = host={parsed.host} port={parsed.port} user={parsed.username}\n"
        f"[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\nauth_type = any\npool_mode = transaction\n"
        "default_pool_size = 1\nunix_socket_dir =\nlogfile =\n"
    )
    command = ["su", "nobody", "-s", "/bin/sh", "-c", f"exec {shutil.which('pgbouncer')} {settings}"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        pooled = parsed.set(host="127.0.0.1", port=port).render_as_string(hide_password=False)
        until(lambda: _answers(pooled))
        yield pooled
    finally:
        process.terminate()
        process.wait(10.0)


def _free_port() -> int:
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _answers(url: str) -> bool:
    try:
        psycopg.connect(url, connect_timeout=2).close()
    except psycopg.Error:
        return False
    return True


@pytest.mark.skipif(
    shutil.which("pgbouncer") is None, reason="pgbouncer is not installed (apt-get install pgbouncer)"
)
def test_behind_pgbouncer_the_same_holds_and_the_next_client_finds_nothing_of_ours(
    odd_url: str, opened: Open, tmp_path_factory: pytest.TempPathFactory
) -> None:
    with psycopg.connect(odd_url, autocommit=True) as connection:
        connection.execute(f'ALTER DATABASE "{connection.info.dbname}" RESET statement_timeout')
    folder = Path("/tmp") / f"pgbouncer-{threading.get_native_id()}"  # noqa: S108 - another user reads it
    folder.mkdir(exist_ok=True)
    try:
        with pgbouncer(odd_url, folder) as pooled:
            storage = opened(pooled, clock=SystemClock())
            migrate(storage)
            spy_on_writes(odd_url)
            executor = register(storage)
            begin(storage, executor, "zahlung-ü")
            assert write(storage, executor, step("zahlung-ü"), end("zahlung-ü")) == [WRITTEN] * 2
            assert workflow(storage, "zahlung-ü").id == "zahlung-ü"
            assert seen(odd_url) == {tuple(WANTED.values())}
            stop = storage.listen(lambda _: None)  # type: ignore[func-returns-value]
            with psycopg.connect(pooled, autocommit=True, prepare_threshold=None) as another:
                left = another.execute(
                    "SELECT name FROM pg_settings WHERE source = 'session' AND name NOT IN "
                    "('application_name', 'client_encoding', 'DateStyle', 'TimeZone', 'standard_conforming_strings')"
                ).fetchall()
                assert left == [], "the one session of the server is as the database says"
                assert another.execute("SELECT pg_listening_channels()").fetchall() == []
            stop()  # type: ignore[misc]
            storage.close()
    finally:
        shutil.rmtree(folder)

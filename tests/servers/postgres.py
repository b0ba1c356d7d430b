"""PostgreSQL for tests: databases on a server, and servers of our own."""

import signal
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Self
from urllib.parse import urlsplit, urlunsplit

import psycopg
from psycopg import sql

from tests.servers import containers, postgres_binaries
from tests.servers.errors import ServerFailed
from tests.servers.process import GuardedProcess, Process, free_port, make_directory, remove_directory

DOCKER_VERSION = 18
READY_SECONDS = 60.0
START_TRIES = 3

SETTINGS = {"max_connections": "300", "shared_buffers": "128MB", "max_wal_size": "2GB", "timezone": "UTC"}
# A test database need not survive a power cut. It does survive the death of its processes, which is
# what tests cause, and a commit still waits for its turn as in production.
FAST = {"fsync": "off", "full_page_writes": "off"}
LOCAL = {"listen_addresses": "127.0.0.1", "unix_socket_directories": ""}


class Postgres:
    """A running server, known by its URL, on which tests make databases."""

    def __init__(self, url: str) -> None:
        self.url = url
        """The URL of the maintenance database, `postgresql://user@host:port/postgres`."""

    def database_url(self, name: str) -> str:
        """Return the URL of the database of that name."""
        return urlunsplit(urlsplit(self.url)._replace(path=f"/{name}"))

    def create_database(self, name: str, *, template: str = "template0") -> str:
        """Create an empty database, or a copy of `template`, and return its URL."""
        statement = sql.SQL("CREATE DATABASE {} TEMPLATE {}")
        self._execute(statement.format(sql.Identifier(name), sql.Identifier(template)))
        return self.database_url(name)

    def rename_database(self, name: str, other: str) -> None:
        """Give the database another name; nobody may be connected to it."""
        self._execute(
            sql.SQL("ALTER DATABASE {} RENAME TO {}").format(sql.Identifier(name), sql.Identifier(other))
        )

    def drop_database(self, name: str) -> None:
        """Drop the database, ending the connections that are still open on it."""
        self._execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)))

    def version(self) -> int:
        """Return the server's major version."""
        with psycopg.connect(self.url, connect_timeout=10) as connection:
            return connection.info.server_version // 10_000

    def answers(self) -> bool:
        """Tell whether the server takes connections now."""
        try:
            with psycopg.connect(self.url, connect_timeout=2):
                return True
        except psycopg.OperationalError:
            return False

    def _execute(self, statement: sql.Composed) -> None:
        with psycopg.connect(self.url, autocommit=True, connect_timeout=10) as connection:
            connection.execute(statement)


class PostgresServer(Postgres):
    """A server of our own, in Docker or from local programs; data and port stay over restarts.

    `version` chooses the major version, by default the newest that the system has. `durable` keeps
    PostgreSQL's own durability, for benchmarks; tests are faster without. Use it in a `with` block, or
    call `close` at the end.
    """

    def __init__(
        self, version: int | None = None, *, durable: bool = False, settings: Mapping[str, str] | None = None
    ) -> None:
        self._settings = SETTINGS | ({} if durable else FAST) | dict(settings or {})
        self._image = f"postgres:{version or DOCKER_VERSION}"
        self._in_docker = containers.can_run(self._image)
        self._binaries = None if self._in_docker else postgres_binaries.choose(version)
        self._directory: Path | None = None
        self._process: Process | None = None
        super().__init__("")
        self._choose_port()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def running(self) -> bool:
        """Whether the server is alive."""
        return self._process is not None and self._process.running

    def start(self) -> None:
        """Start the server and return when it takes connections."""
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
                self._choose_port()  # another process may have taken the first one since
            else:
                return

    def stop(self) -> None:
        """Stop in order: transactions are rolled back, connections closed, buffers written."""
        if self._process is not None:
            self._process.stop()

    def kill(self) -> None:
        """Stop as a crash would; the next start goes through crash recovery."""
        if self._process is not None:
            self._process.kill()

    def restart(self) -> None:
        """Stop in order and start again."""
        self.stop()
        self.start()

    def restart_immediate(self) -> None:
        """Crash and start again."""
        self.kill()
        self.start()

    def close(self) -> None:
        """Stop the server and remove its data."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.remove()
        if self._directory is not None:
            remove_directory(self._directory)
            self._directory = None

    def _choose_port(self) -> None:
        self.port = free_port()
        self.url = f"postgresql://postgres@127.0.0.1:{self.port}/postgres"

    def _launch(self, process: Process) -> None:
        process.start()
        process.wait_ready(self.answers, seconds=READY_SECONDS)

    def _make_process(self) -> Process:
        if self._binaries is None:
            return self._make_container()
        user = postgres_binaries.server_user()
        self._directory = make_directory("postgres")
        binaries = postgres_binaries.reachable(self._binaries, self._directory) if user else self._binaries
        data = self._directory / "data"
        postgres_binaries.initialise(binaries, data, user)
        command = [str(binaries / "postgres"), "-D", str(data), "-p", str(self.port)]
        return GuardedProcess(
            [*command, *_options(self._settings | LOCAL)],
            directory=self._directory,
            user=user,
            stop_signal=signal.SIGINT,  # "fast": does not wait for clients to leave
            # PostgreSQL's own crash. SIGKILL would end the first process alone, and the others would
            # live on for a moment and hold the data directory.
            kill_signal=signal.SIGQUIT,
        )

    def _make_container(self) -> Process:
        return containers.ContainerProcess(
            self._image,
            port=self.port,
            environment={"POSTGRES_HOST_AUTH_METHOD": "trust", "PGPORT": str(self.port)},
            command=["postgres", *_options(self._settings)],
            kill_signal="SIGQUIT",
        )


def _options(settings: Mapping[str, str]) -> list[str]:
    return [f"--{name.replace('_', '-')}={value}" for name, value in settings.items()]

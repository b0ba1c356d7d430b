"""The servers that one test run shares: started when the first test needs them, stopped at its end.

With pytest-xdist the controlling process owns them, and its workers ask it for an address. So there is
one server of a kind, whatever the number of workers.
"""

import os
import secrets
import threading
from collections.abc import Callable
from contextlib import ExitStack, suppress
from multiprocessing import AuthenticationError
from multiprocessing.connection import Client, Connection, Listener
from typing import Protocol

from tests.servers import postgres_binaries
from tests.servers.errors import ServerFailed, ServerUnavailable
from tests.servers.kafka import KafkaServer
from tests.servers.postgres import PostgresServer

POSTGRES_ADDRESS = "DBOS_EVENTS_TEST_POSTGRES"
POSTGRES_VERSION = "DBOS_EVENTS_TEST_POSTGRES_VERSION"
KAFKA_ADDRESS = "DBOS_EVENTS_TEST_KAFKA"

GIVEN = "given"  # stands for the version of a server that was named by its address

Endpoint = tuple[str, int]
Answer = tuple[str, Exception | None]


class Servers(Protocol):
    """Where tests get their servers' addresses."""

    def address(self, name: str) -> str:
        """Return the address of `postgres`, `postgres-18` or `kafka`; raise `ServerUnavailable`."""
        ...

    def close(self) -> None:
        """Let go of the servers."""
        ...


class SharedServers:
    """Finds or starts each server once, and stops what it started."""

    def __init__(self) -> None:
        self._started = ExitStack()
        self._answers: dict[str, Answer] = {}
        self._locks = {"postgres": threading.Lock(), "kafka": threading.Lock()}
        self._listener: _Listener | None = None

    def address(self, name: str) -> str:
        """Return the address of a server, started now if need be; raise `ServerUnavailable`."""
        return _unpack(self._answer(name))

    def listen(self) -> tuple[Endpoint, bytes]:
        """Answer other processes from now on; return what `RemoteServers` needs to ask."""
        if self._listener is None:
            self._listener = _Listener(self._answer)
        return self._listener.endpoint, self._listener.key

    def close(self) -> None:
        """Stop the servers that were started here."""
        if self._listener is not None:
            self._listener.close()
        self._started.close()

    def _answer(self, name: str) -> Answer:
        """Return the address, or why there is none: the same answer for the whole run."""
        kind, _, version = name.partition("-")
        if kind == "postgres" and not version:
            name = f"postgres-{_default_version()}"
        with self._locks[kind]:
            if name not in self._answers:
                try:
                    self._answers[name] = self._find(name), None
                except (ServerUnavailable, ServerFailed) as error:
                    self._answers[name] = "", error
            return self._answers[name]

    def _find(self, name: str) -> str:
        if name == "kafka":
            address = os.environ.get(KAFKA_ADDRESS)
            return address or self._started.enter_context(KafkaServer()).bootstrap
        version = name.removeprefix("postgres-")
        address = os.environ.get(POSTGRES_ADDRESS)
        if address and version == GIVEN:
            return address
        return self._started.enter_context(PostgresServer(int(version) if version else None)).url


def _default_version() -> str:
    """Return which PostgreSQL the tests use: the one at the given address, or a version, or any."""
    if os.environ.get(POSTGRES_ADDRESS):
        return GIVEN
    named = os.environ.get(POSTGRES_VERSION)
    return named or next((str(version) for version in postgres_binaries.installed()), "")


class RemoteServers:
    """Asks the process that owns the servers."""

    def __init__(self, endpoint: Endpoint, key: bytes) -> None:
        self._endpoint = endpoint
        self._key = key

    def address(self, name: str) -> str:
        """Return the address of a server of the test run; raise `ServerUnavailable`."""
        with Client(self._endpoint, "AF_INET", authkey=self._key) as connection:
            connection.send(name)
            return _unpack(connection.recv())

    def close(self) -> None:
        """Do nothing: the servers belong to the controlling process."""


class _Listener:
    """Answers the workers' questions, each on a thread of its own: a broker takes seconds to start."""

    def __init__(self, answer: Callable[[str], Answer]) -> None:
        self.key = secrets.token_bytes(16)
        self._answer = answer
        self._listener = Listener(("127.0.0.1", 0), "AF_INET", authkey=self.key)
        self._closing = False
        self._thread = threading.Thread(target=self._accept, name="test-servers", daemon=True)
        self._thread.start()

    @property
    def endpoint(self) -> Endpoint:
        host, port = self._listener.address
        return str(host), int(port)

    def close(self) -> None:
        self._closing = True
        with suppress(OSError, EOFError):  # wakes `accept`, which closing the socket alone does not do
            Client(self.endpoint, "AF_INET", authkey=self.key).close()
        self._thread.join()
        self._listener.close()

    def _accept(self) -> None:
        while not self._closing:
            with suppress(OSError, EOFError, AuthenticationError):
                connection = self._listener.accept()
                threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: "Connection[Answer, str]") -> None:
        with connection, suppress(EOFError, OSError):
            connection.send(self._answer(connection.recv()))


def _unpack(answer: Answer) -> str:
    address, problem = answer
    if problem is not None:
        raise problem
    return address

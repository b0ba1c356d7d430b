"""The proxy does to connections what it says, and leaves them alone otherwise."""

import socket
import socketserver
import threading
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import pytest

from tests.chaos.proxy import Loop, Proxy, is_database_commit, is_offset_commit
from tests.servers.process import free_port

PATIENCE = 10.0
SILENCE = 0.2


class Echo(socketserver.ThreadingTCPServer):
    """Says everything back, and keeps what it has heard."""

    daemon_threads = True
    allow_reuse_address = True

    def __init__(self) -> None:
        self.heard: list[bytes] = []
        self.arrived = threading.Semaphore(0)
        server = self

        class Handler(socketserver.BaseRequestHandler):
            def handle(self) -> None:
                while data := _received(self.request):
                    server.heard.append(data)
                    server.arrived.release()
                    self.request.sendall(data)

        super().__init__(("127.0.0.1", 0), Handler)


def _received(connection: Any) -> bytes:
    try:
        data: bytes = connection.recv(4096)
    except OSError:
        return b""
    return data


@pytest.fixture
def echo() -> Iterator[Echo]:
    with Echo() as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def proxy(echo: Echo) -> Iterator[Proxy]:
    loop = Loop()
    made = Proxy(loop, free_port(), echo.server_address[1]).start()
    yield made
    made.close()
    loop.close()


def client(proxy: Proxy) -> socket.socket:
    return socket.create_connection(("127.0.0.1", proxy.port), timeout=PATIENCE)


def assert_broken(connection: socket.socket) -> None:
    with suppress(ConnectionResetError):
        assert connection.recv(100) == b""


def test_what_is_sent_arrives_and_is_answered(proxy: Proxy) -> None:
    with client(proxy) as connection:
        sent = bytes(range(256)) * 8000
        threading.Thread(target=connection.sendall, args=(sent,)).start()
        got = b""
        while len(got) < len(sent):
            got += connection.recv(1 << 16)
        assert got == sent


def test_a_cut_breaks_what_is_there_and_not_what_comes_later(proxy: Proxy) -> None:
    with client(proxy) as before:
        before.sendall(b"a")
        assert before.recv(1) == b"a"
        assert proxy.cut() == 1
        assert_broken(before)
    with client(proxy) as after:
        after.sendall(b"b")
        assert after.recv(1) == b"b"


def test_while_it_stalls_nothing_passes_and_afterwards_everything_arrives(echo: Echo, proxy: Proxy) -> None:
    with client(proxy) as there:
        there.sendall(b"a")
        assert there.recv(1) == b"a"
        proxy.stall(on=True)
        with client(proxy) as late:
            there.sendall(b"b")
            late.sendall(b"c")
            there.settimeout(SILENCE)
            with pytest.raises(TimeoutError):
                there.recv(1)
            assert echo.heard == [b"a"]
            proxy.stall(on=False)
            there.settimeout(PATIENCE)
            assert there.recv(1) == b"b"
            assert late.recv(1) == b"c"


def test_the_answer_to_a_commit_is_lost_after_the_commit_was_passed_on(echo: Echo, proxy: Proxy) -> None:
    proxy.lose_answers(is_database_commit, 1)
    with client(proxy) as connection:
        connection.sendall(b"SELECT")
        assert connection.recv(100) == b"SELECT"
        connection.sendall(b"COMMIT")
        assert_broken(connection)
    assert echo.heard == [b"SELECT", b"COMMIT"]
    assert proxy.lost == 1
    with client(proxy) as connection:
        connection.sendall(b"COMMIT")
        assert connection.recv(100) == b"COMMIT"


def test_a_server_that_is_not_there_breaks_the_connection(proxy: Proxy, echo: Echo) -> None:
    proxy.upstream = free_port()
    with client(proxy) as connection:
        assert_broken(connection)


def test_commits_of_offsets_are_told_from_other_requests() -> None:
    assert is_offset_commit(b"\x00\x00\x00\x30\x00\x08\x00\x09rest")
    assert not is_offset_commit(b"\x00\x00\x00\x30\x00\x01\x00\x09rest")

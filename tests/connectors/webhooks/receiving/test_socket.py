"""A receiver behind the server of `dbos-events run --http`, over a real socket."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
from h11 import LocalProtocolError

from dbos_events.cli.http import Dispatch, HttpServer, parse_address
from dbos_events.cli.httphead import BoundedProtocol
from dbos_events.errors import DBOSInitializationError
from dbos_events_webhooks import Limits, WebhookEvent, WebhookReceiver, WebhookRequest, providers
from dbos_events_webhooks.testing import WebhookClient
from tests.connectors.webhooks.receiving.fakes import MemoryApp, MemoryInbox
from tests.connectors.webhooks.receiving.rawhttp import exchange, read_reply, wire_of

BODY = b'{"id":"evt_1","type":"paid"}'
CHUNKED = (b"transfer-encoding", b"chunked")


class Served:
    """A receiver with one endpoint, served."""

    def __init__(self, limits: Limits) -> None:
        app = MemoryApp()
        self.hooks = WebhookReceiver(app, limits=limits)

        @self.hooks.webhook("/in", provider=providers.stripe(secret="whsec_t"), max_body=200_000)
        def on_event(event: WebhookEvent) -> None: ...

        @self.hooks.webhook(
            "/small", provider=providers.stripe(secret="whsec_t"), name="small", max_body=1000
        )
        def on_small(event: WebhookEvent) -> None: ...

        self.inbox: MemoryInbox = app.launch()
        self.server = HttpServer("127.0.0.1:0")
        assert app.source is not None
        self.server.start([app.source])  # type: ignore[list-item]
        self.port = self.server.port

    def sign(self, body: bytes = BODY) -> WebhookRequest:
        return WebhookClient(self.hooks).sign("/in", body)


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> Iterator[Served]:
    monkeypatch.setattr(BoundedProtocol, "head_seconds", 0.5)
    made = Served(Limits(body_seconds=0.5))
    yield made
    made.server.stop(5.0)


def test_an_event_is_taken_in_and_a_connection_used_again(served: Served) -> None:
    wire = wire_of(served.sign())
    with socket.create_connection(("127.0.0.1", served.port)) as connection:
        for status in ("accepted", "duplicate"):
            connection.sendall(wire)
            reply = read_reply(connection)
            assert (reply.status, status in reply.body.decode()) == (200, True)
    assert len(served.inbox.taken) == 1


def test_requests_that_follow_each_other_without_waiting_are_all_answered(served: Served) -> None:
    wire = wire_of(served.sign())
    with socket.create_connection(("127.0.0.1", served.port)) as connection:
        connection.sendall(wire * 3)
        connection.settimeout(5)
        got = b""
        while got.count(b"HTTP/1.1 200") < 3:
            got += connection.recv(65536)


def test_a_body_in_chunks_is_put_together(served: Served) -> None:
    head = wire_of(served.sign().with_body(b""), length=None, more=[(b"transfer-encoding", b"chunked")])
    chunks = b"".join(b"1\r\n" + BODY[index : index + 1] + b"\r\n" for index in range(len(BODY)))
    assert exchange(served.port, head, chunks + b"0\r\n\r\n").status == 200


def test_a_large_length_is_refused_before_the_body_comes(served: Served) -> None:
    reply = exchange(served.port, wire_of(served.sign().with_body(b""), length=b"100000000"))
    assert (reply.status, b"connection: close" in reply.head) == (413, True)


def test_chunks_without_end_are_refused_at_the_limit(served: Served) -> None:
    head = wire_of(served.sign().with_body(b""), length=None, more=[(b"transfer-encoding", b"chunked")])
    chunk = b"8000\r\n" + b"x" * 0x8000 + b"\r\n"
    assert exchange(served.port, head, *[chunk] * 20).status in (413, 0)
    assert served.inbox.taken == []


def test_a_body_that_stops_is_given_up(served: Served) -> None:
    reply = exchange(served.port, wire_of(served.sign().with_body(b"{"), length=b"500"))
    assert (reply.status, b"connection: close" in reply.head) == (408, True)


def test_a_body_that_drips_is_given_up(served: Served) -> None:
    head = wire_of(served.sign().with_body(b""), length=b"500")
    reply = exchange(served.port, head, *[b"x"] * 30, pause=0.05)
    assert reply.status in (408, 0)
    assert served.hooks.counts()["/in"]["too-slow"] == 1


def test_a_head_that_drips_ends_the_connection(served: Served) -> None:
    began = time.monotonic()
    reply = exchange(served.port, b"POST /in HTTP/1.1\r\n", *[b"x: y\r\n"] * 40, pause=0.05, seconds=20)
    assert (reply.status, reply.closed) == (0, True)
    assert time.monotonic() - began < 10


def test_a_second_head_on_a_connection_that_drips_ends_it_too(served: Served) -> None:
    with socket.create_connection(("127.0.0.1", served.port), timeout=20) as connection:
        connection.sendall(wire_of(served.sign()))
        assert read_reply(connection).status == 200
        connection.sendall(b"POST /in HT")
        assert connection.recv(100) == b""


def test_a_connection_that_says_nothing_ends(served: Served) -> None:
    with socket.create_connection(("127.0.0.1", served.port), timeout=20) as connection:
        assert connection.recv(100) == b""


@pytest.mark.parametrize(
    "wire",
    [
        b"\0" * 100,
        b"GET\r\n\r\n",
        b"POST /in HTTP/9.9\r\n\r\n",
        b"POST /in HTTP/1.1\r\nhost: a\r\nhost: b\r\ncontent-length: 1\r\n\r\nx",
        b"POST /in HTTP/1.1\r\nhost: a\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\nx",
        b"POST /in HTTP/1.1\r\nhost: a\r\ntransfer-encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
        b"POST /in HTTP/1.1\r\nhost: a\r\nx: " + b"y" * 200_000 + b"\r\n\r\n",
        b"POST /in HTTP/1.1\r\nhost: a\r\ncontent-length: -1\r\n\r\n",
        b"POST /in HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n",
        b"POST /" + b"%ff" * 3000 + b" HTTP/1.1\r\nhost: a\r\n\r\n",
        b"POST /in HTTP/1.1\r\nhost: a\r\nexpect: 100-continue\r\ncontent-length: 2\r\n\r\n{}",
        b"POST /in HTTP/1.1\r\nhost: a\r\nupgrade: websocket\r\nconnection: upgrade\r\n\r\n",
    ],
    ids=range(12),
)
def test_broken_http_is_never_answered_with_a_5xx(served: Served, wire: bytes) -> None:
    assert exchange(served.port, wire).status < 500
    assert exchange(served.port, wire_of(served.sign())).status == 200


def test_a_body_that_is_too_large_and_then_no_http_is_answered_once(
    served: Served, caplog: pytest.LogCaptureFixture
) -> None:
    head = wire_of(replace(served.sign().with_body(b""), path="/small"), length=None, more=[CHUNKED])
    reply = exchange(served.port, head + b"7d0\r\n" + b"x" * 2000 + b"\r\nzz\r\n")
    assert reply.status == 400
    assert exchange(served.port, wire_of(served.sign())).status == 200
    assert "Exception in ASGI" not in caplog.text


def test_an_answer_that_is_cut_off_by_what_is_no_http_waits_for_the_end_of_its_connection() -> None:
    """Else the server says that the answer was never completed, which is nobody's defect."""
    heard = ["http.request", "http.disconnect", "never asked for"]

    async def answer(scope: Any, receive: Any, send: Any) -> None:
        raise LocalProtocolError("can't send data in state ERROR")

    async def receive() -> Any:
        return {"type": heard.pop(0)}

    source = SimpleNamespace(http_app=lambda _: answer)
    asyncio.run(Dispatch([source])({"path": "/in"}, receive, receive))  # type: ignore[list-item]
    assert heard == ["never asked for"]


def test_many_senders_at_once_are_all_answered(served: Served) -> None:
    wires = [wire_of(served.sign(b'{"id":"evt_%d"}' % number)) for number in range(100)]
    statuses: list[int] = []
    threads = [
        threading.Thread(target=lambda wire=wire: statuses.append(exchange(served.port, wire).status))
        for wire in wires
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert statuses == [200] * 100
    assert len({event.event_id for event in served.inbox.taken}) == 100


def test_what_is_under_way_is_answered_before_the_server_ends(served: Served) -> None:
    served.inbox.delay = 0.3
    statuses: list[int] = []
    thread = threading.Thread(
        target=lambda: statuses.append(exchange(served.port, wire_of(served.sign())).status)
    )
    thread.start()
    while not served.inbox.calls:
        time.sleep(0.01)
    served.server.stop(5.0)
    thread.join()
    assert statuses == [200]


def test_an_unknown_path_is_not_found(served: Served) -> None:
    assert exchange(served.port, wire_of(replace(served.sign(), path="/other"))).status == 404


# ------------------------------------------------------------ the address


def test_addresses() -> None:
    everywhere = "0.0.0.0"  # noqa: S104
    assert parse_address(":8000") == (everywhere, 8000)
    assert parse_address("8000") == (everywhere, 8000)
    assert parse_address("127.0.0.1:0") == ("127.0.0.1", 0)
    assert parse_address("[::1]:80") == ("::1", 80)
    assert parse_address("host.example:80") == ("host.example", 80)
    for odd in ("", ":", "a:b", ":99999", "1:2:3", "http://x:1"):
        with pytest.raises(DBOSInitializationError, match="--http"):
            parse_address(odd)


def test_a_port_that_is_taken_is_told_at_once(served: Served) -> None:
    with pytest.raises(DBOSInitializationError, match="cannot listen"):
        HttpServer(f"127.0.0.1:{served.port}")

"""HTTP by hand over a socket: also what no client would send."""

from __future__ import annotations

import socket
import time
from collections.abc import Sequence
from dataclasses import dataclass

from dbos_events_webhooks import WebhookRequest


@dataclass
class RawReply:
    """What came back; `status` is 0 where nothing did."""

    status: int
    head: bytes
    body: bytes
    closed: bool


def wire_of(
    request: WebhookRequest, *, length: bytes | None = b"right", more: Sequence[tuple[bytes, bytes]] = ()
) -> bytes:
    """A request as bytes. `length` is that of the body, other text, or None for no such header."""
    target = request.path + (f"?{request.query.decode('latin-1')}" if request.query else "")
    lines = [f"{request.method} {target} HTTP/1.1".encode("latin-1"), b"host: test"]
    lines += [name.encode("latin-1") + b": " + value for name, value in request.headers]
    if length is not None:
        lines.append(b"content-length: " + (b"%d" % len(request.body) if length == b"right" else length))
    lines += [name + b": " + value for name, value in more]
    return b"\r\n".join(lines) + b"\r\n\r\n" + request.body


def exchange(
    port: int, *pieces: bytes, pause: float = 0.0, seconds: float = 10.0, hang_up: bool = False
) -> RawReply:
    """Send pieces one after the other, and read until the server closes or has answered."""
    with socket.create_connection(("127.0.0.1", port), timeout=seconds) as connection:
        try:
            for index, piece in enumerate(pieces):
                if index and pause:
                    time.sleep(pause)
                connection.sendall(piece)
        except OSError:
            pass  # it was refused before it was sent to its end; the answer may be there
        if hang_up:
            return RawReply(0, b"", b"", closed=True)
        return read_reply(connection)


def read_reply(connection: socket.socket) -> RawReply:
    """One answer, by its content length."""
    got, closed = b"", False
    try:
        while b"\r\n\r\n" not in got:
            piece = connection.recv(65536)
            if not piece:
                return RawReply(_status(got), got, b"", closed=True)
            got += piece
        head, _, body = got.partition(b"\r\n\r\n")
        length = _length(head)
        while len(body) < length:
            piece = connection.recv(65536)
            if not piece:
                closed = True
                break
            body += piece
        return RawReply(_status(head), head, body, closed)
    except ConnectionError:
        return RawReply(_status(got), got, b"", closed=True)


def _status(head: bytes) -> int:
    first = head.split(b"\r\n", 1)[0].split(b" ")
    return int(first[1]) if len(first) > 1 and first[1].isdigit() else 0


def _length(head: bytes) -> int:
    for line in head.split(b"\r\n")[1:]:
        name, _, value = line.partition(b":")
        if name.strip().lower() == b"content-length":
            return int(value)
    return 0

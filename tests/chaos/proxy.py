"""A TCP proxy that harms what passes through it: cuts it, holds it up, or loses the answer to what was done.

All proxies of a run share one event loop on a thread of its own. Methods without an underscore may be called from any
other thread, and return when what they say is so.
"""

import asyncio
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from contextlib import suppress
from typing import Any, Self, TypeVar

R = TypeVar("R")

SECONDS = 10.0
Wanted = Callable[[bytes], bool]


def is_database_commit(data: bytes) -> bool:
    """Whether a client's bytes ask PostgreSQL to commit."""
    return b"COMMIT" in data


def is_offset_commit(data: bytes) -> bool:
    """Whether a client's bytes begin with a request to a Kafka broker to commit offsets: length, then API key 8."""
    return data[4:6] == b"\x00\x08"


class Loop:
    """The event loop of all proxies."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="proxies", daemon=True)
        self._thread.start()

    def run(self, work: Coroutine[Any, Any, R]) -> R:
        """Carry `work` out on the loop."""
        future: Future[R] = asyncio.run_coroutine_threadsafe(work, self._loop)
        return future.result(SECONDS)

    def close(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(SECONDS)
        self._loop.close()


class _End(asyncio.Protocol):
    """One of the two connections of a link."""

    def __init__(self, link: "_Link") -> None:
        self._link = link
        self._reasons: set[str] = set()
        self.transport: asyncio.Transport | None = None
        self.other: _End

    def hold(self, reason: str, *, on: bool) -> None:
        """Read nothing from this side for as long as there is a reason."""
        (self._reasons.add if on else self._reasons.discard)(reason)
        if self.transport is None or self.transport.is_closing():
            return
        if self._reasons:
            self.transport.pause_reading()
        else:
            self.transport.resume_reading()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        self._link.connected(self)

    def data_received(self, data: bytes) -> None:
        self._link.passes(self, data)

    def pause_writing(self) -> None:
        self.other.hold("the other side is slow", on=True)

    def resume_writing(self) -> None:
        self.other.hold("the other side is slow", on=False)

    def connection_lost(self, error: Exception | None) -> None:
        self._link.cut()


class _Link:
    """A client's connection and the server's that belongs to it."""

    def __init__(self, proxy: "Proxy") -> None:
        self._proxy = proxy
        self._loses_next_answer = False
        self.client, self.server = _End(self), _End(self)
        self.client.other, self.server.other = self.server, self.client
        self.client.hold("the server is not reached yet", on=True)
        if proxy.stalled:
            self.stall(on=True)

    def connected(self, end: _End) -> None:
        if end is self.client:
            self._proxy.links.add(self)
            end.hold("", on=False)  # what was a reason before there was a connection
            task = asyncio.get_running_loop().create_task(self._reach())
            self._proxy.tasks.add(task)
            task.add_done_callback(self._proxy.tasks.discard)
        else:
            end.hold("", on=False)
            self.client.hold("the server is not reached yet", on=False)

    async def _reach(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            await loop.create_connection(lambda: self.server, "127.0.0.1", self._proxy.upstream)
        except OSError:
            self.cut()
        if self.client.transport is None or self.client.transport.is_closing():
            self.cut()

    def passes(self, end: _End, data: bytes) -> None:
        if end is self.server and self._loses_next_answer:
            self._proxy.lost += 1
            self.cut()
            return
        if end is self.client and self._proxy.loses(data):
            self._loses_next_answer = True
        if end.other.transport is not None:
            end.other.transport.write(data)

    def stall(self, *, on: bool) -> None:
        for end in (self.client, self.server):
            end.hold("stalled", on=on)

    def cut(self) -> None:
        self._proxy.links.discard(self)
        for end in (self.client, self.server):
            if end.transport is not None:
                end.transport.abort()


class Proxy:
    """Stands on `port` before a server on `upstream`."""

    def __init__(self, loop: Loop, port: int, upstream: int) -> None:
        self.port = port
        self.upstream = upstream
        self.links: set[_Link] = set()
        self.tasks: set[asyncio.Task[None]] = set()
        self.stalled = False
        self.lost = 0
        """How many answers were lost so far."""
        self._wanted: Wanted | None = None
        self._to_lose = 0
        self._loop = loop
        self._server: asyncio.Server | None = None

    def start(self) -> Self:
        self._loop.run(self._listen())
        return self

    def close(self) -> None:
        self._loop.run(self._close())

    def cut(self) -> int:
        """Break all connections that are there; gives how many."""
        return self._loop.run(self._cut())

    def stall(self, *, on: bool) -> None:
        """Let nothing through, either way, and keep all connections: those that are there and those that come."""
        self._loop.run(self._stall(on))

    def lose_answers(self, wanted: Wanted, count: int) -> None:
        """Pass the next `count` requests on that are `wanted`, and break their connections instead of answering."""
        self._loop.run(self._lose(wanted, count))

    # -- on the loop --------------------------------------------------------------------------

    def loses(self, data: bytes) -> bool:
        """Whether the answer to these bytes of a client is to be lost."""
        if self._to_lose <= 0 or self._wanted is None or not self._wanted(data):
            return False
        self._to_lose -= 1
        return True

    async def _listen(self) -> None:
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(lambda: _Link(self).client, "127.0.0.1", self.port)

    async def _close(self) -> None:
        if self._server is not None:
            self._server.close()
        await self._cut()
        for task in tuple(self.tasks):
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task

    async def _cut(self) -> int:
        links = tuple(self.links)
        for link in links:
            link.cut()
        return len(links)

    async def _stall(self, on: bool) -> None:
        self.stalled = on
        for link in tuple(self.links):
            link.stall(on=on)

    async def _lose(self, wanted: Wanted, count: int) -> None:
        self._wanted, self._to_lose = wanted, count

"""Read the body of a request: by length and by count, within a time, and never more than the endpoint takes."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from dbos_events_webhooks.receiving.limits import Load

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]


class Disconnected(Exception):
    """The sender has gone: there is nobody to answer, and nothing that was sent counts."""


class Unread(Exception):
    """The body was not read to its end, because it is `too-slow`, `too-large`, or too much beside others (`overloaded`)."""

    def __init__(self, reason: str) -> None:
        self.reason = reason
        super().__init__(reason)


class RequestBody:
    """The body of one request. `held` are its bytes that were counted in the load; whoever made it lets them go."""

    def __init__(self, load: Load, most: int) -> None:
        self._load = load
        self._most = most
        self.held = 0

    async def read(self, receive: Receive, seconds: float) -> bytes:
        """All of it.

        Raises:
            Unread: It did not come within `seconds`, is larger than this endpoint's, or has no place beside the others.
            Disconnected: The sender went away before its end.
        """
        try:
            async with asyncio.timeout(seconds):
                first, more = await self._piece(receive)
                if not more:
                    return first  # as nearly all are: one piece, and no second copy
                whole = bytearray(first)  # a list would cost more than the bytes, where they come one by one
                while more:
                    piece, more = await self._piece(receive)
                    whole += piece
                return bytes(whole)
        except TimeoutError:
            raise Unread("too-slow") from None

    async def _piece(self, receive: Receive) -> tuple[bytes, bool]:
        message = await receive()
        if message["type"] != "http.request":
            raise Disconnected
        piece: bytes = message.get("body", b"")
        if self.held + len(piece) > self._most:
            raise Unread("too-large")
        if not self._load.hold(len(piece)):
            raise Unread("overloaded")
        self.held += len(piece)
        return bytes(piece), bool(message.get("more_body", False))

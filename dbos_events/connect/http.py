"""What a source has that is asked over HTTP: it brings an ASGI app, and the service brings the server."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, Protocol, runtime_checkable

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
HttpApp = Callable[
    [Scope, Callable[[], Awaitable[Message]], Callable[[Message], Awaitable[None]]], Awaitable[None]
]


@runtime_checkable
class HttpSource(Protocol):
    """A source whose events come by HTTP requests."""

    def http_app(self, path: str) -> HttpApp | None:
        """The ASGI app that answers requests to `path`; None where this source has nothing there."""
        ...

    @property
    def addresses(self) -> tuple[str, ...]:
        """The paths, for people."""
        ...

"""The endpoints as routes of Starlette, and as a router of FastAPI."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route, Router

if TYPE_CHECKING:
    from dbos_events_webhooks.receiving.endpoint import Endpoint

STATUSES: dict[int | str, dict[str, Any]] = {
    200: {"description": "The events are durable"},
    401: {"description": "Not genuine"},
    413: {"description": "Too large"},
    415: {"description": "Another content type, or compressed"},
    429: {"description": "Too many; Retry-After says when to come again"},
    503: {"description": "The database does not answer; Retry-After says when to come again"},
}


class Routed(Protocol):
    """What has endpoints to be routed to: a receiver."""

    endpoints: list[Endpoint]

    def at(self, endpoint: Endpoint) -> Callable[..., Any]:
        """An ASGI app that is this endpoint."""
        ...

    @property
    def callback_paths(self) -> tuple[str, ...]:
        """The routes of callbacks, where they are answered."""
        ...

    async def callback_app(self, scope: Any, receive: Any, send: Any) -> None:
        """An ASGI app that is the route of callbacks."""
        ...


class _Through(Response):
    """A response that is an ASGI app: it reads the request's body itself, which nothing has parsed."""

    def __init__(self, app: Any) -> None:
        super().__init__()
        self._app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        await self._app(scope, receive, send)


class _Application:
    """A route takes a function for a view, and an object for an ASGI app."""

    def __init__(self, app: Any) -> None:
        self._app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        await self._app(scope, receive, send)


def routes_of(receiver: Routed) -> Sequence[BaseRoute]:
    """A route for each endpoint, with and without a slash at its end; the endpoint answers for its methods."""
    return [
        Route(path, _Application(receiver.at(endpoint)), name=endpoint.path)
        for endpoint in receiver.endpoints
        for path in _both(endpoint.path)
    ] + [
        Route(path, _Application(receiver.callback_app), name="callbacks") for path in receiver.callback_paths
    ]


def router_of(receiver: Routed) -> Any:
    """FastAPI's where it is installed, since it takes in no other."""
    if importlib.util.find_spec("fastapi") is None:
        return Router(routes=routes_of(receiver))
    from fastapi import APIRouter

    router = APIRouter()
    for endpoint in receiver.endpoints:
        for path in _both(endpoint.path):
            router.add_api_route(
                path,
                _view(receiver.at(endpoint)),
                methods=["POST"],
                name=endpoint.path,
                summary=f"Webhooks of {endpoint.provider.row.title}",
                response_class=Response,
                responses=STATUSES,
                include_in_schema=path == endpoint.path,
            )
            other: Any = _Application(receiver.at(endpoint))  # questions, and methods that nobody asks with
            router.add_route(path, other, include_in_schema=False)
    for path in receiver.callback_paths:
        answering: Any = _Application(receiver.callback_app)
        router.add_route(path, answering, include_in_schema=False)
    return router


def _view(app: Any) -> Any:
    async def receive_webhook(request: Request) -> Response:  # noqa: ARG001 - read by the app itself
        return _Through(app)

    return receive_webhook


def _both(path: str) -> tuple[str, ...]:
    bare = path.rstrip("/")
    return (path,) if not bare else (path, bare if path.endswith("/") else f"{bare}/")

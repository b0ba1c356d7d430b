"""The server of `dbos-events run --http`: uvicorn on a thread of its own, for what sources answer over HTTP."""

from __future__ import annotations

import asyncio
import logging
import re
import socket
import threading
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from dbos_events.connect.http import HttpApp, HttpSource
from dbos_events.errors import DBOSInitializationError

log = logging.getLogger("dbos_events.cli")

KEEP_ALIVE_SECONDS = 75
"""Longer than proxies keep an idle connection: else one might send a request into a connection that is being closed."""
HEAD_BYTES = 64 * 1024
BACKLOG = 2048
LOST_SECONDS = 5.0
NOT_FOUND = b'{"error":"not found"}'

_ADDRESS = re.compile(r"(?:(?P<host>\[[0-9a-fA-F:.%]+\]|[^:\[\]]*):)?(?P<port>[0-9]{1,5})")


def parse_address(text: str) -> tuple[str, int]:
    """Host and port of `:8000`, `8000`, `127.0.0.1:8000` or `[::1]:8000`.

    Raises:
        DBOSInitializationError: It is none of these.
    """
    match = _ADDRESS.fullmatch(text)
    if match is None or int(match["port"]) > 65535:
        raise DBOSInitializationError(
            f"--http is HOST:PORT or :PORT, as in :8000 or 127.0.0.1:8000, and this is {text!r}."
        )
    return (match["host"] or "0.0.0.0").strip("[]"), int(match["port"])  # noqa: S104 - as a server listens


class HttpServer:
    """Listens from the start of the process's life, so that a port that is taken is told at once; answers once started."""

    def __init__(self, address: str) -> None:
        """Take the address.

        Raises:
            DBOSInitializationError: It is taken, or not one of this machine's; or uvicorn is not installed.
        """
        host, port = parse_address(address)
        self._uvicorn = _import_uvicorn()
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self._socket = socket.socket(family, socket.SOCK_STREAM)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            self._socket.bind((host, port))
        except OSError as error:
            self._socket.close()
            raise DBOSInitializationError(
                f"The HTTP server cannot listen on {host}:{port}: {error.strerror}."
            ) from error
        self.host = host
        self.port: int = self._socket.getsockname()[1]
        """The port that is listened on, also when any free one was asked for (0)."""
        self._server: Any = None
        self._thread: threading.Thread | None = None

    def start(self, sources: Sequence[HttpSource]) -> None:
        """Begin to answer for these sources."""
        from dbos_events.cli.httphead import BoundedProtocol

        config = self._uvicorn.Config(
            Dispatch(sources),
            http=BoundedProtocol,
            ws="none",
            lifespan="off",
            log_config=None,
            log_level=logging.ERROR,
            access_log=False,
            proxy_headers=False,
            server_header=False,
            backlog=BACKLOG,
            timeout_keep_alive=KEEP_ALIVE_SECONDS,
            timeout_graceful_shutdown=5,
            h11_max_incomplete_event_size=HEAD_BYTES,
        )
        self._server = self._uvicorn.Server(config)
        self._socket.listen(BACKLOG)  # whoever connects from now on is answered
        self._thread = threading.Thread(target=self._run, name="dbos-http", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            asyncio.run(self._server.serve(sockets=[self._socket]))
        except Exception:
            log.exception("The HTTP server has ended.")

    @property
    def running(self) -> bool:
        """Whether its thread lives."""
        return self._thread is not None and self._thread.is_alive()

    def stop(self, seconds: float) -> None:
        """Answer what is under way, and free the port."""
        if self._server is not None and self._thread is not None:
            self._server.should_exit = True
            self._thread.join(seconds)
            if self._thread.is_alive():
                self._server.force_exit = True
                self._thread.join(1.0)
        self._socket.close()


class Dispatch:
    """The ASGI app over all sources: the first that has something at a path answers."""

    def __init__(self, sources: Sequence[HttpSource]) -> None:
        self._sources = tuple(sources)

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        for source in self._sources:
            app = source.http_app(scope["path"])
            if app is not None:
                await self._answered(app, scope, receive, send)
                return
        headers = [
            (b"content-type", b"application/json"),
            (b"content-length", b"%d" % len(NOT_FOUND)),
            (b"connection", b"close"),  # a body that nobody reads may follow
        ]
        await send({"type": "http.response.start", "status": 404, "headers": headers})
        await send({"type": "http.response.body", "body": NOT_FOUND})

    async def _answered(self, app: HttpApp, scope: Any, receive: Any, send: Any) -> None:
        """Let it answer. What it says is not sent any more where something that is not HTTP came behind its request."""
        from h11 import LocalProtocolError

        try:
            await app(scope, receive, send)
        except LocalProtocolError as error:
            log.debug("A connection ended before its request was answered: %s", error)
            with suppress(TimeoutError):
                async with asyncio.timeout(LOST_SECONDS):
                    while (await receive())[
                        "type"
                    ] != "http.disconnect":  # it ends now, and nothing is missing then
                        continue


def _import_uvicorn() -> Any:
    try:
        import uvicorn
    except ImportError as error:
        raise DBOSInitializationError(
            f"--http needs a package that is not installed ({error}). Install it: pip install 'dbos-events[serve]'"
        ) from error
    return uvicorn

"""`/livez` and `/readyz` over HTTP, on a thread of its own, from before the launch until the end."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import NamedTuple

from dbos_events.errors import DBOSInitializationError
from dbos_events.telemetry.log import redact

REQUEST_SECONDS = 5.0


class Answer(NamedTuple):
    """What both probes answer from: `problems` says what is wrong, `notes` what is so on purpose, one line each."""

    live: bool
    ready: bool
    problems: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


class HealthServer:
    """Serves the probes: 200 or 503, with live, ready, problems and notes as JSON."""

    def __init__(self, host: str, port: int, ask: Callable[[], Answer]) -> None:
        """Listen at once.

        Raises:
            DBOSInitializationError: The address is taken or not one of this machine's.
        """
        try:
            self._server = _Server(host, port, ask)
        except OSError as error:
            raise DBOSInitializationError(
                f"The health probes cannot listen on {host}:{port}: {error.strerror}."
            ) from error
        self.port: int = self._server.server_address[1]
        """The port that is listened on, also when any free one was asked for (0)."""
        self._thread = threading.Thread(target=self._server.serve_forever, name="dbos-health", daemon=True)

    def start(self) -> None:
        """Begin to answer."""
        self._thread.start()

    def stop(self) -> None:
        """Answer no more, and free the port."""
        if self._thread.is_alive():
            self._server.shutdown()
        self._server.server_close()


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, host: str, port: int, ask: Callable[[], Answer]) -> None:
        if ":" in host:
            self.address_family = socket.AF_INET6
        self.ask = ask
        super().__init__((host, port), _Handler)


class _Handler(BaseHTTPRequestHandler):
    timeout = REQUEST_SECONDS
    server_version = "dbos-events"
    sys_version = ""
    server: _Server

    def do_GET(self) -> None:
        answer = self.server.ask()
        path = self.path.partition("?")[0]
        if path == "/livez":
            self._reply(200 if answer.live else 503, answer)
        elif path == "/readyz":
            self._reply(200 if answer.ready else 503, answer)
        else:
            self.send_error(404, "Ask for /livez or /readyz")

    do_HEAD = do_GET  # noqa: N815

    def _reply(self, code: int, answer: Answer) -> None:
        problems = [redact(problem) for problem in answer.problems]
        said = {
            "live": answer.live, "ready": answer.ready, "problems": problems, "notes": list(map(redact, answer.notes))
        }  # fmt: skip
        body = json.dumps(said).encode()
        self.send_response(code)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Cache-Control", "no-store")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, format: str, *arguments: object) -> None:  # noqa: A002 - as it is called there
        """Say nothing: probes come every few seconds."""

"""Servers in Docker, through testcontainers, where an engine answers."""

import functools
import os
import socket
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from tests.servers.errors import ServerFailed
from tests.servers.process import LOG_LINES_SHOWN

if TYPE_CHECKING:
    from testcontainers.core.container import DockerContainer

STOP_SECONDS = 30


@functools.cache
def can_run(image: str) -> bool:
    """Tell whether a Docker engine answers and has the image or can fetch it."""
    if not _engine_listens():
        return False
    import docker
    from docker.errors import DockerException, ImageNotFound

    try:
        client = docker.from_env(timeout=300)
        try:
            client.ping()
            try:
                client.images.get(image)
            except ImageNotFound:
                client.images.pull(image)
        finally:
            client.close()
    except (DockerException, OSError):
        return False
    return True


def _engine_listens() -> bool:
    """Look for the engine's socket first: importing the Docker client costs a quarter of a second."""
    host = urlsplit(os.environ.get("DOCKER_HOST", "unix:///var/run/docker.sock"))
    if host.scheme != "unix":
        return True  # elsewhere: the client will tell
    if not Path(host.path).is_socket():
        return False
    with socket.socket(socket.AF_UNIX) as probe:
        return probe.connect_ex(host.path) == 0


class ContainerProcess:
    """A container in the place of a `GuardedProcess`: data and port stay the same over restarts.

    The engine publishes `port` of the container under the same number on the loopback interface, so that
    a server which announces its own address announces one that the tests can reach.
    """

    def __init__(
        self,
        image: str,
        *,
        port: int,
        environment: Mapping[str, str],
        command: Sequence[str] = (),
        kill_signal: str = "SIGKILL",
    ) -> None:
        self._image = image
        self._port = port
        self._environment = dict(environment)
        self._command = list(command)
        self._kill_signal = kill_signal
        self._container: DockerContainer | None = None

    @property
    def running(self) -> bool:
        """Whether the container's server is alive."""
        if self._container is None:
            return False
        wrapped = self._container.get_wrapped_container()
        wrapped.reload()
        return bool(wrapped.status == "running")

    def start(self) -> None:
        """Start the container; does not wait until the server in it serves."""
        if self._container is not None:
            self._container.get_wrapped_container().start()
            return
        from testcontainers.core.container import DockerContainer

        container = DockerContainer(self._image).with_envs(**self._environment)
        container.with_bind_ports(self._port, self._port)
        if self._command:
            container.with_command(self._command)
        self._container = container.start()

    def stop(self) -> None:
        """Ask the server to end, and wait until it has."""
        if self._container is not None:
            self._container.get_wrapped_container().stop(timeout=STOP_SECONDS)

    def kill(self) -> None:
        """End the server as a crash would, and wait until it is gone."""
        if self._container is not None and self.running:
            wrapped = self._container.get_wrapped_container()
            wrapped.kill(signal=self._kill_signal)
            wrapped.wait(timeout=STOP_SECONDS)

    def remove(self) -> None:
        """Remove the container and its data."""
        if self._container is not None:
            self._container.stop(force=True, delete_volume=True)
            self._container = None

    def wait_ready(self, ready: Callable[[], bool], *, seconds: float) -> None:
        """Wait until `ready` says so; raise `ServerFailed` with the log's tail when it does not."""
        deadline = time.monotonic() + seconds
        while not ready():
            if time.monotonic() > deadline or not self.running:
                message = f"{self._image} did not become ready:\n{self._log_tail()}"
                raise ServerFailed(message)
            time.sleep(0.1)

    def _log_tail(self) -> str:
        if self._container is None:
            return "(no container)"
        text = self._container.get_wrapped_container().logs(tail=LOG_LINES_SHOWN)
        return str(text, "utf-8", "replace")

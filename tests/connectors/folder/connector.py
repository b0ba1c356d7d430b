"""A connector whose events are files that others put into a folder: it names nothing that the core would know.

A file `ID` or `LANE--ID` in a consumer's folder is one event. It is deleted once it was accepted; whoever puts it there
again sends it again.
"""

import hashlib
import sys
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Generic, TypeVar

from dbos_events.connect import Inbox, PushConnector, PushedEvent, PushHost, PushOptions, Source, SourceHealth

V = TypeVar("V", default=bytes) if sys.version_info >= (3, 13) else TypeVar("V")
F = TypeVar("F", bound=Callable[..., Any])

INSTALLED = Path(__file__).with_name("installed")
LOOK_SECONDS = 0.02


def install() -> None:
    """Have the connector found by its entry point, as if it was installed."""
    if str(INSTALLED) not in sys.path:
        sys.path.append(str(INSTALLED))


@dataclass(frozen=True)
class File(Generic[V]):
    """What handlers get."""

    name: str
    workflow_id: str
    content: V
    content_type: str | None
    headers: tuple[tuple[str, bytes | None], ...]
    received_at: int


class Files:
    """The messages of the connector."""

    form = File

    @staticmethod
    def of(event: PushedEvent, workflow_id: str, /) -> File[Any]:
        return File(
            event.event_id,
            workflow_id,
            event.payload,
            event.content_type,
            tuple(event.headers),
            event.received_at,
        )

    @staticmethod
    def value(message: File[Any], /) -> bytes:
        content: bytes = message.content
        return content

    @staticmethod
    def with_value(message: File[Any], value: Any, /) -> File[Any]:
        return replace(message, content=value)

    @staticmethod
    def place(message: File[Any], /) -> str:
        return f"the file {message.name}"


class FolderSource:
    """Looks into the folders of all consumers, and accepts what lies there."""

    name = "folder"

    def __init__(self, inbox: Inbox, settings: Mapping[str, Any]) -> None:
        self.inbox = inbox
        self.settings = settings
        self._paused = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)
        self._folders = {
            name: Path(options.config["folder"])
            for name, options in inbox.consumers.items()
            if "folder" in options.config
        }

    def start(self) -> None:
        for name in self.inbox.consumers:
            self.inbox.report(name, "listening")
        self._thread.start()

    def pause(self) -> None:
        self._paused.set()

    def stop(self, seconds: float) -> None:
        self.pause()
        self._thread.join(seconds)

    def health(self) -> SourceHealth:
        return SourceHealth(live=True, ready=self._thread.is_alive(), detail="the folder is looked at")

    def _look(self) -> None:
        while not self._paused.wait(LOOK_SECONDS):
            found = [
                (path, event_of(name, path))
                for name, folder in self._folders.items()
                for path in sorted(folder.iterdir())
            ]
            if not found:
                continue
            outcomes = self.inbox.accept([event for _, event in found])
            for (path, _), outcome in zip(found, outcomes, strict=True):
                if outcome.durable:
                    path.unlink()


def event_of(consumer: str, path: Path) -> PushedEvent:
    """The event that a file is."""
    lane, _, event_id = path.name.rpartition("--")
    return event(consumer, event_id, path.read_bytes(), lane=lane or None)


def event(consumer: str, event_id: str, payload: bytes = b"{}", **fields: Any) -> PushedEvent:
    """An event whose sender has signed its content."""
    given = {"fingerprint": hashlib.sha256(payload).digest(), "received_at": 1_700_000_000_000, **fields}
    return PushedEvent(consumer, event_id, payload, **given)


def folder_consumer(app: PushHost, folder: Path | None = None, **options: Any) -> Callable[[F], F]:
    """The connector's decorator: the function handles the files of a folder."""
    config = {} if folder is None else {"folder": folder}
    namespace = sys._getframe(1).f_locals
    return app.pushed_consumer("folder", PushOptions(config=config, namespace=namespace, **options))


def inbox_of(app: Any) -> Inbox:
    """What the launched App has handed to the connector."""
    (source,) = (source for source in app.launched.sources if isinstance(source, FolderSource))
    inbox: Inbox = source.inbox
    return inbox


def _open(inbox: Inbox, settings: Mapping[str, Any]) -> Source:
    return FolderSource(inbox, settings)


connector = PushConnector("folder", "file", Files(), _open)
install()

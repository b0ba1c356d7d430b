"""A consumer process of the fault tests: `python -m tests.faults.worker OPTIONS_AS_JSON`.

Its handler does two steps, each of which appends one row to the effects. What an event's value says is
done between them: `{"do": "hold"}` waits for as long as the gate file is missing, `{"do": "sleep", "seconds": n}`
sleeps durably, `{"do": "raise"}` fails. SIGTERM drains.
"""

import asyncio
import json
import logging
import os
import signal
import sys
import threading
import time
from concurrent.futures import Future
from contextvars import ContextVar
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dbos_events import KafkaMessage
from dbos_events.app import App
from dbos_events.engine.core import Core
from tests.defects.planted import plant_named
from tests.faults.effects import Effects
from tests.faults.journal import Journal


@dataclass(frozen=True, slots=True)
class Options:
    """What one worker process does. With `keys`, an event's key is its offset modulo that number."""

    database: str
    effects: str
    topic: str
    label: str
    kafka: dict[str, Any]
    name: str = "faults"
    handler: str = "async"
    ordering: str = "none"
    keys: int = 0
    queue: str | None = None
    step_seconds: float = 0.0
    max_in_flight: int | None = None
    batch_size: int | None = None
    gate: str = ""
    journal: str = ""
    mended: bool = False
    drain_seconds: float = 5.0
    settings: dict[str, Any] = field(default_factory=dict)


class Gate:
    """Opens when its file appears; one thread looks for all who wait."""

    def __init__(self, path: Path) -> None:
        self.opened: Future[None] = Future()
        self.opened.set_running_or_notify_cancel()
        self._path = path
        threading.Thread(target=self._look, name="gate", daemon=True).start()

    def _look(self) -> None:
        while not self._path.exists():
            time.sleep(0.02)
        self.opened.set_result(None)


EXECUTOR: ContextVar[int] = ContextVar("EXECUTOR")
"""The process start that runs the event at hand."""


class Handler:
    """What the handlers of both colours do."""

    def __init__(self, options: Options, app: App) -> None:
        self.options = options
        self.app = app
        self._gate = Gate(Path(options.gate)) if options.gate else None
        self._effects = Effects(options.effects, options.label)
        self._launched = threading.Event()
        self._core: Core

    def launched(self, core: Core) -> None:
        self._core = core
        self._launched.set()

    def began(self) -> None:
        """Note who runs the event: a process that was frozen goes on as another executor."""
        self._launched.wait()  # an event may come before the launch has returned
        EXECUTOR.set(self._core.executor)

    def append(self, message: KafkaMessage, step: str) -> None:
        place = message.topic or "", message.partition or 0, message.offset or 0
        self._effects.append(*place, step, EXECUTOR.get())

    def closed_gate(self, wish: dict[str, Any]) -> "Future[None] | None":
        return self._gate.opened if self._gate is not None and wish.get("do") == "hold" else None

    def register_journal(self, consumer: Any) -> None:
        """A handler that costs next to nothing, for many events: its effect is a line in a file."""
        journal = Journal(Path(self.options.journal))

        @self.app.step()
        async def note(message: KafkaMessage) -> None:
            journal.append(message.partition or 0, message.offset or 0, bytes(message.key or b""))

        @consumer
        async def handle_journal(message: KafkaMessage) -> None:
            if not self.options.mended:
                fail_if_asked(wish_of(message))
            await note(message)

    def register_sync(self, consumer: Any) -> None:
        @self.app.step()
        def effect(message: KafkaMessage, name: str) -> None:
            self.append(message, name)
            time.sleep(self.options.step_seconds)

        @consumer
        def handle(message: KafkaMessage) -> None:
            self.began()
            wish = wish_of(message)
            effect(message, "first")
            if closed := self.closed_gate(wish):
                closed.result()
            if wish.get("do") == "sleep":
                self.app.sleep(wish["seconds"])
            fail_if_asked(wish)
            effect(message, "second")

    def register_async(self, consumer: Any) -> None:
        @self.app.step()
        async def effect_async(message: KafkaMessage, name: str) -> None:
            self.append(message, name)
            await asyncio.sleep(self.options.step_seconds)

        @consumer
        async def handle_async(message: KafkaMessage) -> None:
            self.began()
            wish = wish_of(message)
            await effect_async(message, "first")
            if closed := self.closed_gate(wish):
                await asyncio.wrap_future(closed)
            if wish.get("do") == "sleep":
                await self.app.sleep_async(wish["seconds"])
            fail_if_asked(wish)
            await effect_async(message, "second")


def wish_of(message: KafkaMessage) -> dict[str, Any]:
    """What the event asks for; nothing unless its value is an object."""
    value = message.value
    if value is None or value[:1] not in (b"{", "{"):
        return {}
    return dict(json.loads(value))


def fail_if_asked(wish: dict[str, Any]) -> None:
    if wish.get("do") == "raise":
        raise ValueError(wish.get("text", "as asked"))


def build(options: Options) -> tuple[App, Handler]:
    """The App with its one consumer, and what its handler does."""
    settings = {
        "name": options.name,
        "system_database_url": options.database,
        "application_version": "1",
        "executor_id": options.label,
    }
    app = App({**settings, **options.settings})
    handler = Handler(options, app)
    if options.queue:
        app.queue(options.queue)
    consumer = app.kafka_consumer(
        options.kafka,
        [options.topic],
        name="worker",
        ordering=options.ordering,  # type: ignore[arg-type]
        ordering_key=(lambda message: message.offset % options.keys) if options.keys else None,
        queue_name=options.queue,
        batch_size=options.batch_size,
        max_in_flight=options.max_in_flight,
    )
    registers = {
        "sync": handler.register_sync,
        "async": handler.register_async,
        "journal": handler.register_journal,
    }
    registers[options.handler](consumer)
    return app, handler


def main() -> None:
    """Run until SIGTERM, then drain."""
    plant_named()
    options = Options(**json.loads(sys.argv[1]))
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s %(levelname)s %(message)s")
    stopping = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stopping.set())
    app, handler = build(options)
    app.launch()
    handler.launched(app.core)
    print(os.getpid(), flush=True)
    stopping.wait()
    app.destroy(workflow_completion_timeout_sec=options.drain_seconds)


if __name__ == "__main__":
    main()

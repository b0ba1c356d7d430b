"""A consumer process of a chaos run: `python -m tests.chaos.worker OPTIONS_AS_JSON`. SIGTERM drains."""

import asyncio
import json
import logging
import os
import sys
import threading
import time
from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dbos_events import KafkaMessage, Quarantine, Retry
from dbos_events.app import App
from dbos_events.cli.service import RunningService, ServiceOptions
from dbos_events.engine.context import CURRENT
from tests.chaos.conversations import Conversation, read_value
from tests.chaos.events import (
    CHILD,
    FLAKY,
    POISON,
    RAISE,
    RAISED,
    RETRY,
    SLEEP,
    SLEEP_SECONDS,
    STEP_NAMES,
    STEPS,
    TALK,
    TWO,
    failures_of,
)
from tests.chaos.leaks import Leaks, trace_allocations
from tests.chaos.marks import Marks
from tests.chaos.raising import raised_by
from tests.chaos.skewed import SkewedClock
from tests.chaos.talking import AsyncTalking, SyncTalking
from tests.defects.planted import plant

SLOW_STEP_SECONDS = 0.004
SLOW_EACH = 10
RETRIES = Retry(max_attempts=50, interval_seconds=0.2, backoff_rate=1.0)
"""Many: an attempt that a fault ends is none, but one whose error came from a fault is."""

Place = tuple[int, int, int]
"""Partition, offset and key of an event."""

EXECUTOR: ContextVar[int] = ContextVar("EXECUTOR")
"""The process start that runs the event at hand; 0 when it lost the event before that could be told."""


@dataclass(frozen=True, slots=True)
class WorkerOptions:
    """What one worker process does."""

    database: str
    topic: str
    label: str
    folder: str
    kafka: dict[str, Any]
    handler: str
    ordering: str
    settings: dict[str, Any] = field(default_factory=dict)
    defect: str = ""
    clock_seconds: float = 0.0
    """How far its host's clock is ahead."""
    talking: bool = False
    """Whether events talk; then it has the queues and the schedule, too."""
    leaks: tuple[str, ...] = ()
    trace_seconds: float = 0.0
    """How often it writes down where its memory was allocated; 0: never."""


class Handling:
    """What the handlers of both colours do."""

    def __init__(self, options: WorkerOptions, app: App) -> None:
        self.app = app
        self._options = options
        self._folder = Path(options.folder)
        self._marks = Marks(self._folder / "marks" / f"{options.label}-{os.getpid()}")
        self._launched = threading.Event()
        self._leaks = Leaks(options.leaks, options.database)

    def launched(self) -> None:
        self._launched.set()

    def began(self) -> None:
        """Note who runs the event. A process that was declared dead drops its runs before it goes on as another."""
        self._leaks.grow()
        self._launched.wait()  # an event may come before the launch has returned
        executor = self.app.core.executor
        scope = CURRENT.get()
        assert scope is not None
        EXECUTOR.set(executor if scope.run.verdict is None else 0)

    def end_step(self, begun: int, place: Place, step: int) -> None:
        """The step's effect, and its failure, where one is asked for."""
        partition, offset, key = place
        self._marks.append(begun, offset, EXECUTOR.get(), key, partition, step)
        if step == FLAKY:
            self._fail_at_first(partition, offset)

    def refuse_poison(self, _place: Place) -> None:
        if not (self._folder / "mended").exists():
            raise Quarantine("poison")

    def raise_as_asked(self, place: Place) -> None:
        """Raise until all is mended, and leave a mark each time."""
        partition, offset, key = place
        if not (self._folder / "mended").exists():
            self._marks.append(time.monotonic_ns(), offset, EXECUTOR.get(), key, partition, RAISED)
            raise raised_by(partition, offset)

    def _fail_at_first(self, partition: int, offset: int) -> None:
        """Fail as a service does whose first answers are errors: it counts calls, whoever makes them."""
        for number in range(failures_of(offset)):
            try:
                (self._folder / "failures" / f"{partition}-{offset}-{number}").touch(exist_ok=False)
            except FileExistsError:
                continue
            raise ConnectionError("as asked")

    # -- the two colours ----------------------------------------------------------------------

    def register_sync(self, consumer: Callable[[Any], Any]) -> None:
        one, two, flaky, in_child = (self._step(name) for name in ("one", "two", "flaky", "in_child"))

        raising = self.app.step(name="raising")(self.raise_as_asked)

        @self.app.workflow(name="child")
        def child(place: Place) -> None:
            self.began()
            in_child(place)

        waits: dict[int, Callable[[Place], object]] = {
            RETRY: flaky,
            CHILD: lambda place: self.app.start_workflow(child, place).get_result(),
            SLEEP: lambda _place: self.app.sleep(SLEEP_SECONDS),
            POISON: self.refuse_poison,
            RAISE: lambda place: (raising if in_step(place) else self.raise_as_asked)(place),
        }
        options = self._options
        talk = SyncTalking(self.app, self._folder, options.label).register() if options.talking else None

        @consumer
        def handle(message: KafkaMessage) -> None:
            kind, place, conversation = read(message)
            self.began()
            one(place)
            if kind in waits:
                waits[kind](place)
            if talk and conversation:
                talk(conversation, place[:2])
            if TWO in STEPS[kind]:
                two(place)

    def register_async(self, consumer: Callable[[Any], Any]) -> None:
        one, two, flaky, in_child = (self._async_step(name) for name in ("one", "two", "flaky", "in_child"))

        raise_here = in_coroutine(self.raise_as_asked)
        raising = self.app.step(name="raising")(raise_here)

        @self.app.workflow(name="child")
        async def child(place: Place) -> None:
            self.began()
            await in_child(place)

        async def start_child(place: Place) -> None:
            await (await self.app.start_workflow_async(child, place)).get_result()

        async def sleep(_place: Place) -> None:
            await self.app.sleep_async(SLEEP_SECONDS)

        waits: dict[int, Callable[[Place], Awaitable[None]]] = {
            RETRY: flaky,
            CHILD: start_child,
            SLEEP: sleep,
            POISON: in_coroutine(self.refuse_poison),
            RAISE: lambda place: (raising if in_step(place) else raise_here)(place),
        }
        options = self._options
        talk = AsyncTalking(self.app, self._folder, options.label).register() if options.talking else None

        @consumer
        async def handle(message: KafkaMessage) -> None:
            kind, place, conversation = read(message)
            self.began()
            await one(place)
            if kind in waits:
                await waits[kind](place)
            if talk and conversation:
                await talk(conversation, place[:2])
            if TWO in STEPS[kind]:
                await two(place)

    def _step(self, name: str) -> Callable[[Place], None]:
        step = STEP_NAMES[name]

        def work(place: Place) -> None:
            begun = time.monotonic_ns()
            if place[1] % SLOW_EACH == 0:
                time.sleep(SLOW_STEP_SECONDS)
            self.end_step(begun, place, step)

        return self.app.step(name=name)(work)

    def _async_step(self, name: str) -> Callable[[Place], Awaitable[None]]:
        step = STEP_NAMES[name]

        async def work(place: Place) -> None:
            begun = time.monotonic_ns()
            if place[1] % SLOW_EACH == 0:
                await asyncio.sleep(SLOW_STEP_SECONDS)
            self.end_step(begun, place, step)

        return self.app.step(name=name)(work)


def in_coroutine(work: Callable[[Place], None]) -> Callable[[Place], Awaitable[None]]:
    """The same as a coroutine function."""

    async def work_async(place: Place) -> None:
        work(place)

    return work_async


def in_step(place: Place) -> bool:
    """Whether an event raises in a step, or in its handler."""
    return place[1] % 3 == 0


def read(message: KafkaMessage) -> tuple[int, Place, Conversation | None]:
    """What a message asks for, its place, and what it takes part in."""
    kind, number, *rest = map(int, (message.value or b"").split())
    partition, offset = message.partition or 0, message.offset or 0
    if number != offset:
        raise Quarantine(f"record {number} lies at {offset}")
    talk = read_value(rest) if kind == TALK and rest else None
    return kind, (partition, offset, int(message.key or 0)), talk


def build(options: WorkerOptions) -> tuple[App, Handling]:
    """The App with its one consumer, and what its handler does."""
    app = App(
        {
            "name": "chaos",
            "system_database_url": options.database,
            "application_version": "1",
            "executor_id": options.label,
            **options.settings,
        },
        clock=SkewedClock(options.clock_seconds) if options.clock_seconds else None,
    )
    handling = Handling(options, app)
    consumer = app.kafka_consumer(
        options.kafka,
        [options.topic],
        name="chaos",
        ordering=options.ordering,  # type: ignore[arg-type]
        retries=RETRIES,
    )
    (handling.register_sync if options.handler == "sync" else handling.register_async)(consumer)
    return app, handling


def main() -> None:
    """Run until SIGTERM, then drain: all of it as `dbos-events run` does, which finds the App in this module."""
    options = WorkerOptions(**json.loads(sys.argv[1]))
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s %(levelname)s %(message)s")
    if options.defect:
        plant(options.defect)
    if options.trace_seconds:
        trace_allocations(Path(options.folder) / "allocations.txt", options.trace_seconds)
    app, handling = build(options)
    launch = app.launch

    def launch_and_tell() -> None:
        launch()
        handling.launched()
        print(os.getpid(), flush=True)

    app.launch = launch_and_tell  # type: ignore[method-assign]
    sys.modules[__name__].__dict__["app"] = app
    RunningService(ServiceOptions(f"{__name__}:app")).run()


if __name__ == "__main__":
    main()

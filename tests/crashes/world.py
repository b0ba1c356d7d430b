"""What a scenario works with: one process of an application, on a manual clock, and a log that it reads."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from dbos_events import App
from dbos_events.api.consumers import ConsumerDeclaration
from dbos_events.connect import Inbox, PushedEvent, Record, SourceHealth
from dbos_events.engine.context import CURRENT
from dbos_events.errors import StorageUnavailable
from dbos_events.runtime.intake.consumer import ConsumerIntake
from dbos_events.testing import TestApp
from dbos_events_kafka import connector as kafka
from tests.connectors.folder.connector import connector
from tests.crashes.outcome import Effect, Expected, name_of
from tests.crashes.points import Point, Watch

TOPIC = "orders"
BATCH = 2
"""Records that one intake takes in."""

Log = Mapping[int, Sequence[bytes]]
"""By partition, the values of its records; the key of a record is the first byte of its value."""


class World:
    """One life of the application.

    Args:
        folder: Where effects are kept, and what operators have done.
        life: Which process of the run this is, from 1.
    """

    def __init__(self, app: App, url: str, log: Log, folder: Path, life: int, watch: Watch) -> None:
        self.app = app
        self.life = life
        self._url = url
        self._log = log
        self._folder = folder
        self._watch = watch
        self._source: ListSource | None = None
        self._inbox: Inbox | None = None
        self.test_app: TestApp

    # -- for handlers -------------------------------------------------------------------------

    def step(self, name: str, result: Callable[..., Any] = lambda *_: None) -> Callable[..., Any]:
        """A step that leaves an effect and gives `result` of its arguments."""

        @self.app.step(name=name)
        def step(*args: Any) -> Any:
            self._leave(name)
            return result(*args)

        return step

    def async_step(self, name: str, result: Callable[..., Any] = lambda *_: None) -> Callable[..., Any]:
        """The same for async handlers, which begin in order, each until it waits."""

        @self.app.step(name=name)
        async def step(*args: Any) -> Any:
            self._leave(name)
            return result(*args)

        return step

    @property
    def generation(self) -> int:
        """Which attempt at its workflow the caller runs in."""
        scope = CURRENT.get()
        assert scope is not None
        return scope.run.generation

    @property
    def workflow_id(self) -> str:
        """The workflow that the caller runs in."""
        scope = CURRENT.get()
        assert scope is not None
        return scope.run.id

    def _leave(self, step: str) -> None:
        scope = CURRENT.get()
        assert scope is not None
        effect = Effect(self.life, name_of(scope.run.id), step)

        def append() -> None:
            with (self._folder / "effects").open("a") as file:
                file.write(json.dumps(effect) + "\n")
            self._watch.became_durable()

        self._watch.around(f"effect {effect.step} of {effect.workflow}", append)

    # -- for programs -------------------------------------------------------------------------

    def start(self) -> None:
        """Launch, and again when the database does not answer, as whoever supervises a process would."""

        def launch() -> None:
            if self.app.is_launched:  # it failed in the middle
                self.app.destroy()
            self.test_app = TestApp(
                self.app, database_url=self._url, check_values=False, name="shop", application_version="1"
            )
            self.test_app.start()

        self._insist(launch)

    def receive(self) -> None:
        """Take in all that the log holds, from where the database stands."""
        if self._source is None:
            (declaration,) = self.app.consumers
            self._source = ListSource(self._intake(declaration), self._log, self.settle)
            self.app.launched.sources.append(self._source)
            self._source.start()
        self._insist(self._source.read)

    def push(self, events: Sequence[PushedEvent]) -> None:
        """Have these accepted together, as a sender does that sends again until it hears that all are durable."""
        if self._inbox is None:

            def opened() -> None:
                pushed = [(each.function, each.options) for each in self.app.pushed]
                self._inbox = self.app.launched.inbox.open(connector, pushed)

            self._insist(opened)
        assert self._inbox is not None
        while not all(outcome.durable for outcome in self._inbox.accept(events)):
            continue

    def settle(self) -> None:
        """Do what can be done now."""
        self._insist(self.test_app.run_until_idle)

    def advance(self, seconds: float) -> None:
        """Let time pass."""
        target = self.test_app.clock.now_ms() + round(seconds * 1000)
        self._insist(
            lambda: self.test_app.advance(milliseconds=max(0, target - self.test_app.clock.now_ms()))
        )

    def decide(self, order: Callable[[], object]) -> None:
        """What an operator does, and does again where no answer came."""
        self._insist(order)

    def stop(self) -> None:
        """End gracefully."""
        self.test_app.close()

    def _insist(self, work: Callable[[], object]) -> None:
        """In a process that is not on a manual clock, its services try again by themselves."""
        while True:
            try:
                work()
            except StorageUnavailable:
                continue
            return

    def _intake(self, declaration: ConsumerDeclaration) -> ConsumerIntake:
        launched = self.app.launched
        return ConsumerIntake(
            launched.core,
            launched.taken,
            declaration.function,
            declaration.options,
            launched.lanes,
            launched.consumers,
            kafka,
        )


class ListSource:
    """A source (`dbos_events.connect.Source`) that reads a log from a list, when it is told to."""

    name = "list"

    def __init__(self, intake: ConsumerIntake, log: Log, make_room: Callable[[], object]) -> None:
        self._intake = intake
        self._log = log
        self._make_room = make_room
        self._reading = True
        self._incarnation = 0
        self._next: dict[int, int] = {}

    def start(self) -> None:
        intake = self._intake
        intake.open("group", (TOPIC,), {})
        self._incarnation = intake.identify("cluster", TOPIC, "id")
        intake.begin(self._incarnation, dict.fromkeys(self._log, (0, "earliest")))
        intake.register(TOPIC)
        self._assign()

    def _assign(self) -> None:
        positions = self._intake.assign(self._incarnation, TOPIC, tuple(self._log))
        self._next = {position.partition: position.next_offset for position in positions}

    def read(self) -> None:
        while self._reading and (records := self._records()):
            if self._intake.free < len(records):
                self._make_room()
            taken = self._intake.take_in(self._incarnation, records)
            assert not taken.halted
            self._next.update(taken.next_offsets)
            if taken.stale:
                self._assign()

    def _records(self) -> list[Record]:
        return [
            Record(partition, offset, value[:1], value, None, 1, 0, 0, None)
            for partition, values in self._log.items()
            for offset, value in enumerate(values)
            if offset >= self._next[partition]
        ][:BATCH]

    def pause(self) -> None:
        self._reading = False

    def stop(self, seconds: float) -> None:
        self._intake.revoke(self._incarnation, tuple(self._log))

    def health(self) -> SourceHealth:
        return SourceHealth(live=True, ready=True, detail="")


Play = Callable[[], None]


class Program(Protocol):
    """Declares workflows on `world.app` and gives what every process of the application does, from its beginning."""

    __name__: str
    __doc__: str | None

    def __call__(self, world: World) -> Play: ...


@dataclass(frozen=True, slots=True)
class Scenario:
    """A program with its expected outcome.

    Args:
        lives: Processes of a sound run; all but the last end gracefully in the middle.
        first_death: Where the first process dies in every run: then the points are those of the second one.
        on_kafka: The log is read from a broker, in real time, and the points are calls of the Kafka client.
        begins_at: The schema's revision at the beginning, or `newest`; None is an empty database.
    """

    program: Program
    expected: Expected
    log: Log = field(default_factory=dict)
    lives: int = 1
    first_death: Point | None = None
    begins_at: str | None = "newest"
    on_kafka: bool = False
    name: str = ""

    @property
    def watched_life(self) -> int:
        """The life whose points are struck."""
        return 2 if self.first_death is not None else 1

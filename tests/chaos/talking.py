"""How a worker carries out conversations: its workflows and steps in one of both colours, and what they hear."""

import asyncio
import json
import os
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

from dbos_events import SetEnqueueOptions, SetWorkflowID, SetWorkflowTimeout
from dbos_events.app import App
from dbos_events.engine.context import CURRENT
from dbos_events.errors import DBOSAwaitedWorkflowCancelledError
from dbos_events.model.publication import Matched
from tests.chaos.conversations import (
    DEADLINE_SECONDS,
    DELAY_SECONDS,
    LONG_DEADLINE_SECONDS,
    NARROW,
    NARROW_LIMIT,
    PACED,
    PACED_LIMIT,
    PACED_SECONDS,
    SCHEDULE,
    Conversation,
    Place,
)
from tests.chaos.saying import EVENTS, OTHERS, Ask, Ids, Program

WORK_SECONDS = 0.01
PLANNED_TRIES = 5
TIMEOUTS = {"late": DEADLINE_SECONDS, "quick": LONG_DEADLINE_SECONDS}
QUEUES = {"delayed": NARROW, "deduplicated": NARROW, "paced": PACED}


class Heard:
    """Appends what the workflows of one process heard: a line of JSON for each answer."""

    def __init__(self, path: Path, app: App) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        self._app = app

    def append(self, workflow: str, number: int, value: object) -> None:
        """The answer to this call, counted from 0, of the workflow."""
        line = json.dumps([workflow, number, value, self._app.core.executor])
        os.write(self._file, f"{line}\n".encode())


def read_heard(paths: Sequence[Path]) -> Iterator[tuple[str, int, Any, int]]:
    """(workflow, number of the call, answer, executor) of all processes; a line that is not whole is left out."""
    for path in paths:
        for line in path.read_text().split("\n")[:-1]:
            workflow, number, value, executor = json.loads(line)
            yield workflow, number, value, executor


class Talking:
    """The part of a worker that talks. What is colour alone is in `SyncTalking` and `AsyncTalking`."""

    def __init__(self, app: App, folder: Path, label: str) -> None:
        self.app = app
        self.workflows: dict[str, Callable[..., Any]] = {}
        self.steps: dict[str, Callable[..., Any]] = {}
        self.heard = Heard(folder / "talk" / f"{label}-{os.getpid()}", app)
        self._folder = folder
        self._queues = {
            NARROW: app.queue(NARROW, concurrency=NARROW_LIMIT, worker_concurrency=2),
            PACED: app.queue(PACED, limiter={"limit": PACED_LIMIT, "period": PACED_SECONDS}),
        }

    def event(self, talk: Conversation, place: tuple[int, int]) -> Program:
        """What the event at a place does."""
        return EVENTS[talk.theme][place == talk.second](talk, self.ids(talk))

    def ids(self, talk: Conversation) -> Ids:
        """Asked for in the workflow of an event."""
        prefix = me().rsplit("/", 2)[0]
        return Ids(*(f"{prefix}/{place.partition}/{place.offset}" for place in (talk.first, talk.second)))

    def other(self, name: str, arguments: Sequence[Any]) -> Program:
        """What a workflow that was started does."""
        talk, ids = unpack(arguments)
        return OTHERS[name](talk, ids)

    def fail_at_first(self, name: str) -> None:
        """The step of this workflow fails once, whoever runs it."""
        path = self._folder / "failures" / f"{name} {me()}".replace("/", "-")
        if not path.exists():
            path.touch()
            raise ConnectionError("as asked")

    @contextmanager
    def starting(self, what: str, talk: Conversation) -> Iterator[None]:
        """The options under which a workflow is started or enqueued."""
        with ExitStack() as stack:
            if what not in ("deduplicated", "paced"):
                stack.enter_context(SetWorkflowID(talk.id(what)))
            if what in TIMEOUTS:
                stack.enter_context(SetWorkflowTimeout(TIMEOUTS[what]))
            if what == "delayed":
                stack.enter_context(SetEnqueueOptions(delay_seconds=DELAY_SECONDS, priority=2))
            if what == "deduplicated":
                stack.enter_context(
                    SetEnqueueOptions(
                        deduplication_id=talk.key, duplication_policy="return-existing", priority=1
                    )
                )
            yield

    def queue_of(self, what: str) -> Any:
        return self._queues[QUEUES[what]]


class SyncTalking(Talking):
    """Plain functions."""

    def register(self) -> Callable[[Conversation, tuple[int, int]], None]:
        """Declare all; gives what an event's handler calls."""
        for name in OTHERS:
            self._declare(name)
        step = self.app.step

        @step(name="work")
        def work() -> None:
            time.sleep(WORK_SECONDS)

        @step(name="post", retries_allowed=True, interval_seconds=0.05, max_attempts=PLANNED_TRIES)
        def post(destination: str, value: str) -> None:
            self.app.send(destination, value, "talk", idempotency_key=me())
            self.fail_at_first("post")

        @step(name="show", retries_allowed=True, interval_seconds=0.05, max_attempts=PLANNED_TRIES)
        def show(stream: str, values: list[str]) -> None:
            for value in values:
                self.app.write_stream(stream, value)
                self.fail_at_first("show")

        @self.app.scheduled("* * * * * *", name=SCHEDULE, catch_up="all")
        @self.app.workflow(name="tick")
        def tick(scheduled: datetime, _actual: datetime) -> None:
            self.heard.append(me(), 0, scheduled.isoformat())
            work()

        self.steps = {"work": work, "post": post, "show": show}
        return lambda talk, place: self.carry_out(self.event(talk, place), talk)

    def _declare(self, name: str) -> None:
        def run(arguments: list[Any]) -> str:
            self.carry_out(self.other(name, arguments), unpack(arguments)[0])
            return "done"

        self.workflows[name] = self.app.workflow(name=name)(run)

    def carry_out(self, program: Program, talk: Conversation) -> None:
        answer: Any = None
        number = 0
        started: dict[str, Any] = {}
        while True:
            try:
                ask = program.send(answer)
            except StopIteration:
                return
            answer = self._ask(ask, talk, started)
            if ask.is_heard:
                for value in each_of(answer):
                    self.heard.append(me(), number, value)
                    number += 1

    def _ask(self, ask: Ask, talk: Conversation, started: dict[str, Any]) -> Any:
        what: Any = ask.arguments[0] if ask.arguments else None
        if ask.verb in self.steps:
            return self.steps[ask.verb](*ask.arguments)
        if ask.verb == "read":
            return list(self.app.read_stream(*ask.arguments, mode="committed"))
        if ask.verb == "outcome":
            try:
                return started[what].get_result()
            except DBOSAwaitedWorkflowCancelledError:
                return "cancelled"
        if ask.verb in ("start", "enqueue"):
            function, arguments = self.workflows[what], pack(talk)
            with self.starting(what, talk):
                if ask.verb == "start":
                    started[what] = self.app.start_workflow(function, arguments)
                else:
                    started[what] = self.queue_of(what).enqueue(function, arguments)
            return None
        return getattr(self.app, ask.verb)(*ask.arguments, **ask.options)


class AsyncTalking(Talking):
    """Coroutine functions, otherwise as the other one."""

    def register(self) -> Callable[[Conversation, tuple[int, int]], Awaitable[None]]:
        for name in OTHERS:
            self._declare(name)
        step = self.app.step

        @step(name="work")
        async def work() -> None:
            await asyncio.sleep(WORK_SECONDS)

        @step(name="post", retries_allowed=True, interval_seconds=0.05, max_attempts=PLANNED_TRIES)
        async def post(destination: str, value: str) -> None:
            await self.app.send_async(destination, value, "talk", idempotency_key=me())
            self.fail_at_first("post")

        @step(name="show", retries_allowed=True, interval_seconds=0.05, max_attempts=PLANNED_TRIES)
        async def show(stream: str, values: list[str]) -> None:
            for value in values:
                await self.app.write_stream_async(stream, value)
                self.fail_at_first("show")

        @self.app.scheduled("* * * * * *", name=SCHEDULE, catch_up="all")
        @self.app.workflow(name="tick")
        async def tick(scheduled: datetime, _actual: datetime) -> None:
            self.heard.append(me(), 0, scheduled.isoformat())
            await work()

        self.steps = {"work": work, "post": post, "show": show}
        return lambda talk, place: self.carry_out(self.event(talk, place), talk)

    def _declare(self, name: str) -> None:
        async def run(arguments: list[Any]) -> str:
            await self.carry_out(self.other(name, arguments), unpack(arguments)[0])
            return "done"

        self.workflows[name] = self.app.workflow(name=name)(run)

    async def carry_out(self, program: Program, talk: Conversation) -> None:
        answer: Any = None
        number = 0
        started: dict[str, Any] = {}
        while True:
            try:
                ask = program.send(answer)
            except StopIteration:
                return
            answer = await self._ask(ask, talk, started)
            if ask.is_heard:
                for value in each_of(answer):
                    self.heard.append(me(), number, value)
                    number += 1

    async def _ask(self, ask: Ask, talk: Conversation, started: dict[str, Any]) -> Any:
        what: Any = ask.arguments[0] if ask.arguments else None
        if ask.verb in self.steps:
            return await self.steps[ask.verb](*ask.arguments)
        if ask.verb == "read":
            stream = self.app.read_stream_async(*ask.arguments, mode="committed")
            return [value async for value in stream]
        if ask.verb == "outcome":
            try:
                return await started[what].get_result()
            except DBOSAwaitedWorkflowCancelledError:
                return "cancelled"
        if ask.verb in ("start", "enqueue"):
            function, arguments = self.workflows[what], pack(talk)
            with self.starting(what, talk):
                if ask.verb == "start":
                    started[what] = await self.app.start_workflow_async(function, arguments)
                else:
                    started[what] = await self.queue_of(what).enqueue_async(function, arguments)
            return None
        return await getattr(self.app, f"{ask.verb}_async")(*ask.arguments, **ask.options)


def me() -> str:
    """The id of the workflow at hand."""
    scope = CURRENT.get()
    assert scope is not None
    return scope.run.id


def each_of(answer: Any) -> list[Any]:
    """What was heard with one answer: each entry of a stream, the value of what matched."""
    if isinstance(answer, list):
        return answer
    return [answer.value if isinstance(answer, Matched) else answer]


def pack(talk: Conversation) -> list[Any]:
    """The argument of a workflow that belongs to a conversation: whoever starts it says the same."""
    prefix = "/".join(me().split("/")[:4]) if me().startswith("kafka/") else ""
    return [talk.theme, list(talk.first), list(talk.second), prefix]


def unpack(arguments: Sequence[Any]) -> tuple[Conversation, Ids]:
    theme, first, second, prefix = arguments
    talk = Conversation(theme, Place(*first), Place(*second))
    return talk, Ids(*(f"{prefix}/{place.partition}/{place.offset}" for place in (talk.first, talk.second)))

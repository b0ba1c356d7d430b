"""Programs of gathers and races by chance: each life of a workflow sees what the one before it saw (rule 4)."""

import asyncio
import random
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from dbos_events import App
from dbos_events.testing import TestApp
from dbos_events.testing.plugin import MakeTestApp

FIRST = asyncio.FIRST_COMPLETED


@dataclass(frozen=True)
class Sleep:
    seconds: int


@dataclass(frozen=True)
class Step:
    fails: bool


@dataclass(frozen=True)
class Child:
    seconds: int
    fails: bool


@dataclass(frozen=True)
class Both:
    """A gather of its parts."""

    parts: tuple[Any, ...]


@dataclass(frozen=True)
class Race:
    """`how`: the first or all by asyncio.wait, by DBOS.asyncio_wait, a TaskGroup, or a timeout around a gather."""

    parts: tuple[Any, ...]
    how: str
    seconds: int


LEAVES = st.one_of(
    st.builds(Sleep, st.integers(0, 50)),
    st.builds(Step, st.booleans()),
    st.builds(Child, st.integers(0, 50), st.booleans()),
)
WAYS = ["first", "all", "durable", "durable timeout", "group", "timeout"]


def nodes(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    parts = st.lists(inner, min_size=1, max_size=3).map(tuple)
    return st.one_of(
        st.builds(Both, parts), st.builds(Race, parts, st.sampled_from(WAYS), st.integers(1, 40))
    )


PROGRAMS = st.lists(st.recursive(LEAVES, nodes, max_leaves=6), min_size=1, max_size=3).map(tuple)
PAUSES = st.lists(st.sampled_from(["crash", 3, 20, 70]), max_size=5)


class Programs:
    """Runs programs as workflows, and notes what each life of them saw."""

    def __init__(self, app: App) -> None:
        self.app = app
        self.lives: dict[int, list[list[Any]]] = {}
        self.programs: dict[int, tuple[Any, ...]] = {}
        pauses = random.Random(3)

        @app.step()
        async def step(name: str, fails: bool) -> str:
            await asyncio.sleep(pauses.random() / 1000)
            if fails:
                raise OSError(name)
            return name

        @app.workflow()
        async def child(name: str, seconds: int, fails: bool) -> str:
            await app.sleep_async(seconds)
            if fails:
                raise OSError(name)
            return name

        @app.workflow()
        async def work(number: int) -> list[Any]:
            life: list[Any] = []
            self.lives.setdefault(number, []).append(life)
            for place, part in enumerate(self.programs[number]):
                value = await self.seen(part, f"{place}")
                await app.sleep_async(1)  # a life that is being parked ends here, whatever it saw
                life.append(value)
            return life

        self.step, self.child, self.work = step, child, work

    async def seen(self, part: Any, name: str) -> Any:
        try:
            return await self.run(part, name)
        except (OSError, TimeoutError) as error:
            return f"{type(error).__name__} {error}"
        except ExceptionGroup as errors:
            return sorted(repr(one) for one in errors.exceptions)

    async def run(self, part: Any, name: str) -> Any:
        if isinstance(part, Sleep):
            await self.app.sleep_async(part.seconds)
            return f"slept {name}"
        if isinstance(part, Step):
            return await self.step(name, part.fails)
        if isinstance(part, Child):
            return await self.child(name, part.seconds, part.fails)
        branches = [self.run(inner, f"{name}.{number}") for number, inner in enumerate(part.parts)]
        if isinstance(part, Both):
            return [str(one) for one in await asyncio.gather(*branches, return_exceptions=True)]
        if part.how == "group":
            async with asyncio.TaskGroup() as group:
                made = [group.create_task(one) for one in branches]
            return [task.result() for task in made]
        return await self.race(part, [asyncio.create_task(one) for one in branches])

    async def race(self, part: Race, tasks: list[asyncio.Task[Any]]) -> Any:
        try:
            if part.how == "timeout":
                async with asyncio.timeout(part.seconds / 1000):
                    return [str(one) for one in await asyncio.gather(*tasks, return_exceptions=True)]
            if part.how in ("first", "all"):
                how = FIRST if part.how == "first" else asyncio.ALL_COMPLETED
                done, _ = await asyncio.wait(tasks, return_when=how)
            else:
                seconds = part.seconds if part.how == "durable timeout" else None
                done, _ = await self.app.asyncio_wait(tasks, timeout=seconds, return_when=FIRST)
            return [number for number, task in enumerate(tasks) if task in done]
        finally:
            for task in tasks:
                task.cancel()
            with suppress(asyncio.CancelledError):
                await asyncio.gather(*tasks, return_exceptions=True)


@pytest.fixture
def programs() -> Programs:
    return Programs(App())


@pytest.fixture
def dbos(programs: Programs, dbos_test_app: MakeTestApp) -> Iterator[TestApp]:
    return dbos_test_app(programs.app, patience=120.0)  # type: ignore[return-value]


def check(programs: Programs, dbos: TestApp, program: tuple[Any, ...], pauses: list[Any]) -> None:
    """Run it with crashes and time in between; all lives agree as far as they got, and so does the result."""
    number = len(programs.programs)
    programs.programs[number] = program
    handle = programs.app.start_workflow(programs.work, number)  # type: ignore[var-annotated, arg-type]
    dbos.run_until_idle()
    for pause in pauses:
        if pause == "crash":
            dbos.crash()
            dbos.run_until_idle()
        else:
            dbos.advance(seconds=pause)
    result = handle.get_result()
    status = handle.get_status()
    assert status.status == "SUCCESS"
    for life in programs.lives[number]:
        assert life == result[: len(life)]


@pytest.mark.timeout(400)  # sixty programs, each with its crashes, beside other tests
@settings(
    max_examples=60,
    deadline=None,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=[HealthCheck.function_scoped_fixture],
    print_blob=True,
)
@given(program=PROGRAMS, pauses=PAUSES)
def test_rule_4_whatever_races_and_whenever_it_crashes_all_lives_agree(
    programs: Programs, dbos: TestApp, program: tuple[Any, ...], pauses: list[Any]
) -> None:
    check(programs, dbos, program, pauses)

"""Whatever a database answers, and where: no workflow is blamed but for data, nothing is stuck, and health says it."""

from __future__ import annotations

import shutil
import sqlite3
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import event

from dbos_events import App, Queue, SetEnqueueOptions
from dbos_events.engine import committer, core, later
from dbos_events.errors import DBOSException
from dbos_events.launched import Launched
from dbos_events.model.workflow import ENQUEUED, ERROR, SUCCESS
from dbos_events.runtime import failing
from dbos_events.runtime.identity import this_process
from dbos_events.runtime.service import Service
from dbos_events.settings import read_settings
from dbos_events.storage import apart
from dbos_events.storage.subjects.executors import NewExecutor
from dbos_events.telemetry import outages
from dbos_events.telemetry.log import logger
from dbos_events.testing import ManualClock
from tests.answers.faults import (
    DATA_CODES,
    DATA_STATES,
    OF_DRIVERS,
    SECRET,
    SQLITE_CODES,
    SQLSTATES,
    Fault,
    at_each_statement,
    of_postgres,
    of_sqlite,
)
from tests.storage import building
from tests.storage.topics import Topic, topic

NOBODY = 2**22 + 1
"""A process id that no system gives."""


@dataclass
class Shop:
    """An application whose services are moved by hand, so that nothing waits."""

    app: App
    clock: ManualClock
    job: Callable[[int], int]
    nap: Callable[[int], int]
    queue: Queue
    events: Topic | None = None
    number: int = 0
    beside: tuple[Service, ...] = ()
    """Services that are moved in each scene, beside those that it is about."""

    @property
    def launched(self) -> Launched:
        return self.app.launched

    @property
    def storage(self) -> Any:
        return self.launched.storage

    def next(self) -> str:
        self.number += 1
        return f"w{self.number}"

    def turn(self, service: Service) -> None:
        """Let the service do what is to be done, as often as it fails at first."""
        service._tick_safely()
        while service.problem is not None:
            service._tick_safely()

    def problems(self) -> list[str]:
        """Without what is said of services that the test moves itself."""
        return [text for text in self.app.health().problems if not text.endswith("service has ended")]


@pytest.fixture
def shop(tmp_path: Path, dbos_template: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Shop]:
    file = shutil.copy(dbos_template, tmp_path / "matrix.sqlite")
    with closing(
        sqlite3.connect(file)
    ) as open_always:  # or each connection that is given up writes the log back
        open_always.execute("SELECT count(*) FROM workflows")
        yield from shop_on(f"sqlite:///{file}", monkeypatch)


@pytest.fixture
def shop_on_postgres(postgres_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Shop]:
    yield from shop_on(postgres_url, monkeypatch)


def shop_on(url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Shop]:
    for module in (committer, core, failing):
        monkeypatch.setattr(module, "FIRST_PAUSE", 0.0005)
    monkeypatch.setattr(failing, "LONGEST_PAUSE", 0.001)
    monkeypatch.setattr(committer, "MAX_PAUSE", 0.001)
    monkeypatch.setattr(core, "LONGEST_PAUSE", 0.001)
    monkeypatch.setattr(later, "PAUSE", 0.001)
    monkeypatch.setattr(apart, "FIRST_PAUSE", 0.0)
    monkeypatch.setattr(apart, "LONGEST_PAUSE", 0.0)
    monkeypatch.setattr(outages, "SHOWN_AFTER", -1.0)
    app = App({"name": building.APP})
    queue = app.queue("q")

    @app.step()
    def double(number: int) -> int:
        return 2 * number

    @app.workflow(name="job")
    def job(number: int) -> int:
        return double(double(number))

    @app.workflow(name="nap")
    def nap(number: int) -> int:
        app.sleep(5.0)
        return double(number)

    clock = ManualClock()
    config = {**app.config, "system_database_url": url, "park_after_seconds": 0.0, "lease_seconds": 600.0,
              "application_version": "v1",
              "use_listen_notify": False, "tune_garbage_collector": False}  # fmt: skip
    app.attach(Launched(app.registry, (), read_settings(config), clock, None))
    if not app.launched.storage.database.dialect.is_postgres:  # nothing here is about the disk
        event.listen(app.launched.storage.database.engine, "connect", _without_the_disk)
        app.launched.storage.database.renew()
    monkeypatch.setattr(logger, "disabled", True)  # thousands of lines
    yield Shop(app, clock, job, nap, queue)
    app.destroy()


def _without_the_disk(connection: Any, _record: object) -> None:
    connection.execute("PRAGMA synchronous=OFF").close()


# ------------------------------------------------------------------ what is done, and what must come of it


def a_batch(shop: Shop) -> None:
    """A start, two checkpoints and an outcome."""
    assert ended(shop, shop.app.start_workflow(shop.job, 3).workflow_id) == 12


def a_claim(shop: Shop) -> None:
    assert ended(shop, shop.queue.enqueue(shop.job, 3).workflow_id, shop.launched.queues) == 12


def a_claim_of_what_was_resumed(shop: Shop) -> None:
    name = shop.queue.enqueue(shop.job, 3).workflow_id
    shop.app.cancel_workflow(name)
    shop.app.resume_workflow(name)
    assert ended(shop, name, shop.launched.queues) == 12


def a_wake_up(shop: Shop) -> None:
    """Of a sleep and of a delay that end together."""
    name = shop.app.start_workflow(shop.nap, 3).workflow_id
    with SetEnqueueOptions(delay_seconds=5.0):
        delayed = shop.queue.enqueue(shop.job, 3)
    while shop.launched.core.runner.active:
        time.sleep(0)  # it has parked when it has left
    shop.clock.advance(timedelta(seconds=6))
    assert ended(shop, name, shop.launched.timers) == 6
    shop.turn(shop.launched.timers)
    assert delayed.get_status().status == ENQUEUED
    shop.app.cancel_workflow(delayed.workflow_id)


def ended(shop: Shop, name: str, *services: Service) -> object:
    """Move the services until the workflow has ended; gives its result."""
    end = time.monotonic() + 20.0
    while (ending := shop.launched.core.ask(lambda: shop.launched.core.stored_ending(name))) is None:
        for service in (*services, *shop.beside) if not shop.launched.core.runner.active else ():
            shop.turn(service)
        assert time.monotonic() < end, f"{name} does not end"
        time.sleep(0)
    if ending.error is not None:
        raise ending.error
    return ending.value


def an_adoption(shop: Shop) -> None:
    """Of a process of this host that does not exist any more."""
    here = this_process()
    dead = shop.launched.core.ask(
        lambda: shop.storage.executors.register(
            NewExecutor(
                building.APP, "dead", False, "v1", here.boot_id, here.pid_namespace, NOBODY, "1", 30_000
            )
        )
    )
    name = shop.next()
    first = building.start(name, name="job", codec="json", input='{"args":[3],"kwargs":{}}')
    shop.launched.core.ask(
        lambda: building.write(shop.storage, dead, first, building.step(name, output="6", codec="json"))
    )
    assert ended(shop, name, shop.launched.recovery) == 12


def an_intake(shop: Shop) -> None:
    """As a consumer asks for it."""
    shop.events = shop.events or topic(shop.storage)
    ask, executor = shop.launched.core.ask, shop.launched.core.executor
    [position] = ask(
        lambda: shop.storage.positions.assign(executor, shop.events.consumer, shop.events.incarnation, [0])
    )
    at = position.next_offset
    result = ask(lambda: shop.events.intake(executor, {0: (position.epoch, at, at + 3)}))
    assert not result.stale
    assert ask(shop.events.watermark) == at + 3
    assert (
        len(ask(lambda: shop.storage.intake.read_events([f"e-0-{offset}" for offset in range(at, at + 3)])))
        == 3
    )


def a_heartbeat(shop: Shop) -> None:
    shop.turn(shop.launched.lease)


def questions(shop: Shop) -> None:
    """Of users and operators."""
    handle = shop.app.start_workflow(shop.job, 3)
    assert ended(shop, handle.workflow_id) == 12
    assert handle.get_status().status == SUCCESS
    assert len(shop.app.list_workflow_steps(handle.workflow_id)) == 2
    assert shop.app.list_quarantined() == []
    shop.app.cancel_workflow(handle.workflow_id)


SCENES = [
    a_batch, a_claim, a_claim_of_what_was_resumed, a_wake_up, an_adoption, an_intake, a_heartbeat, questions,
]  # fmt: skip


CLAIMS = (a_claim, a_claim_of_what_was_resumed)


def statements_of(shop: Shop, scene: Callable[[Shop], None]) -> list[str]:
    """Those that a sound run passes."""
    scene(shop)  # the first time makes what is there later
    met: dict[str, None] = {}
    with at_each_statement(met.setdefault):
        scene(shop)
    return list(met)


def assert_sound(shop: Shop) -> None:
    """No workflow has failed, and nothing is left that waits or runs."""
    left = shop.app.list_workflows(status=["PENDING", "ENQUEUED", "ERROR"], name="job")
    assert [(one.workflow_id, one.status, str(one.error)) for one in left] == []


ASKED_ONCE = {"first_messages"}
"""What spares others a question of their own, and is not missed: without an answer all goes on at once."""


def strike(shop: Shop, scene: Callable[[Shop], None], statement: str, errors: Sequence[Exception]) -> None:
    """Have the statement fail with all of these; then it must go well, and health must have told of each."""
    if statement in ASKED_ONCE:
        for error in errors[::8]:  # each takes a scene of its own
            with at_each_statement(Fault(statement, [error])):
                scene(shop)
        assert_sound(shop)
        return
    fault = Fault(statement, errors, shop.problems)
    with at_each_statement(fault):
        scene(shop)
        if scene in CLAIMS:  # a queue that fails keeps no other waiting, so the scene may end before it
            end = time.monotonic() + 20.0
            while not fault.over and time.monotonic() < end:
                shop.turn(shop.launched.queues)
    assert fault.over, f"{statement} was not tried again"
    unsaid = (
        fault.silent[1:] if scene in CLAIMS else fault.silent
    )  # one failure of one queue alone is not said
    assert not unsaid, f"{statement}: health did not tell of {unsaid}"
    if scene in CLAIMS:
        shop.turn(shop.launched.queues)
    assert SECRET not in "".join(fault.told), statement
    end = time.monotonic() + 20.0
    while shop.problems() and time.monotonic() < end:
        time.sleep(0)  # the committer says so a moment after it has told the answers
    assert shop.problems() == [], f"{statement}: it is over"
    assert_sound(shop)


@pytest.mark.parametrize("scene", SCENES)
def test_no_answer_but_one_about_data_fails_a_workflow(shop: Shop, scene: Callable[[Shop], None]) -> None:
    names = statements_of(shop, scene)
    assert names
    for name in names:
        strike(shop, scene, name, [*map(of_postgres, SQLSTATES), *map(of_sqlite, SQLITE_CODES), *OF_DRIVERS])


@pytest.mark.postgres
@pytest.mark.parametrize("scene", SCENES)
def test_the_same_holds_for_calls_of_functions(shop_on_postgres: Shop, scene: Callable[[Shop], None]) -> None:
    for name in statements_of(shop_on_postgres, scene):
        errors = [of_postgres(state) for state in ("08006", "25006", "42501", "57014", "ZZ999")]
        strike(shop_on_postgres, scene, name, errors)


@pytest.mark.parametrize("scene", [a_batch, a_claim, a_wake_up, an_adoption])
def test_a_refused_value_ends_its_workflow_and_no_other(shop: Shop, scene: Callable[[Shop], None]) -> None:
    """What is refused while work is taken is tried again; what a run writes ends it, with words that hold no statement."""
    names = statements_of(shop, scene)
    shop.beside = (shop.launched.queues,)  # what was taken and could not be read goes back to be claimed
    for name in names:
        for error in (*map(of_postgres, DATA_STATES[::3]), *map(of_sqlite, DATA_CODES[::2])):
            before = {one.workflow_id for one in shop.app.list_workflows()}
            with at_each_statement(Fault(name, [error] * 2)), suppress(DBOSException, AssertionError):
                scene(shop)
            until_quiet(shop)
            for one in shop.app.list_workflows():
                if one.workflow_id not in before and one.status != SUCCESS:
                    assert one.status == ERROR, (name, one)
                    assert "refuses a value" in str(one.error), (name, one.error)
                    assert SECRET not in str(one.error)
            assert shop.problems() == []


def until_quiet(shop: Shop) -> None:
    """What is waiting runs to its end."""
    end = time.monotonic() + 10.0
    shop.clock.advance(timedelta(seconds=10))
    quiet = False
    while not quiet:
        for service in (shop.launched.queues, shop.launched.timers, shop.launched.recovery):
            shop.turn(service)
        runs = shop.launched.core.runner.active
        quiet = (
            not runs and not shop.problems() and not shop.app.list_workflows(status=["PENDING", "ENQUEUED"])
        )
        assert time.monotonic() < end, shop.app.list_workflows(status=["PENDING", "ENQUEUED"])

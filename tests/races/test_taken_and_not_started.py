"""Rule 2: what this process owns runs here, or is given back, whatever happened between the taking and the start."""

import threading
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest

from dbos_events import App, KafkaMessage
from dbos_events.engine.core import Core
from dbos_events.errors import StorageError, StorageUnavailable
from dbos_events.model.queue import QueueState
from dbos_events.runtime import taken
from dbos_events.storage.subjects.queues import Claim
from dbos_events.storage.subjects.taking import Taker
from dbos_events.testing import TestApp
from dbos_events.testing.plugin import MakeTestApp
from tests.storage.building import kill, register, start, write

PATIENCE = 10.0
TAKINGS = ["claim", "claim_resumed", "wake_due", "adopt"]


class Died(BaseException):
    """No Exception: the worst that may come out of anything."""


def error_of(kind: str) -> BaseException:
    return {
        "statement refused": StorageError("canceling statement due to statement timeout"),
        "defect": ZeroDivisionError("a defect"),
        "out of memory": MemoryError(),
        "no Exception": Died("of itself"),
    }[kind]


ERRORS = ["statement refused", "defect", "out of memory", "no Exception"]


class Scene:
    """An App with workflows that are taken in every way, and a test that moves its services on."""

    def __init__(self, make: MakeTestApp, database_url: str) -> None:
        self.ran: list[str] = []
        self.app = app = App({"name": "shop"})
        self.queue = app.queue("q", worker_concurrency=1)

        @app.workflow(name="work")
        def work(label: str, sleeps: bool) -> str:
            self.ran.append(label)
            if sleeps:
                app.sleep(60)
            return "done"

        @app.kafka_consumer(topics=["plain"])
        def plain(message: KafkaMessage) -> None:
            self.ran.append(f"plain-{message.offset}")

        @app.kafka_consumer(topics=["ordered"], ordering="partition")
        def ordered(message: KafkaMessage) -> None:
            self.ran.append(f"ordered-{message.offset}")

        @app.kafka_consumer(topics=["keyed"], ordering="key")
        def keyed(message: KafkaMessage) -> None:
            self.ran.append(f"keyed-{message.offset}")

        self.work = work
        self.handlers = {"plain": plain, "ordered": ordered, "keyed": keyed}
        self.dbos: TestApp = make(app, database_url=database_url)

    @property
    def core(self) -> Core:
        return self.dbos.core

    def prepare(self, taking: str, label: str) -> str:
        """Bring about that `taking` finds a workflow; gives its id."""
        if taking == "adopt":
            core, storage = self.core, self.storage
            dead = register(storage, application=core.application, version=core.version)
            stored = core.codecs.get("json").encode({"args": [label, False], "kwargs": {}})
            new = start(
                label, name="work", codec="json", input=stored, application="shop", version=core.version
            )
            write(storage, dead, new)
            kill(storage, dead)
            return label
        if taking == "wake_due":
            handle = self.app.start_workflow(self.work, label, True)
            self.dbos.run_until_idle()
            self.ran.remove(label)
            self.dbos.clock.move_to(self.dbos.clock.now_ms() + 60_000)
            return handle.workflow_id
        handle = self.queue.enqueue(self.work, label, False)
        if taking == "claim_resumed":
            self.app.cancel_workflow(handle.workflow_id)
            self.app.resume_workflow(handle.workflow_id)
        return handle.workflow_id

    @property
    def storage(self) -> Any:
        return self.core.storage

    def once(self, owner: Any, name: str, then: Callable[..., Any]) -> None:
        """Have the next call of a method done by `then`, which is given the method and its arguments."""
        real = getattr(owner, name)

        def call(*arguments: Any, **more: Any) -> Any:
            setattr(owner, name, real)
            return then(partial(real, **more), *arguments)

        setattr(owner, name, call)

    def once_taking(self, taking: str, then: Callable[..., Any]) -> None:
        """As `once`, for the next taking of this kind; a claim is asked of each queue."""
        if not taking.startswith("claim"):
            self.once(self.storage.taking, taking, then)
            return
        queues, wanted = self.storage.queues, "q" if taking == "claim" else ""
        real = queues.claim

        def call(taker: Taker, queue: QueueState, *arguments: Any, **more: Any) -> Any:
            if queue.name != wanted:
                return real(taker, queue, *arguments, **more)
            queues.claim = real
            return then(partial(real, **more), taker, queue, *arguments)

        queues.claim = call

    def tick(self) -> None:
        for service in self.app.launched.services:
            service._tick_safely()
        self.dbos._await_quiet()

    def look(self) -> None:
        """Two looks of the watch, as they come one after the other, and what they make possible."""
        for _ in range(2):
            self.app.launched.watch.look()
        for _ in range(3):
            self.tick()

    def status(self, workflow_id: str) -> str:
        found = self.app.get_workflow_status(workflow_id)
        assert found is not None
        return found.status

    def owned(self) -> dict[str, int]:
        found: dict[str, int] = self.storage.taking.owned(self.core.executor)
        return found


def claim_here(core: Core) -> None:
    """Take one workflow of the queue as the service does, and start nothing."""
    taker = Taker(core.executor, "shop", core.version, ["work"])
    queue = core.storage.queues.get("shop", "q")
    assert queue is not None
    assert core.storage.queues.claim(taker, queue, 1).rows


@pytest.fixture
def scene(dbos_test_app: MakeTestApp, database_url: str, monkeypatch: pytest.MonkeyPatch) -> Scene:
    monkeypatch.setattr(taken, "DOUBT_SECONDS", 0.0)
    monkeypatch.setattr(taken, "PATIENCE", 0.0)
    return Scene(dbos_test_app, database_url)


def fails(kind: str) -> Callable[..., Any]:
    def then(real: Callable[..., Any], *_: Any) -> Any:
        raise error_of(kind)

    return then


def answer_lost(kind: str) -> Callable[..., Any]:
    def then(real: Callable[..., Any], *arguments: Any) -> Any:
        real(*arguments)
        raise error_of(kind)

    return then


@pytest.mark.parametrize("kind", ERRORS)
@pytest.mark.parametrize("taking", TAKINGS)
def test_rule_2_a_taking_whose_answer_is_an_error_of_any_kind_has_taken_nothing_for_ever(
    scene: Scene, taking: str, kind: str
) -> None:
    first, second = scene.prepare(taking, "first"), scene.prepare(taking, "second")
    scene.once_taking(taking, answer_lost(kind))
    scene.tick()
    scene.look()
    assert [scene.status(one) for one in (first, second)] == ["SUCCESS", "SUCCESS"]
    assert sorted(scene.ran) == ["first", "second"]
    assert scene.owned() == {}


@pytest.mark.parametrize("kind", ERRORS)
@pytest.mark.parametrize("taking", TAKINGS)
def test_rule_2_what_cannot_be_made_a_run_is_given_back_and_so_is_its_place(
    scene: Scene, taking: str, kind: str
) -> None:
    """The queue has one place in this process: were it not free again, nothing would run any more."""
    first, second = scene.prepare(taking, "first"), scene.prepare(taking, "second")
    scene.once(scene.app.launched.taken, "_made", fails(kind))
    for _ in range(4):
        scene.tick()
    assert [scene.status(one) for one in (first, second)] == ["SUCCESS", "SUCCESS"]
    assert sorted(scene.ran) == ["first", "second"]
    assert all(one.running == 0 for one in scene.app.launched.queues._serving.values())


@pytest.mark.parametrize("kind", ["statement refused", "no Exception"])
def test_what_cannot_be_given_back_at_once_is_given_back_by_the_watch(scene: Scene, kind: str) -> None:
    workflow_id = scene.prepare("claim", "first")
    scene.once(scene.app.launched.taken, "_made", fails(kind))
    scene.once(scene.storage.taking, "give_back", fails("statement refused"))
    scene.app.launched.queues._tick_safely()
    assert scene.owned() == {workflow_id: 1}
    scene.app.launched.taken._doubtful_until = None  # the queues would look for it themselves
    scene.look()
    assert (scene.status(workflow_id), scene.ran) == ("SUCCESS", ["first"])


def test_a_history_that_cannot_be_read_for_now_gives_the_workflow_back(scene: Scene) -> None:
    workflow_id = scene.prepare("wake_due", "first")
    scene.once(scene.storage.workflows, "read_checkpoints", fails("statement refused"))
    for _ in range(4):
        scene.tick()
    assert (scene.status(workflow_id), scene.ran) == ("SUCCESS", ["first"])


def test_a_function_that_is_gone_leaves_its_workflow_to_others(scene: Scene) -> None:
    workflow_id, other = scene.prepare("claim", "first"), scene.prepare("claim", "second")

    def forgets(real: Callable[..., Any], *arguments: Any) -> Any:
        rows: Claim = real(*arguments)
        entry = scene.core.registry.workflows.pop("work")
        scene.once(
            scene.storage.taking,
            "give_back",
            lambda real, *args: [scene.core.registry.add(entry), real(*args)],
        )
        return rows

    scene.once_taking("claim", forgets)
    for _ in range(4):
        scene.tick()
    assert [scene.status(one) for one in (workflow_id, other)] == ["SUCCESS", "SUCCESS"]


@pytest.mark.parametrize("kind", ERRORS)
@pytest.mark.parametrize("consumer", ["plain", "ordered", "keyed"])
def test_rule_2_an_intake_that_was_committed_and_answered_by_an_error_runs_its_events(
    scene: Scene, consumer: str, kind: str
) -> None:
    scene.dbos.deliver(scene.handlers[consumer], b"zeroth", key=b"k")
    scene.dbos.run_until_idle()
    scene.once(scene.storage.intake, "take_in", answer_lost(kind))
    with pytest.raises(type(error_of(kind))):
        scene.dbos.deliver(scene.handlers[consumer], b"first", key=b"k")
    assert len(scene.owned()) == 1
    scene.look()
    scene.dbos.run_until_idle()
    assert scene.ran == [f"{consumer}-0", f"{consumer}-1"]
    assert scene.owned() == {}


@pytest.mark.parametrize("kind", ERRORS)
@pytest.mark.parametrize("consumer", ["plain", "ordered", "keyed"])
def test_rule_2_what_fails_after_an_intake_leaves_no_event_and_no_lane_behind(
    scene: Scene, consumer: str, kind: str
) -> None:
    handler = scene.handlers[consumer]
    scene.dbos.deliver(handler, b"zeroth", key=b"k")
    scene.dbos.run_until_idle()
    (intake,) = scene.dbos._topics._intakes.values()
    scene.once(intake, "_start", fails(kind))
    with pytest.raises(type(error_of(kind))):
        scene.dbos.deliver(handler, b"first", key=b"k")
    scene.look()
    scene.dbos.run_until_idle()
    assert scene.ran == [f"{consumer}-0", f"{consumer}-1"]
    scene.dbos._topics._partitions = {
        place: (incarnation, 2) for place, (incarnation, _) in scene.dbos._topics._partitions.items()
    }
    scene.dbos.deliver(handler, b"second", key=b"k")
    scene.dbos.run_until_idle()
    assert scene.ran == [f"{consumer}-{offset}" for offset in range(3)]
    assert intake.places.running == 0


@pytest.mark.parametrize("child", [False, True], ids=["of a caller", "of a workflow"])
def test_rule_2_a_start_whose_caller_is_interrupted_is_taken_up(scene: Scene, child: bool) -> None:
    @scene.app.workflow(name="parent")
    def parent() -> None:
        scene.app.start_workflow(scene.work, "first", False)

    def interrupts_the_next(real: Callable[..., Any], run: Any) -> None:
        real(run)
        scene.once(scene.core.runner, "expect", fails("no Exception"))

    if child:
        # The parent's own start goes well, that of its child does not.
        scene.once(
            scene.core.runner,
            "expect",
            interrupts_the_next,
        )
        scene.app.start_workflow(parent)
    else:
        scene.once(scene.core.runner, "expect", fails("no Exception"))
        with pytest.raises(Died):
            scene.app.start_workflow(scene.work, "first", False)
    scene.dbos._await_quiet()
    assert scene.ran == []
    assert len(scene.owned()) == 1
    scene.look()
    assert (scene.ran, scene.owned()) == (["first"], {})


def test_what_runs_is_left_alone_however_often_the_watch_looks(scene: Scene) -> None:
    go_on, began = threading.Event(), threading.Event()

    @scene.app.workflow(name="holds")
    def holds() -> str:
        began.set()
        assert go_on.wait(PATIENCE)
        return "done"

    handle = scene.app.start_workflow(holds)
    assert began.wait(PATIENCE)
    for _ in range(4):
        scene.app.launched.watch.look()
    assert scene.owned() == {handle.workflow_id: 1}
    go_on.set()
    assert handle.get_result() == "done"


def test_what_waits_in_memory_behind_another_event_of_its_lane_is_left_alone(scene: Scene) -> None:
    go_on, began = threading.Event(), threading.Event()
    scene.dbos.deliver(scene.handlers["ordered"], b"zeroth")
    scene.dbos.run_until_idle()
    original = scene.core.registry.workflows[vars(scene.handlers["ordered"])["__dbos_name__"]]
    real = original.function

    def holds(message: KafkaMessage) -> None:
        began.set()
        assert go_on.wait(PATIENCE)
        real(message)

    original.function = holds
    for value in (b"1", b"2", b"3"):
        scene.dbos.deliver(scene.handlers["ordered"], value)
    assert began.wait(PATIENCE)
    owned = scene.owned()
    assert len(owned) == 3
    for _ in range(4):
        scene.app.launched.watch.look()
    assert scene.owned() == owned
    go_on.set()
    scene.dbos.run_until_idle()
    assert scene.ran == [f"ordered-{offset}" for offset in range(4)]


def test_rule_2_what_was_taken_while_a_taking_was_under_way_is_left_to_it(scene: Scene) -> None:
    """However long it takes from its commit to its start: another start would be the second one."""
    workflow_id = scene.prepare("claim", "first")
    watch, core = scene.app.launched.watch, scene.core
    with scene.app.launched.taken.takings.under_way():
        claim_here(core)
        for _ in range(4):
            watch.look()
        assert scene.owned() == {workflow_id: 1}
    scene.look()
    assert (scene.status(workflow_id), scene.ran) == ("SUCCESS", ["first"])


def test_the_watch_says_once_what_it_found(scene: Scene, caplog: pytest.LogCaptureFixture) -> None:
    for label in ("first", "second"):
        workflow_id = scene.prepare("claim", label)
        core = scene.core
        claim_here(core)
        scene.look()
        assert scene.status(workflow_id) == "SUCCESS"
    said = [record for record in caplog.messages if "did not run here" in record]
    assert len(said) == 1
    assert "1 workflows" in said[0]


@pytest.mark.parametrize("error", [StorageError("locked"), StorageUnavailable("busy"), ZeroDivisionError()])
def test_a_queue_whose_claim_fails_keeps_no_other_waiting(scene: Scene, error: Exception) -> None:
    others = [scene.app.queue(name) for name in ("after", "before")]
    scene.prepare("claim", "waits")
    real = scene.storage.queues.claim
    asked: list[str] = []

    def claim(taker: Taker, queue: QueueState, *arguments: Any, **more: Any) -> Any:
        asked.append(queue.name)
        if queue.name == "q":
            raise error
        return real(taker, queue, *arguments, **more)

    scene.storage.queues.claim = claim
    handles = [queue.enqueue(scene.work, queue.name, False) for queue in others]
    scene.tick()
    scene.tick()
    assert [scene.status(handle.workflow_id) for handle in handles] == ["SUCCESS", "SUCCESS"]
    assert any("queue q" in problem for problem in scene.app.health().problems)
    asked.clear()
    for _ in range(5):
        scene.app.launched.queues.tick()
    assert "q" not in asked  # it is asked less often
    scene.storage.queues.claim = real
    scene.app.launched.queues._failing._not_before.clear()
    scene.tick()
    assert "waits" in scene.ran
    assert not any("queue q" in problem for problem in scene.app.health().problems)


def test_an_executor_that_cannot_be_judged_keeps_no_work_of_the_dead_waiting(scene: Scene) -> None:
    workflow_id = scene.prepare("adopt", "first")
    scene.app.launched.recovery._judge = fails("statement refused")  # type: ignore[method-assign]
    register(scene.storage, application="shop", version=scene.core.version)
    scene.app.launched.recovery._tick_safely()
    scene.dbos._await_quiet()
    assert scene.status(workflow_id) == "SUCCESS"

"""Rule 2: takings whose commit answer was lost. What they have made ours runs here, and once."""

import itertools
from collections.abc import Callable
from typing import Any

import pytest

from dbos_events import App
from dbos_events.errors import StorageUnavailable
from dbos_events.runtime import taken
from dbos_events.storage.subjects.queues import Claim
from dbos_events.testing import TestApp
from dbos_events.testing.plugin import MakeTestApp
from tests.storage.building import kill, register, start, write

ADOPTED = "left by a dead process"


class Scene:
    """An App with one workflow, and how it comes to be taken."""

    def __init__(self, make: MakeTestApp) -> None:
        self.ran: list[str] = []
        self.app = app = App()
        self.queue = app.queue("q", worker_concurrency=1)

        @app.workflow(name="work")
        def work(sleeps: bool) -> str:
            self.ran.append("begun")
            if sleeps:
                app.sleep(60)
            return "done"

        self.work = work
        self.dbos: TestApp = make(app)

    def prepare(self, taking: str) -> str:
        """Bring about that `taking` finds a workflow; gives its id."""
        if taking == "adopt":
            return self._leave_behind()
        if taking == "wake_due":
            handle = self.app.start_workflow(self.work, True)
            self.dbos.run_until_idle()
            self.dbos.clock.move_to(self.dbos.clock.now_ms() + 60_000)
            return handle.workflow_id
        handle = self.queue.enqueue(self.work, False)
        if taking == "claim_resumed":
            self.app.cancel_workflow(handle.workflow_id)
            self.app.resume_workflow(handle.workflow_id)
        return handle.workflow_id

    def _leave_behind(self) -> str:
        core = self.dbos.core
        storage: Any = core.storage
        dead = register(storage, application=core.application, version=core.version)
        stored = core.codecs.get("json").encode({"args": [False], "kwargs": {}})
        left = start(ADOPTED, name="work", input=stored, application=core.application, version=core.version)
        write(storage, dead, left)
        kill(storage, dead)
        return ADOPTED

    def lose_answer(self, taking: str) -> None:
        """The next call that takes something does so, and then says that it does not know."""
        storage: Any = self.dbos.core.storage
        owner, name = (storage.queues, "claim") if taking.startswith("claim") else (storage.taking, taking)
        real: Callable[..., Any] = getattr(owner, name)

        def once(*arguments: Any, **more: Any) -> Any:
            found = real(*arguments, **more)
            if found.rows if isinstance(found, Claim) else found:
                setattr(owner, name, real)
                raise StorageUnavailable("The connection ended before the answer came.")
            return found

        setattr(owner, name, once)

    def tick(self) -> None:
        """As the services' own threads do it: what fails is said, and tried again."""
        for service in self.dbos.app.launched.services:
            service._tick_safely()
        self.dbos._await_quiet()

    def status(self, workflow_id: str) -> str:
        found = self.app.get_workflow_status(workflow_id)
        assert found is not None
        return found.status


@pytest.fixture
def scene(dbos_test_app: MakeTestApp) -> Scene:
    return Scene(dbos_test_app)


@pytest.mark.parametrize("taking", ["claim", "claim_resumed", "wake_due", "adopt"])
def test_rule_2_what_a_taking_without_an_answer_has_made_ours_runs(scene: Scene, taking: str) -> None:
    workflow_id = scene.prepare(taking)
    begun = len(scene.ran)
    scene.lose_answer(taking)
    scene.tick()
    scene.tick()
    assert scene.status(workflow_id) == "SUCCESS"
    assert len(scene.ran) == begun + 1


def test_rule_2_while_a_taking_is_under_way_nothing_counts_as_lost(scene: Scene) -> None:
    """What another thread has taken, and is about to start, must not be started twice."""
    workflow_id = scene.prepare("claim")
    launched = scene.app.launched
    scene.lose_answer("claim")
    with launched.taken.taking():
        scene.tick()
        scene.tick()
        assert scene.ran == []
    scene.tick()
    assert (scene.status(workflow_id), scene.ran) == ("SUCCESS", ["begun"])


def test_rule_2_a_commit_that_was_still_under_way_is_found_by_a_later_look(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(taken, "DOUBT_SECONDS", 1e9)
    workflow_id = scene.prepare("claim")
    scene.lose_answer("claim")
    storage: Any = scene.dbos.core.storage
    real, looks = storage.taking.lost, itertools.count()
    storage.taking.lost = lambda *arguments: real(*arguments) if next(looks) > 1 else []
    scene.tick()
    scene.tick()
    scene.tick()
    assert scene.ran == []
    scene.tick()
    assert scene.status(workflow_id) == "SUCCESS"


def test_rule_2_after_a_while_nothing_is_in_doubt_any_more(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(taken, "DOUBT_SECONDS", 0.0)
    workflow_id = scene.prepare("claim")
    scene.lose_answer("claim")
    scene.tick()
    scene.tick()
    storage: Any = scene.dbos.core.storage
    storage.taking.lost = lambda *_: pytest.fail("it looks again")
    scene.tick()
    assert scene.status(workflow_id) == "SUCCESS"


def test_a_slot_of_a_workflow_whose_claim_was_lost_is_given_back(scene: Scene) -> None:
    first, second = scene.prepare("claim"), scene.prepare("claim")
    scene.lose_answer("claim")
    for _ in range(4):
        scene.tick()
    assert [scene.status(one) for one in (first, second)] == ["SUCCESS", "SUCCESS"]

"""`TestApp`: an App on a temporary database and a manual clock, moved on by the test itself."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from dbos_events.api.handles import WorkflowHandle
from dbos_events.app import App
from dbos_events.connect import Inbox
from dbos_events.engine.context import CURRENT
from dbos_events.engine.core import Core, Driving
from dbos_events.engine.run import Run
from dbos_events.engine.runvalues import Unwind
from dbos_events.errors import DBOSException
from dbos_events.facade import default_app
from dbos_events.model.workflow import ENQUEUED, PENDING, WorkflowFilter
from dbos_events.runtime.service import Service
from dbos_events.settings import read_settings
from dbos_events.testing.bytes import Headers
from dbos_events.testing.clock import ManualClock
from dbos_events.testing.events import TestTopics
from dbos_events.testing.pushed import TestInbox
from dbos_events.testing.values import CheckedCodec

if TYPE_CHECKING:
    from dbos_events.launched import Launched

LOOK_SECONDS = 0.0005


class TestApp:
    """Runs the workflows and consumers of an App in a test.

    Time stands still until the test moves it, by `advance`, or by asking for a result: who waits for
    one moves the clock to whatever is due next. No service runs by itself, so nothing happens behind
    the test's back but the workflows that it started.

    Args:
        app: Whose workflows and consumers; those of `DBOS` by default. It must not be launched.
        database_url: A temporary SQLite file by default.
        template: A migrated SQLite file to begin with a copy of; saves the time of migrating.
        clock: The time; a clock of its own by default.
        check_values: Read every stored value back, and fail the step whose value comes back changed.
        patience: Seconds of real time that a step may take before a test that waits for it fails.
        config: More settings, over those of the App. Every wait leaves memory at once
            (`park_after_seconds=0`), so that each wake-up is a replay and bad workflows show.
    """

    __test__ = False

    def __init__(
        self,
        app: App | None = None,
        *,
        database_url: str | None = None,
        template: Path | None = None,
        clock: ManualClock | None = None,
        check_values: bool = True,
        patience: float = 30.0,
        **config: Any,
    ) -> None:
        self.app = app or default_app()
        self.clock = clock or ManualClock()
        self._folder = tempfile.TemporaryDirectory(prefix="dbos_events-")
        file = Path(self._folder.name, "test.sqlite")
        if template is not None:
            shutil.copy(template, file)
        self._config: dict[str, Any] = {
            "name": "test",
            **self.app.config,
            "park_after_seconds": 0.0,
            "run_migrations": True,
            "use_listen_notify": False,
            "tune_garbage_collector": False,
            "system_database_url": database_url or f"sqlite:///{file}",
            **config,
        }
        self._check_values = check_values
        self._patience = patience
        self._moving = threading.RLock()
        self._crashed = False
        self._in_vain: tuple[object, ...] = ()
        self._topics = TestTopics(self.app)
        self._pushed = TestInbox(self.app)

    # -- life ---------------------------------------------------------------------------------

    def start(self) -> None:
        """Launch the App on the test's database; `with TestApp() as dbos:` does it."""
        try:
            self._launch()
        except BaseException:
            self._folder.cleanup()
            raise

    def close(self) -> None:
        """Stop the App and remove its database."""
        if self.app.is_launched:
            self.app.destroy()
        self._folder.cleanup()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def core(self) -> Core:
        """The running engine, for tests that look inside."""
        return self.app.core

    def crash(self, **config: Any) -> None:
        """End everything at once, as `kill -9` would, and start anew: a new process that finds the old one dead.

        Called from a step or a workflow, it does not return; the new process starts when the test goes
        on. A step that is running when the test calls it goes on, but nothing that it does is recorded.

        Args:
            config: Settings of the new process, such as `application_version="2"`.
        """
        self._config.update(config)
        if CURRENT.get() is not None:
            self._crashed = True
            self.app.launched.abandon(wait=False)
            raise Unwind
        with self._moving:
            self._relaunch()

    def _launch(self) -> None:
        from dbos_events.launched import Launched  # brings SQLAlchemy with it

        driving = Driving(self._step, lambda: 1.0)
        launched = Launched(self.app.registry, (), read_settings(self._config), self.clock, None, driving)
        self.app.attach(launched)
        if self._check_values:
            launched.core.codecs.default = CheckedCodec(launched.core.codecs.default)
        launched.apply_failure_policies(self.app.declared)

    def _relaunch(self) -> None:
        self._crashed = False
        old = self.app.launched
        old.abandon(wait=True)
        self.app.detach()
        self._launch()
        storage = self.app.launched.storage
        for row in storage.executors.read(old.settings.name):
            if row.id == old.core.executor:
                storage.executors.declare_dead(row.id, row.heartbeat, "crashed in a test")
        self._topics.relaunched()
        self._pushed.relaunched()

    # -- events -------------------------------------------------------------------------------

    def deliver(
        self,
        handler: Callable[..., Any],
        value: object = None,
        *,
        key: bytes | str | None = None,
        headers: Headers | Mapping[str, bytes | str | None] | None = None,
        topic: str | None = None,
        partition: int = 0,
        event_id: str | None = None,
    ) -> WorkflowHandle[Any]:
        """Have a consumer take in the next record of a partition, or an event that is pushed; gives its workflow's handle.

        Args:
            handler: The function that the decorator of a consumer stands on.
            value: Bytes; text as UTF-8; a pydantic model or any other value as JSON; None is a tombstone.
            key: The record's key; text as UTF-8.
            headers: The record's headers, a mapping or pairs.
            topic: The consumer's first one by default.
            partition: Its offsets count from 0.
            event_id: Of a pushed event; another one each time by default. `key` is its lane then; topic and partition say
                nothing. The same id again is the same event: it starts nothing, and gives the same handle.

        A record that the consumer's `when` says no to has no workflow: its handle's `get_status` raises
        `DBOSNonExistentWorkflowError`, and `filtered` counts it.
        """
        with self._moving:
            self._go_on()
            pushed = self._pushed.declaration(handler)
            if pushed is not None:
                workflow_id = self._pushed.deliver(pushed, value, key=key, headers=headers, event_id=event_id)
                return WorkflowHandle(self.app, workflow_id)
            workflow_id = self._topics.deliver(
                handler, value, key=key, headers=headers, topic=topic, partition=partition
            )
        return WorkflowHandle(self.app, workflow_id)

    def inbox(self, connector: str) -> Inbox:
        """What a connector whose events are pushed would be given at launch; anew after a crash."""
        with self._moving:
            self._go_on()
            return self._pushed.inbox(connector)

    def filtered(self, handler: Callable[..., Any]) -> int:
        """How many records the `when` of a handler's consumers has said no to."""
        with self._moving:
            self._go_on()
            pushed = self._pushed.declaration(handler)
            return self._topics.filtered(handler) if pushed is None else self._pushed.filtered(pushed)

    # -- what comes from outside --------------------------------------------------------------

    def send(self, destination_id: str, message: object, topic: str | None = None, **options: Any) -> None:
        """Send a message to a workflow, and do all that can be done then; arguments as for `DBOS.send`."""
        with self._moving:
            self._go_on()
            self.app.send(destination_id, message, topic, **options)
            self.run_until_idle()

    def publish(self, name: str, key: str, value: object = None, **options: Any) -> None:
        """Publish a value, and do all that can be done then; arguments as for `DBOS.publish`."""
        with self._moving:
            self._go_on()
            self.app.publish(name, key, value, **options)
            self.run_until_idle()

    # -- moving on ----------------------------------------------------------------------------

    def run_until_idle(self) -> bool:
        """Do all that can be done now: what runs, what waits in queues, what is due; no time passes.

        Gives whether anything was done.

        Raises:
            DBOSException: A step takes longer than the test's patience.
        """
        with self._moving:
            did_any = False
            while self._do_round():
                did_any = True
            return did_any

    def advance(self, **duration: float) -> None:
        """Let time pass: `advance(days=1)`, `advance(seconds=30)`; arguments as for `timedelta`.

        What falls due on the way runs at its own time.
        """
        with self._moving:
            self.run_until_idle()
            target = self.clock.now_ms() + round(timedelta(**duration) / timedelta(milliseconds=1))
            if target < self.clock.now_ms():
                raise DBOSException("Time does not go back.")
            while (due := self._next_due()) is not None and due < target:
                self.clock.move_to(due)
                self.run_until_idle()
            self.clock.move_to(target)
            self.run_until_idle()

    def _step(self, channels: Sequence[str]) -> None:
        """Do what is due next, for a caller who waits for a result."""
        with self._moving:
            if self._go_on() or self._await_quiet() or self._do_round():
                return
            due = self._next_due()
            if due is not None:
                self.clock.move_to(due)
                self.run_until_idle()
            elif self._in_vain == (waits := (self.core.committer.batches, *channels)):
                raise DBOSException(
                    f"Nothing is left to do in this test, and {', '.join(channels)} is waited for in vain.\n"
                    + self._describe_unfinished()
                )
            else:
                self._in_vain = waits  # it may have come while this thread waited for its turn: look again

    def _do_round(self) -> bool:
        self._go_on()
        launched = self.app.launched
        before = launched.core.committer.batches
        self._await_quiet()
        for service in _ticked(launched):
            service.tick()
        self._await_quiet()
        return self._crashed or launched.core.committer.batches != before

    def _go_on(self) -> bool:
        """Start anew when a step has crashed the process."""
        if not self._crashed:
            return False
        self._relaunch()
        return True

    def _await_quiet(self) -> bool:
        """Wait until every run has ended, left memory, or waits for time to pass; False when it was so at once."""
        deadline = time.monotonic() + self._patience
        waited = False
        while not self._crashed:
            committer = self.core.committer
            rested, batches = committer.rests, committer.batches
            busy = self._busy()
            # A run that has left makes way for the next of its lane when all answers of its commit are told, no sooner.
            if not busy and rested and committer.rests and committer.batches == batches:
                break
            if time.monotonic() > deadline:
                names = ", ".join(f"{run.id} ({run.function.name})" for run in busy)
                raise DBOSException(f"Still running after {self._patience:.0f} s of real time: {names}.")
            waited = True
            time.sleep(LOOK_SECONDS)
        return waited

    def _busy(self) -> list[Run]:
        """Runs that go on by themselves."""
        core = self.core
        runs = tuple(core.runner.active.values())
        blocking = [run for run in runs if run.tasks is None]
        resting = {run.thread for run in blocking if run.resting is not None and not run.resting.woken}
        busy = [run for run in blocking if run.thread not in resting]
        suspending = [run for run in runs if run.tasks is not None]
        by_loop: dict[asyncio.AbstractEventLoop, list[Run]] = {}
        for run in suspending:
            if (tasks := run.tasks) is not None:
                by_loop.setdefault(tasks.main.get_loop(), []).append(run)
        for loop, there in by_loop.items():
            if (
                not busy and loop.is_running()
            ):  # else nothing there goes on by itself, and the next tick gives it back
                busy = self._busy_on(loop, there)
        return busy

    def _busy_on(self, loop: asyncio.AbstractEventLoop, runs: list[Run]) -> list[Run]:
        answer: Future[list[Run]] = Future()
        self.core.homes.of(loop).inbox.post(
            lambda: answer.set_result([run for run in runs if not _rests(run)])
        )
        return answer.result(self._patience)

    def _next_due(self) -> int | None:
        """When something falls due: for a service, or for what waits in memory."""
        times = [self.clock.next_alarm(), *(service.next_due() for service in self.app.launched.services)]
        return min((at for at in times if at is not None), default=None)

    def _describe_unfinished(self) -> str:
        unfinished = WorkflowFilter(statuses=(PENDING, ENQUEUED), with_input=False, with_output=False)
        rows = self.core.storage.workflows.find(unfinished)
        awaited = self.core.storage.parking.awaited([row["id"] for row in rows])
        lines = [
            f"  {row['id']} ({row['name']}): {row['status']}, queue {row['queue']}{_waits_for(awaited.get(row['id']))}"
            for row in rows
        ]
        return "Unfinished workflows:\n" + ("\n".join(lines) or "  none")


def _waits_for(keys: Sequence[str] | None) -> str:
    return "" if not keys else f", waits for {' or '.join(keys)}"


def _ticked(launched: Launched) -> list[Service]:
    return [service for service in launched.services if service.in_tests]


def _rests(run: Run) -> bool:
    return run.ending is not None or (run.tasks is not None and run.tasks.is_resting())

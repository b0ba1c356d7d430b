"""The running parts of an App: built at launch, ended by destroy."""

from __future__ import annotations

import asyncio
import os
import socket
import threading
import time
from collections.abc import Sequence

from dbos_events.api.consumers import ConsumerDeclaration, PushedDeclaration
from dbos_events.clock import Clock, DatabaseClock, elapsed
from dbos_events.connect import Connector, PushConnector, Source, find_connector
from dbos_events.engine.core import BY_ITSELF, Core, Driving, Listeners, Terms
from dbos_events.engine.forked import leave_core
from dbos_events.engine.registry import Registry
from dbos_events.engine.waking import Hub
from dbos_events.model.dataclass import dataclass
from dbos_events.model.event import HeldQuotas
from dbos_events.model.queue import QUEUES_CHANGED, QueueLimits
from dbos_events.runtime.contested import declarations
from dbos_events.runtime.deadlines import DeadlineService
from dbos_events.runtime.expiry import ExpiryService
from dbos_events.runtime.identity import this_process
from dbos_events.runtime.inbox import InboxService
from dbos_events.runtime.intake.backlog import BacklogService
from dbos_events.runtime.intake.consumer import ConsumerIntake
from dbos_events.runtime.intake.eventends import EventEnds
from dbos_events.runtime.intake.keeper import LaneService
from dbos_events.runtime.intake.pushing import Services
from dbos_events.runtime.intake.standing import ConsumerService
from dbos_events.runtime.intake.sweeping import LeftLanes
from dbos_events.runtime.lease import LeaseService
from dbos_events.runtime.loops import BackgroundLoop, LoopService
from dbos_events.runtime.memory import tune_collector
from dbos_events.runtime.notifier import NotifierService
from dbos_events.runtime.queues import QueueService
from dbos_events.runtime.recovery import RecoveryService
from dbos_events.runtime.schedules import ScheduleService
from dbos_events.runtime.service import Hearing, Service
from dbos_events.runtime.stopping import Bound, stop_together
from dbos_events.runtime.sweeper import SweeperService
from dbos_events.runtime.taken import Taken
from dbos_events.runtime.timers import TimerService
from dbos_events.runtime.watch import WatchService
from dbos_events.serialization import Codecs
from dbos_events.settings import Settings
from dbos_events.storage.forks import keep_for_ever
from dbos_events.storage.migrate import migrate, verify
from dbos_events.storage.opening import open_storage
from dbos_events.storage.subjects.executors import NewExecutor
from dbos_events.telemetry.log import logger, redact

LOOKS_AT_THE_CLOCK = 3
"""How often the database is asked for its time at launch; the quickest answer counts."""


@dataclass(frozen=True, slots=True)
class Health:
    """`live` is false only when the process itself is stuck; `ready` when it should get work.

    `problems` says what is wrong, one line each, also what does not make this process unready (work that no process can
    run); `notes` what stands still because an operator asked for it.
    """

    live: bool
    ready: bool
    problems: tuple[str, ...]
    notes: tuple[str, ...] = ()


class Launched:
    """Everything that runs, in the order in which it is started; stopped in reverse."""

    services: tuple[Service, ...]

    def __init__(
        self,
        registry: Registry,
        consumers: Sequence[ConsumerDeclaration | PushedDeclaration],
        settings: Settings,
        clock: Clock,
        loop: asyncio.AbstractEventLoop | None,
        driving: Driving = BY_ITSELF,
    ) -> None:
        self.settings = settings
        self.label = settings.executor_id or socket.gethostname()
        self._registry = registry
        self._declarations = consumers
        self._loop = loop
        self._own_loop: BackgroundLoop | None = None
        self._registering = threading.Lock()
        self._draining = False
        self._said_dead = 0
        self._bound: Bound | None = None
        clock = clock if clock.manual else DatabaseClock(clock)
        self.storage = open_storage(
            settings.database_url,
            schema=settings.dbos_system_schema,
            clock=clock,
            pool_size=settings.sys_db_pool_size,
        )
        hub = Hub()
        self.notifier = NotifierService(self.storage, hub, enabled=settings.use_listen_notify)
        # Both services come later, and neither is woken for each event.
        self._ends = EventEnds(lambda: self.consumers.wake())  # noqa: PLW0108
        self.core = Core(
            storage=self.storage,
            registry=registry,
            codecs=Codecs(default=settings.serializer),
            clock=clock,
            hub=hub,
            terms=_terms(settings, registry),
            listeners=Listeners(lambda: self.lease.wake(), self.notifier.announce, self._ends.ended),  # noqa: PLW0108
            driving=driving,
            open_loop=self._open_loop,
        )
        self.taken = Taken(self.core)
        self.services = self._make_services()
        self.intakes: list[ConsumerIntake] = []
        self.sources: list[Source] = []

    def _make_services(self) -> tuple[Service, ...]:
        self.lease = LeaseService(self.core, self.settings.lease_seconds, self._fenced)
        self.recovery = RecoveryService(
            self.core, self.taken, self.settings.lease_seconds, self.settings.executor_id
        )
        self.timers = TimerService(self.core, self.taken)
        self.deadlines = DeadlineService(self.core)
        self.schedules = ScheduleService(self.core, self.taken)
        self.queues = QueueService(self.core, self.taken, self.settings.max_in_flight)
        self.lanes = LaneService(self.core, self.taken)
        self.sweeper = SweeperService(
            self.core,
            lambda orphan, position: LeftLanes(self.lanes, orphan, position),
            self.settings.sweep_after_seconds,
            self.lanes.holds,
        )
        self.consumers = ConsumerService(self.core, self._ends)
        self.loops = LoopService(self.core)
        self.expiry = ExpiryService(self.core)
        pushed = Services(self.core, self.taken, self.lanes, self.consumers, self._place_freed)
        self.inbox = InboxService(pushed, self.lease.wake)
        self.backlog = BacklogService(self.core, self.taken, self.inbox.consumers)
        self.queues.left_to_others = lambda: self.backlog.functions
        watched = (
            self.lease, self.recovery, self.deadlines, self.timers, self.expiry, self.schedules, self.queues, self.lanes,
            self.consumers, self.sweeper, self.notifier, self.loops, self.inbox, self.backlog,
        )  # fmt: skip
        self.watch = WatchService(self.core, self.taken.takings, watched, lambda: self.lanes.waiting)
        for service in (*watched, self.watch):
            service.outages = self.core.outages
        return (*watched, self.watch)

    def _place_freed(self) -> None:
        self.lanes.freed()
        self.backlog.freed()

    # -- starting -----------------------------------------------------------------------------

    def start(self) -> None:
        """Connect, prepare the schema, take a lease, and begin."""
        if self.settings.run_migrations:
            migrate(self.storage)
        else:
            verify(self.storage)
        self.settings.refuse_without_name()  # now that the database answers: while it does not, that is what to say
        self.storage.now_ms(LOOKS_AT_THE_CLOCK)
        self._register()
        self.recovery.look_at_names()
        self.storage.queues.save_declared(self.settings.name, self._registry.queues, self.core.version)
        self.schedules.declare()
        self.apply_failure_policies(self._declarations)
        if self.settings.tune_garbage_collector:
            tune_collector()
        self._start_engine()
        if not self.core.clock.manual:  # then the test ticks them
            for service in self.services:
                service.start()
        self._start_sources()

    def apply_failure_policies(self, declarations: Sequence[ConsumerDeclaration | PushedDeclaration]) -> None:
        """Before anything is taken up: an event may fail before its consumer has reached the broker."""
        numbers = self.storage.consumers.numbers(self.settings.name)
        for declaration in declarations:
            number = numbers.get(declaration.name)
            if number is not None:
                self.core.retries[number] = declaration.options.retries
                self.taken.quarantines[number] = declaration.options.on_failure == "quarantine"

    def _start_engine(self) -> None:
        self.core.use_loop(self._loop or self._open_loop(), ours=self._loop is None)
        self._loop = None
        self.core.committer.start()
        for service in self.services:
            for channel in service.signals:
                self.core.hub.subscribe(channel, Hearing(service))

    def _open_loop(self) -> asyncio.AbstractEventLoop:
        """A loop of our own; also where the launch's does not run any more."""
        if self._own_loop is not None:
            self._own_loop.stop()
        self._own_loop = BackgroundLoop()
        return self._own_loop.start()

    def _start_sources(self) -> None:
        pushed: dict[str, list[PushedDeclaration]] = {}
        for declaration in self._declarations:
            if isinstance(declaration, PushedDeclaration):
                pushed.setdefault(declaration.connector, []).append(declaration)
            else:
                self.sources.append(self._open_log(declaration))
        for name, ours in pushed.items():
            connector = find_connector(name)
            assert isinstance(connector, PushConnector)  # noqa: S101 - it was so when they were declared
            inbox = self.inbox.open(connector, [(one.function, one.options) for one in ours])
            self.sources.append(connector.open_source(inbox, self.settings.section(name)))
        for source in self.sources:
            source.start()

    def _open_log(self, declaration: ConsumerDeclaration) -> Source:
        connector = find_connector(declaration.connector)
        assert isinstance(connector, Connector)  # noqa: S101 - it was so when it was declared
        intake = ConsumerIntake(
            self.core,
            self.taken,
            declaration.function,
            declaration.options,
            self.lanes,
            self.consumers,
            connector,
        )
        self.intakes.append(intake)
        return connector.open_source(intake, self.settings.section(declaration.connector))

    def queue_added(self, name: str, limits: QueueLimits) -> None:
        """Serve a queue that was declared after launch."""
        self.storage.queues.save_declared(self.settings.name, {name: limits}, self.core.version)
        self.queues.look_at_queues()
        self.core.signal(QUEUES_CHANGED)

    def _register(self) -> None:
        process = this_process()
        began = elapsed()
        self.core.executor = self.storage.executors.register(
            NewExecutor(
                application=self.settings.name,
                label=self.label,
                explicit=self.settings.executor_id is not None,
                version=self.core.version,
                boot_id=process.boot_id,
                pid_namespace=process.pid_namespace,
                pid=process.pid,
                process_started=process.started,
                lease_ms=round(self.settings.lease_seconds * 1000),
                functions=declarations(self._registry),
            )
        )
        self.core.registrations += 1
        if not self.core.clock.manual:
            self.core.lease_end = began + self.settings.lease_seconds

    def _fenced(self) -> None:
        """This executor was declared dead: drop what runs, and go on under a new identity."""
        if self._draining:
            return
        with self._registering:
            if self.storage.executors.renew(self.core.executor, round(self.settings.lease_seconds * 1000)):
                return  # another thread has registered anew already
            if self._said_dead != self.core.registrations:  # once, however often registering anew is refused
                self._said_dead = self.core.registrations
                logger.error(
                    "Executor %s was declared dead while this process was silent. Its runs are dropped here and "
                    "go on elsewhere; this process goes on as a new executor.",
                    self.core.executor,
                )
                self.core.runner.stop_all()
            self._register()

    # -- stopping -----------------------------------------------------------------------------

    def drain(self) -> None:
        """Take nothing more up; what runs goes on."""
        bound = self._bound or Bound(self.settings.shutdown_timeout_seconds)
        self._draining = True
        for source in self.sources:
            source.pause()
        stop_together([service for service in self.services if service.takes_work], bound.at_most(2.0))

    def stop(self, wait_for_workflows: float) -> None:
        """End gracefully within the shutdown timeout; what has not finished goes on elsewhere.

        The bound holds whatever the database does: what waits for it then is cut off, and not waited for.
        """
        self._bound = bound = Bound(self.settings.shutdown_timeout_seconds)
        cutting = bound.call_at_end(self.storage.cut)
        self.drain()
        self._await_runs(time.monotonic() + min(bound.left, wait_for_workflows))
        for source in self.sources:
            source.stop(bound.at_most(bound.left))
        stop_together([service for service in self.services if service is not self.lease], bound.at_most(2.0))
        self.core.stopped.set()
        self.core.runner.stop_all()
        self.core.hub.signal_all()
        flushed = self.core.committer.stop(bound.at_most(bound.left))
        self.lease.stop(bound.at_most(2.0))
        if self.core.executor and flushed:
            bound.do(self._release, name="dbos-release")
        self.core.pool.stop()
        self.core.readers.shutdown(wait=False, cancel_futures=True)
        if self._own_loop is not None:
            self._own_loop.stop(bound.at_most(5.0))
        cutting.cancel()
        bound.do(self.storage.close, name="dbos-close")

    def abandon(self, *, wait: bool) -> None:
        """Let go of everything without another write, as a crash would; `wait` for its threads."""
        self.core.stopped.set()
        self.core.committer.abandon()
        self.core.runner.stop_all()
        self.core.hub.signal_all()
        self.core.pool.stop()
        if not wait:
            return
        self.core.committer.stop(5.0)
        self.core.readers.shutdown(wait=False, cancel_futures=True)
        if self._own_loop is not None:
            self._own_loop.stop()
        self.storage.close()

    def leave_to_parent(self) -> None:
        """In a process that was forked from this one: have whatever still refers to this fail, and never free it."""
        keep_for_ever(self)
        leave_core(self.core, os.getppid())

    def _await_runs(self, deadline: float) -> None:
        """Wait until nothing runs here, or the time is over."""
        self.core.committer.before_blocking()
        for run in tuple(self.core.runner.active.values()):
            event = _Event()
            if run.when_ended(event) and not event.wait(deadline - time.monotonic()):
                return

    def _release(self) -> None:
        try:
            self.storage.executors.release(self.core.executor)
        except Exception as error:  # noqa: BLE001 - the process ends anyway
            logger.warning("The executor could not be released, others will find it by its lease: %s", error)

    # -- health -------------------------------------------------------------------------------

    def health(self) -> Health:
        """What the probes answer."""
        stuck = [f"the {service.name} service has ended" for service in self.services if not service.running]
        if not self.core.committer.running:
            stuck.append("the committer's thread has ended")
        waiting = self.watch.loop.problems
        for source in self.sources:
            health = source.health()
            if not health.live:
                stuck.append(f"{source.name}: {health.detail}")
            elif not health.ready:
                waiting.append(f"{source.name}: {health.detail}")
        standstills = self.consumers.standstills.items()
        waiting += [f"{name}: {why.text}" for name, why in standstills if why.opened]
        notes = tuple(f"{name}: {why.text}" for name, why in standstills if not why.opened)
        if not self.lease.is_fresh:
            waiting.append("the lease is not renewed: the database does not answer")
        waiting += self.core.outages.problems + self.core.committer.problems
        waiting += [redact(service.problem) for service in self.services if service.problem is not None]
        if self._draining:
            waiting.append("draining")
        problems = stuck + waiting + self.core.pool.shortage.problems
        problems += [warning for service in self.services for warning in service.warnings]
        return Health(not stuck, not stuck and not waiting, tuple(problems), notes)


class _Event(threading.Event):
    """A waker that a thread waits on."""

    def wake(self) -> None:
        self.set()


def _terms(settings: Settings, registry: Registry) -> Terms:
    return Terms(
        settings.name,
        settings.application_version or registry.version(),
        settings.max_executor_threads,
        settings.park_after_seconds,
        HeldQuotas(settings.held_per_lane, settings.held_per_consumer),
        settings.on_old_version == "wait",
    )

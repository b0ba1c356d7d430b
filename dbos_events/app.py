"""App: the composition root. It chooses the database, builds the engine and its services, and ends them."""

from __future__ import annotations

import asyncio
import contextlib
import os
import threading
import weakref
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Self, TypeVar

from dbos_events.api.consumers import (
    ConsumerDeclaration,
    ConsumerRequest,
    PushedDeclaration,
    declare_consumer,
)
from dbos_events.api.decorators import step, workflow
from dbos_events.api.queues import Queue
from dbos_events.api.surface import Surface
from dbos_events.api.wording import decorator_options
from dbos_events.clock import Clock, SystemClock
from dbos_events.config import DBOSConfig
from dbos_events.engine.context import CURRENT
from dbos_events.engine.forked import refuse_after_fork
from dbos_events.engine.registry import Registry
from dbos_events.errors import ConfigurationError, DBOSException, DBOSInitializationError, RegistrationError
from dbos_events.model.event import Breaker, OnFailure, OnRegression, Ordering, PayloadCodec, Placing, Retry
from dbos_events.model.queue import QueueLimits, QueueRateLimit
from dbos_events.model.workflow import StepOptions
from dbos_events.telemetry.log import logger

if TYPE_CHECKING:
    from dbos_events.engine.core import Core
    from dbos_events.launched import Health, Launched

F = TypeVar("F", bound=Callable[..., Any])
G = TypeVar("G", bound=Callable[..., Any] | None)

_BREAKER = Breaker()


class App(Surface):
    """One application: its workflows, and, once launched, the engine that runs them.

    `DBOS` is a facade over a default App; more Apps may live in one process. Use it as
    `with App(config) as app:`, or call `launch` and `destroy`.
    """

    def __init__(
        self, config: DBOSConfig | Mapping[str, Any] | None = None, *, clock: Clock | None = None
    ) -> None:
        self.config: dict[str, Any] = _as_dict(config)
        self.registry = Registry()
        self.consumers: list[ConsumerDeclaration] = []
        self.pushed: list[PushedDeclaration] = []
        self._clock = clock or SystemClock()
        self._launched: Launched | None = None
        self._lock = threading.RLock()
        self._forked_from: int | None = None

    # -- decorators ---------------------------------------------------------------------------

    @decorator_options
    def workflow(
        self, *, name: str | None = None, max_recovery_attempts: int | None = 100
    ) -> Callable[[F], F]:
        """Make a function a durable workflow: it goes on after a crash where its history ends.

        Args:
            name: What its rows carry; the qualified name by default. Keep it when you rename the function.
            max_recovery_attempts: Crashes of the process after which the workflow is given up; None: never.
        """

        def decorate(function: F) -> F:
            return workflow(self, function, name, max_recovery_attempts)  # type: ignore[return-value]

        return decorate

    @decorator_options
    def step(  # noqa: PLR0913 - the options of one declaration
        self,
        *,
        name: str | None = None,
        retries_allowed: bool = False,
        interval_seconds: float = 1.0,
        max_attempts: int = 3,
        backoff_rate: float = 2.0,
        should_retry: Callable[[BaseException], Any] | None = None,
        timeout_seconds: float | None = None,
        idempotency_key: Callable[..., str] | None = None,
        preemptible: bool = False,
    ) -> Callable[[F], F]:
        """Make a function a step: within a workflow its outcome is recorded once and replayed after a crash.

        The function runs at least once: a crash between its effect and the record repeats it. Hand
        `DBOS.idempotency_key` to whatever must not happen twice. It follows from the workflow's id and the step's
        name; `idempotency_key`, a function over the step's arguments, says it instead.

        A `preemptible` step, which has to be async, is interrupted at once when its workflow is cancelled or its deadline
        passes, as by a cancellation of its task; then nothing is recorded of it. Others are run to their end.
        """
        options = StepOptions(
            name,
            retries_allowed,
            interval_seconds,
            max_attempts,
            backoff_rate,
            should_retry,
            timeout_seconds,
            idempotency_key,
            preemptible,
        )

        def decorate(function: F) -> F:
            return step(self, function, options)  # type: ignore[return-value]

        return decorate

    def queue(
        self,
        name: str,
        concurrency: int | None = None,
        limiter: QueueRateLimit | None = None,
        **settings: Any,
    ) -> Queue:
        """Declare a durable queue of this App; its settings are those of `Queue`."""
        return Queue(name, concurrency, limiter, app=self, **settings)

    @decorator_options
    def kafka_consumer(  # noqa: PLR0913 - the options of one declaration
        self,
        config: Mapping[str, Any] | None = None,
        topics: Sequence[str] | str = (),
        in_order: bool | None = None,
        *,
        name: str | None = None,
        ordering: Ordering = "none",
        ordering_key: Callable[[Any], Any] | None = None,
        when: Callable[[Any], bool] | None = None,
        queue_name: str | None = None,
        batch_size: int | None = None,
        max_in_flight: int | None = None,
        retries: Retry | None = None,
        on_failure: OnFailure = "quarantine",
        on_regression: OnRegression = "replay",
        strict_key_order: bool = False,
        codec: PayloadCodec | None = None,
        breaker: Breaker | None = _BREAKER,
        publishes: Callable[[Any], Any] | None = None,
        priority: Callable[[Any], Any] | None = None,
        queue_partition_key: Callable[[Any], Any] | None = None,
        delay_seconds: Callable[[Any], Any] | None = None,
        expires: Callable[[Any], Any] | None = None,
    ) -> Callable[[G], G]:
        """Run the function as a durable workflow for each record of the topics, exactly once.

        The annotation of its argument says what it gets: the message, or its value as bytes, text, or
        decoded and validated (docs/payloads.md). A record that does not fit is put into quarantine.

        A record is taken in together with its partition's next offset in one transaction, so it starts
        one workflow whatever crashes, is redelivered or reassigned. Steps within are at-least-once.

        Args:
            config: Settings of the Kafka client, over those of the environment and the settings file.
            topics: One topic or several.
            in_order: Older spelling of `ordering="topic"`.
            name: The consumer's name in the database and the command line; the handler's by default.
            ordering: "none": events run at once; "partition", "key", "topic": one after the other of each.
            ordering_key: With ordering="key": gives the key of a message; the record's key by default.
            queue_name: Enqueue the workflows instead; any process that serves the queue runs them.
            batch_size: Records per transaction at most (500).
            max_in_flight: Events that run here at once (1000); more stay in Kafka.
            on_failure: "quarantine": a failed event is put aside and, with order, holds those behind it;
                "record": it ends as ERROR and the next one runs.
            when: Which records start a workflow: called with the message, or with its value where its own
                argument is annotated with a type. Those that it says no to are counted, and nothing else.
            codec: Makes values of the records' bytes, for handlers that take something else than bytes or
                text; JSON by default.
            retries: How often, and with what pauses, an event whose handler fails is tried again, before
                `on_failure` counts. A retry repeats the failed step and nothing that succeeded.
            on_regression: What to do when the database went back behind what Kafka knows to be taken in: "replay"
                the events between, or "halt" the partition until an operator decides.
            strict_key_order: With ordering="key": partitions that are added to a topic wait until all that lay in
                the others at that moment has finished, since keys move.
            publishes: Gives (name, key), or (name, key, value), to be published with the intake of each record; or None.
                Called as `when` is. With None for the handler, records start no workflow.
            breaker: When to stop taking events in because the handler fails; None: never.
            priority: With queue_name: the priority of each event, from 1 on (lower first), or None; called as `when`. So are
            queue_partition_key: the partition of the queue that it belongs to, and
            delay_seconds: how long it waits before its turn, or None.
            expires: Called as `when` is; gives until when an event may begin (docs/timeouts.md). One that is too late
                when its turn comes ends as EXPIRED, without a run, and frees its lane.

        Raises:
            RegistrationError: An option is wrong, or the kafka extra is not installed.
        """
        return declare_consumer(  # type: ignore[return-value]
            self,
            ConsumerRequest(
                "kafka", config, topics, in_order, name, ordering, ordering_key, when, queue_name, batch_size, max_in_flight,
                retries, on_failure, on_regression, strict_key_order, codec, breaker,
                publishes, Placing(priority, queue_partition_key, delay_seconds), expires,
            ),
        )  # fmt: skip

    def configure(self, config: DBOSConfig | Mapping[str, Any]) -> None:
        """Set the configuration; it counts from the next launch on.

        Raises:
            DBOSInitializationError: The App is launched already.
        """
        if self._launched is not None:
            raise DBOSInitializationError(
                "DBOS is launched already. Call DBOS.destroy() before configuring it anew."
            )
        self.config = _as_dict(config)

    def add_queue(self, name: str, limits: QueueLimits) -> None:
        """Note a queue; when launched already, it is served from now on."""
        self.registry.add_queue(name, limits)
        if self._launched is not None:
            self._launched.queue_added(name, limits)

    def add_consumer(self, declaration: ConsumerDeclaration | PushedDeclaration) -> None:
        """Note a consumer; it must be declared before launch, under a name of its own."""
        name = declaration.name
        if self._launched is not None:
            raise DBOSInitializationError(
                f"Consumer {name!r} was declared after launch. Import its module before DBOS.launch()."
            )
        self.consumers = [known for known in self.consumers if not known.function.replaced]
        self.pushed = [known for known in self.pushed if not known.function.replaced]
        if any(known.name == name for known in self.declared):
            raise RegistrationError(
                f"Two consumers are called {name!r}, and would share their positions. Give one of "
                "them another name=..., or both topics to one consumer."
            )
        if isinstance(declaration, PushedDeclaration):
            self.pushed.append(declaration)
        else:
            self.consumers.append(declaration)

    @property
    def declared(self) -> list[ConsumerDeclaration | PushedDeclaration]:
        """All consumers of this App."""
        return [*self.consumers, *self.pushed]

    # -- life ---------------------------------------------------------------------------------

    @property
    def is_launched(self) -> bool:
        return self._launched is not None

    @property
    def launched(self) -> Launched:
        """The running parts.

        Raises:
            DBOSException: The App is not launched.
        """
        if self._launched is None:
            if self._forked_from is not None:
                refuse_after_fork(self._forked_from)
            raise DBOSException("DBOS is not launched. Call DBOS.launch() (or app.launch()) first.")
        return self._launched

    @property
    def core(self) -> Core:
        return self.launched.core

    def launch(self) -> None:
        """Connect, migrate or verify the schema, and start to run workflows and consumers.

        Async workflows that no running loop calls or starts run on the loop that this is called on; else, and while that
        one does not run, on one of our own (docs/functions.md).

        Raises:
            ConfigurationError: A setting is not usable, or the application has no name on a server's database.
            MigrationRequired: The schema does not fit and may not be migrated.
            StorageUnavailable: The database does not answer.
        """
        from dbos_events.launched import Launched  # brings SQLAlchemy and pydantic with it
        from dbos_events.settings import read_settings

        with self._lock:
            if self._launched is not None:
                return
            if self._forked_from is not None:
                self._forked_from = None
                CURRENT.set(None)  # forked out of a workflow; what follows belongs to no run of this process
            settings = read_settings(self.config)
            self.attach(Launched(self.registry, self.declared, settings, self._clock, _running_loop()))
        logger.debug("Launched %s.", settings.name)

    def attach(self, launched: Launched) -> None:
        """Start and use parts that were built elsewhere (`dbos_events.testing` does it).

        Raises:
            DBOSInitializationError: The App is launched already.
        """
        with self._lock:
            if self._launched is not None:
                raise DBOSInitializationError("The App is launched already. Call destroy() first.")
            self._launched = launched
            _launched.add(self)
            try:
                launched.start()
            except BaseException:
                launched.stop(0.0)
                self._launched = None
                raise

    def _leave_to_parent(self) -> None:
        """In a forked process: what was launched is the parent's, and nothing here touches it."""
        self._lock = threading.RLock()  # another thread of the parent may have held it
        launched, self._launched = self._launched, None
        if launched is not None:
            self._forked_from = os.getppid()
            launched.leave_to_parent()

    def detach(self) -> None:
        """Forget the running parts without stopping them."""
        self._launched = None

    async def launch_async(self) -> None:
        """As `launch`, on the running loop."""
        self.launch()

    def destroy(self, *, workflow_completion_timeout_sec: float = 0, destroy_registry: bool = False) -> None:
        """Stop: sources first, then workflows (which go on elsewhere, or at the next launch), then the rest."""
        with self._lock:
            if self._launched is not None:
                try:
                    # What still runs may need it until it is stopped: to start a child, to ask for a status.
                    self._launched.stop(workflow_completion_timeout_sec)
                finally:
                    self._launched = None
            if destroy_registry:
                self.registry = Registry()
                self.consumers, self.pushed = [], []

    async def destroy_async(self, *, workflow_completion_timeout_sec: float = 0) -> None:
        """As `destroy`, without blocking the loop that workflows run on."""
        await asyncio.to_thread(self.destroy, workflow_completion_timeout_sec=workflow_completion_timeout_sec)

    def health(self) -> Health:
        """Whether the process works, and whether it is ready."""
        return self.launched.health()

    def __enter__(self) -> Self:
        self.launch()
        return self

    def __exit__(self, *_: object) -> None:
        self.destroy()

    async def __aenter__(self) -> Self:
        await self.launch_async()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.destroy_async()

    @contextlib.asynccontextmanager
    async def lifespan(self, _application: Any = None) -> AsyncIterator[None]:
        """For ASGI frameworks: `FastAPI(lifespan=app.lifespan)`."""
        async with self:
            yield


# The Apps that have been launched in this process. A forked one has none of their threads, but their connections.
_launched: weakref.WeakSet[App] = weakref.WeakSet()


def _after_fork() -> None:
    for app in tuple(_launched):
        app._leave_to_parent()  # noqa: SLF001


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


def _running_loop() -> asyncio.AbstractEventLoop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None


def _as_dict(config: object) -> dict[str, Any]:
    if config is None or isinstance(config, Mapping):
        return dict(config or {})
    raise ConfigurationError(
        f"The configuration is a mapping of settings, not of type {type(config).__name__}."
    )

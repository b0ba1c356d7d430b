"""App: the composition root. It chooses the database, builds the engine and its services, and ends them."""

from __future__ import annotations

import asyncio
import contextlib
import os
import threading
import weakref
from collections.abc import AsyncIterator, Callable, Mapping
from typing import TYPE_CHECKING, Any, Self, TypeVar

from dbos_events.api.decorators import step, workflow
from dbos_events.api.surface import Surface
from dbos_events.api.wording import decorator_options
from dbos_events.bundled import BundledConsumers
from dbos_events.clock import Clock, SystemClock
from dbos_events.config import CoreConfig
from dbos_events.engine.context import CURRENT
from dbos_events.engine.forked import refuse_after_fork
from dbos_events.engine.registry import Registry
from dbos_events.errors import ConfigurationError, DBOSException, DBOSInitializationError, RegistrationError
from dbos_events.model.queue import QueueLimits, QueueRateLimit
from dbos_events.model.workflow import StepOptions
from dbos_events.telemetry.log import logger

if TYPE_CHECKING:
    from dbos_events.api.consumers import ConsumerDeclaration, PushedDeclaration
    from dbos_events.api.queues import Queue
    from dbos_events.engine.core import Core
    from dbos_events.launched import Health, Launched

F = TypeVar("F", bound=Callable[..., Any])


class App(BundledConsumers, Surface):
    """One application: its workflows, and, once launched, the engine that runs them.

    `DBOS` is a facade over a default App; more Apps may live in one process. Use it as
    `with App(config) as app:`, or call `launch` and `destroy`.
    """

    def __init__(
        self, config: CoreConfig | Mapping[str, Any] | None = None, *, clock: Clock | None = None
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
        from dbos_events.api.queues import Queue

        return Queue(name, concurrency, limiter, app=self, **settings)

    def configure(self, config: CoreConfig | Mapping[str, Any]) -> None:
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
        from dbos_events.api.consumers import PushedDeclaration

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

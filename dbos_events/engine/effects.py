"""What a durable operation may ask for. Each effect is performed on a thread or on a loop.

An operation is a generator that yields effects; the drivers send back each effect's value.
This is the only place, beside the drivers, where the two colours differ.
"""

from __future__ import annotations

import asyncio
import contextvars
import functools
from collections.abc import Awaitable, Callable, Generator, Mapping, Sequence
from types import CoroutineType
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from dbos_events.engine.context import CURRENT, Scope
from dbos_events.engine.runvalues import Unwind
from dbos_events.engine.shapes import PLAIN, close, is_awaitable, is_unread
from dbos_events.engine.waking import LoopWaker, ThreadWaker, running_loop
from dbos_events.errors import DBOSBaseException, DBOSException, DBOSStepTimeoutError
from dbos_events.serialization.raised import as_exception, is_interrupt

if TYPE_CHECKING:
    from dbos_events.engine.run import Engine, Run
    from dbos_events.engine.waking import Waker
    from dbos_events.storage.writes import Result, Write

R = TypeVar("R")


def running_task() -> asyncio.Task[Any] | None:
    """The task that runs on this thread; None where none does, also where no loop runs."""
    try:
        return asyncio.current_task()
    except RuntimeError:
        return None


TASK_CANCELLED = asyncio.CancelledError
"""What a task sees that is cancelled; operations name it without importing asyncio."""


class Effect(Protocol):
    """Something to be done outside of the operation."""

    def block(self) -> Any:
        """Perform it on the calling thread."""
        ...

    async def suspend(self) -> Any:
        """Perform it without blocking the running loop."""
        ...


Flow = Generator[Effect, Any, R]


class Awaits(BaseException):
    """A function that was called on a thread has given something to be awaited: the rest is for a loop."""

    def __init__(self, awaitable: Awaitable[Any]) -> None:
        super().__init__()
        self.awaitable = awaitable


class Call:
    """Run user code within `scope`.

    What it raises and is not an `Exception` comes out as one, so that it ends neither a thread nor the loop. Three
    kinds pass: what the engine itself unwinds a run with, a task's cancellation, and what is meant for the process.

    `moves` says that what a plain function gives to be awaited may be awaited on a loop.
    """

    __slots__ = ("args", "function", "kwargs", "moves", "name", "scope", "timeout")

    def __init__(
        self,
        scope: Scope,
        function: Callable[..., Any],
        args: Sequence[Any],
        kwargs: Mapping[str, Any],
        timeout: float | None = None,
        name: str = "",
        *,
        moves: bool = False,
    ) -> None:
        self.scope = scope
        self.function = function
        self.args = args
        self.kwargs = kwargs
        self.timeout = timeout
        self.name = name
        self.moves = moves

    def block(self) -> Any:
        token = CURRENT.set(self.scope)
        try:
            value = self.function(*self.args, **self.kwargs)
            if type(value) in PLAIN:
                return value
            if is_awaitable(value):
                raise self._awaits(value)  # noqa: TRY301 - it comes out as an error of the function does
            return self._read(value)
        except BaseException as error:
            if isinstance(error, (Exception, Awaits)) or is_interrupt(error) or self._passes(error):
                raise
            raise as_exception(error, self.name or "The workflow") from error
        finally:
            CURRENT.reset(token)

    async def suspend(self) -> Any:
        token = CURRENT.set(self.scope)
        try:
            value = self.function(*self.args, **self.kwargs)
            if type(value) is not CoroutineType and not is_awaitable(value):
                return self._read(value)
            value = await (value if self.timeout is None else self._bounded(value, self.timeout))
            return value if type(value) in PLAIN else self._read(value)
        except BaseException as error:
            if isinstance(error, Exception) or self._leaves_task(error):
                raise
            raise as_exception(error, self.name or "The workflow") from error
        finally:
            try:  # noqa: SIM105 - at each call, and a context manager costs more
                CURRENT.reset(token)
            except ValueError:  # thrown away with a loop that nobody runs any more, in whatever context
                pass

    async def finish(self, awaitable: Awaitable[Any]) -> Any:
        """Await what `block` has found, as `suspend` would."""
        return await Call(self.scope, lambda: awaitable, (), {}, self.timeout, self.name).suspend()

    def _awaits(self, value: Any) -> BaseException:
        if self.moves and (self.scope.step is None or running_loop() is not None):
            return Awaits(value)
        close(value)
        return DBOSException(
            f"{self.name or 'The function'} gave an awaitable where nothing can await it, so its body did not run. "
            "Declare it, and every decorator around it, with `async def`, and call it from an async workflow."
        )

    def _read(self, value: Any) -> Any:
        if is_unread(value):
            close(value)
            raise DBOSException(
                f"{self.name or 'The workflow function'} gave a generator, so its body did not run. Return a value."
            )
        return value

    def _passes(self, error: BaseException) -> bool:
        """Whether the engine unwinds the run with it, or a task is cancelled; a user may raise the same by hand."""
        if isinstance(error, TASK_CANCELLED):
            return True
        run = self.scope.run
        unwinds = isinstance(error, (Unwind, DBOSBaseException, BaseExceptionGroup))
        return unwinds and (run.unwinding or run.verdict is not None)

    def _leaves_task(self, error: BaseException) -> bool:
        """As `_passes`, in a task: Ctrl-C passes on the main thread, an exit never, for it would end the loop of others.

        Python closes a task that is left behind by a GeneratorExit; then no task is running here.
        """
        if isinstance(error, KeyboardInterrupt):
            return is_interrupt(error)
        if isinstance(error, GeneratorExit):
            tree, task = self.scope.run.tasks, running_task()
            return tree is None or task is None or (task is not tree.main and task not in tree.others)
        return self._passes(error)

    async def _bounded(self, awaitable: Any, seconds: float) -> Any:
        bound = asyncio.timeout(seconds)
        try:
            async with bound:
                return await awaitable
        except TimeoutError:
            if bound.expired():
                raise DBOSStepTimeoutError(self.name, seconds) from None
            raise


class Settled:
    """Wait until all that the run handed over is durable; raises what became of it otherwise."""

    __slots__ = ("run",)

    def __init__(self, run: Run) -> None:
        self.run = run

    def block(self) -> None:
        while not self.run.is_settled():
            waker = ThreadWaker()
            self.run.core.committer.before_blocking()
            if self.run.wake_when_settled(waker):
                waker.wait()

    async def suspend(self) -> None:
        while not self.run.is_settled():
            waker = LoopWaker(self.run.core.inbox())
            if self.run.wake_when_settled(waker):
                await waker.wait()


class Answered:
    """Effect: wait until each write of the run has its answer, whatever it is."""

    __slots__ = ("run",)

    def __init__(self, run: Run) -> None:
        self.run = run

    def block(self) -> None:
        waker = ThreadWaker()
        while self.run.wake_when_settled(waker):
            self.run.core.committer.before_blocking()
            waker.wait()
            waker = ThreadWaker()

    async def suspend(self) -> None:
        waker = LoopWaker(self.run.core.inbox())
        while self.run.wake_when_settled(waker):
            await waker.wait()
            waker = LoopWaker(self.run.core.inbox())


class Recorded:
    """Hand a write to the committer and go on when it is durable; gives its result.

    A task that is cancelled meanwhile gets the result all the same: what is recorded is what the
    user's code sees. `cancelled` tells an operation that has more to wait for. `then` is woken with the answer, before
    the caller is.
    """

    __slots__ = ("cancelled", "core", "run", "then", "write")

    def __init__(self, core: Engine, write: Write, run: Run | None = None, then: Waker | None = None) -> None:
        self.core = core
        self.write = write
        self.run = run
        self.then = then
        self.cancelled = False

    def block(self) -> Result:
        waker = ThreadWaker()
        ticket = self.core.committer.submit(self.write, self.run, self._waker(waker))
        self.core.committer.before_blocking()
        while ticket.result is None:
            waker.wait()
        return ticket.result

    def _waker(self, waker: Waker) -> Waker:
        return waker if self.then is None else _Both(self.then, waker)

    async def suspend(self) -> Result:
        waker = LoopWaker(self.core.inbox())
        ticket = self.core.committer.submit(self.write, self.run, self._waker(waker))
        while ticket.result is None:
            try:
                await waker.wait()
            except asyncio.CancelledError:
                self.cancelled = True
                waker = LoopWaker(self.core.inbox())  # the future of the other is cancelled
                ticket.waker = self._waker(waker)
        assert ticket.result is not None  # noqa: S101
        return ticket.result


class _Both:
    """Two wakers, one after the other."""

    __slots__ = ("_first", "_second")

    def __init__(self, first: Waker, second: Waker) -> None:
        self._first = first
        self._second = second

    def wake(self) -> None:
        try:
            self._first.wake()
        finally:
            self._second.wake()


class Query:
    """Ask the database; repeated with back-off while it does not answer."""

    __slots__ = ("core", "work")

    def __init__(self, core: Engine, work: Callable[[], Any]) -> None:
        self.core = core
        self.work = work

    def block(self) -> Any:
        return self.core.ask(self.work)

    async def suspend(self) -> Any:
        loop = asyncio.get_running_loop()
        # What the work decodes may set context variables: they end with it.
        ask = functools.partial(contextvars.copy_context().run, self.core.ask, self.work)
        pause = 0.05
        while True:
            try:
                answer = loop.run_in_executor(self.core.readers, ask)
            except RuntimeError as error:
                self.core.refuse_when_stopped()
                if "thread" not in str(error):
                    raise
                self.core.pool.shortage.noted(error)
                await asyncio.sleep(pause)
                pause = min(pause * 2, 1.0)
            else:
                return await answer


class Reap:
    """End what the workflow function left running: cancel it, then wait for it, bounded."""

    __slots__ = ("run", "seconds")

    def __init__(self, run: Run, seconds: float = 5.0) -> None:
        self.run = run
        self.seconds = seconds

    def block(self) -> None:
        return

    async def suspend(self) -> None:
        if self.run.tasks is not None:
            await self.run.tasks.close(self.seconds)

"""Run user code as a step: call it, retry it, checkpoint what came of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from dbos_events.engine.context import Scope
from dbos_events.engine.effects import TASK_CANCELLED, Call, Flow
from dbos_events.engine.keys import arguments_changed, noted, shown_arguments
from dbos_events.engine.operations.common import operation
from dbos_events.engine.preempting import PreemptibleCall
from dbos_events.engine.publishing import Announcement
from dbos_events.engine.shield import may_write
from dbos_events.engine.waits import Pause
from dbos_events.errors import DBOSMaxStepRetriesExceeded, SerializationError
from dbos_events.model.workflow import StepOptions, StepStatus
from dbos_events.serialization import encoded, fingerprint, not_storable, stored_error
from dbos_events.storage.writes import Write

if TYPE_CHECKING:
    from dbos_events.engine.keys import StepKey
    from dbos_events.engine.run import Place, Run
    from dbos_events.serialization import Codec
    from dbos_events.storage.writes import Checkpoint


class StepCall:
    """One call of a step at its place in the run."""

    __slots__ = ("args", "arguments", "function", "key", "kwargs", "name", "options", "place", "run")

    def __init__(
        self,
        run: Run,
        place: Place,
        key: StepKey,
        name: str,
        options: StepOptions,
        function: Callable[..., Any],
        args: Sequence[Any],
        kwargs: Mapping[str, Any],
    ) -> None:
        self.run = run
        self.place = place
        self.key = key
        self.name = name
        self.options = options
        self.function = function
        self.args = args
        self.kwargs = kwargs
        self.arguments = fingerprint(args, kwargs)

    def flow(self) -> Flow[Any]:
        """Give the recorded outcome, or call the function and record what it did.

        The checkpoint is handed over, not waited for: the run's next operation waits. The
        function is called at least once; its recorded outcome is one.
        """
        return operation(
            self.run, self.place, self.name, self.arguments, self._fresh, noted=self._noted_with_arguments
        )

    def _fresh(self) -> Flow[Any]:
        started_at = self.run.core.clock.now_ms()
        retried = self.options.retries_allowed
        status = StepStatus(self.place.number, *((0, self.options.attempts) if retried else ()))
        scope = Scope(self.run, "", status, key=self.key)
        under_way = self.run.core.runner.under_way
        under_way[self] = started_at
        try:
            if self.options.idempotency_key is not None:
                declared = yield Call(scope, self.options.idempotency_key, self.args, self.kwargs)
                self.key.declare(declared, self.name)
            if self.run.used_keys is not None:
                self._refuse_other_arguments()
            if self.options.retries_allowed:
                output = yield from self._attempts(scope, status)
            else:
                output = yield self._attempt(scope)
            codec = self.run.core.codecs.default
            text = self._encoded(codec, output)
        except Exception as error:
            name, stored = stored_error(self.run.core.codecs.default, error)
            entry = self._record(started_at, name, None, stored)
            self.run.note(error, entry)
            raise
        except TASK_CANCELLED:
            self._settle_entries()
            raise
        finally:
            under_way.pop(self, None)
        self._record(started_at, codec.name, text, None, attempt=status.current_attempt or 0)
        return output

    def _encoded(self, codec: Codec, output: object) -> str | None:
        try:
            return encoded(codec, output)
        except SerializationError as error:
            what = f"What step {self.name} (number {self.place.number}) of workflow {self.run.id} returned"
            raise not_storable(what, error) from error.__cause__

    def _refuse_other_arguments(self) -> None:
        """Stop the run where the key of this call went out with other arguments in an earlier generation."""
        run = self.run
        if run.used_keys is None:
            return
        problem = run.used_keys.settle(self.key, self.name, self.arguments, self._shown)
        if problem is not None:
            error = arguments_changed(run.id, problem, of_an_event=run.origin is not None)
            run.stop(error)
            raise error

    def _noted_with_arguments(self) -> str:
        """For a call that may be made again, with arguments that people have to compare."""
        return noted(self.arguments, self.key, self._shown() if self.key.asked else None)

    def _shown(self) -> str:
        return shown_arguments(self.args, self.kwargs)

    def _attempt(self, scope: Scope) -> Call:
        kind = PreemptibleCall if self.options.preemptible else Call
        return kind(
            scope, self.function, self.args, self.kwargs, self.options.timeout_seconds, self.name, moves=True
        )

    def _attempts(self, scope: Scope, status: StepStatus) -> Flow[Any]:
        errors: list[BaseException] = []
        while True:
            try:
                return (yield self._attempt(scope))
            except Exception as error:
                errors.append(error)
                if not (yield from self._tries_again(scope, error)):
                    raise
            if len(errors) >= self.options.attempts:
                raise DBOSMaxStepRetriesExceeded(self.name, self.options.attempts, errors)
            yield Pause(self.run.core, self.run, self.options.delay_after(len(errors)))
            self.run.enter()
            status.current_attempt = len(errors)

    def _tries_again(self, scope: Scope, error: BaseException) -> Flow[bool]:
        if self.options.should_retry is None:
            return True
        return bool((yield Call(scope, self.options.should_retry, (error,), {}, name="should_retry")))

    def _settle_entries(self) -> None:
        """What a cancelled step has written into streams counts for nothing."""
        run = self.run
        if run.outlet is None or not may_write(run):
            return
        settled = run.outlet.settle(self.place.number, None)
        if settled is not None:
            run.defer(Write(run.id, run.take, run.generation, change=settled))

    def _record(
        self,
        started_at: int,
        codec: str,
        output: str | None,
        error: str | None,
        attempt: int | None = None,
    ) -> Checkpoint | None:
        """Hand the outcome over, unless the run may not write any more; `attempt` is the one that ended well."""
        run = self.run
        if not may_write(run):
            return None
        write = run.checkpoint(
            self.place,
            self.name,
            arguments=noted(self.arguments, self.key) if error is None else self._noted_with_arguments(),
            codec=codec,
            output=output,
            error=error,
            started_at=started_at,
            completed_at=run.core.clock.now_ms(),
        )
        waker = None
        if run.outlet is not None:
            write.change = settled = run.outlet.settle(self.place.number, attempt)
            waker = None if settled is None else Announcement(run.core, run.id, settled)
        run.hand_over(write, waker)
        return write.checkpoint

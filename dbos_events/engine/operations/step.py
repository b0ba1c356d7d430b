"""Run user code as a step: call it, retry it, checkpoint what came of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from dbos_events.engine.context import Scope
from dbos_events.engine.effects import TASK_CANCELLED, Call, Flow
from dbos_events.engine.keys import arguments_changed, noted, shown_arguments
from dbos_events.engine.operations.common import operation
from dbos_events.engine.preempting import PreemptibleCall
from dbos_events.engine.shield import may_write
from dbos_events.engine.values_and_streams import Announcement
from dbos_events.engine.waits import Pause
from dbos_events.errors import DBOSMaxStepRetriesExceeded, SerializationError
from dbos_events.model.workflow import StepOptions, StepStatus
from dbos_events.serialization import encoded, fingerprint, not_storable, stored_error
from dbos_events.storage.writes import Write

if TYPE_CHECKING:
    from dbos_events.engine.keys import StepKey
    from dbos_events.engine.run import Run
    from dbos_events.engine.runvalues import Place
    from dbos_events.storage.writes import Checkpoint


class StepCall:
    """One call of a step at its place in the run."""

    __slots__ = (
        "_branch", "_key", "_occurrence", "args", "arguments", "function", "kwargs", "name", "options", "place", "run",
    )  # fmt: skip

    def __init__(
        self,
        run: Run,
        place: Place,
        branch: Scope,
        name: str,
        options: StepOptions,
        function: Callable[..., Any],
        args: Sequence[Any],
        kwargs: Mapping[str, Any],
    ) -> None:
        self.run = run
        self.place = place
        self.name = name
        # Taken at the call, as its place is; the key itself is made when somebody asks for it.
        self._branch = branch
        self._occurrence = branch.count(name)
        self._key: StepKey | None = None
        self.options = options
        self.function = function
        self.args = args
        self.kwargs = kwargs
        self.arguments = fingerprint(args, kwargs)

    @property
    def key(self) -> StepKey:
        """Its idempotency key."""
        key = self._key
        if key is None:
            key = self._key = self._branch.key_of(self.name, self._occurrence)
        return key

    def flow(self) -> Flow[Any]:
        """Give the recorded outcome, or call the function and record what it did.

        The checkpoint is handed over, not waited for: the run's next operation waits. The
        function is called at least once; its recorded outcome is one.
        """
        return operation(
            self.run, self.place, self.name, self.arguments, self._fresh, noted=self._noted_with_arguments
        )

    def _fresh(self) -> Flow[Any]:
        run, options = self.run, self.options
        core = run.core
        started_at = core.clock.now_ms()
        status = StepStatus(self.place.number, *((0, options.attempts) if options.retries_allowed else ()))
        scope = Scope(run, "", status, self)
        under_way = core.runner.under_way
        under_way[self] = started_at
        try:
            if options.idempotency_key is not None:
                declared = yield Call(scope, options.idempotency_key, self.args, self.kwargs)
                self.key.declare(declared, self.name)
            if run.used_keys is not None:
                self._refuse_other_arguments()
            if options.retries_allowed:
                output = yield from self._attempts(scope, status)
            else:
                output = yield self._attempt(scope)
            codec = core.codecs.default
            try:
                text = encoded(codec, output)
            except SerializationError as error:
                raise self._not_storable(error) from error.__cause__
        except Exception as error:
            name, stored = stored_error(core.codecs.default, error)
            entry = self._record(started_at, name, None, stored)
            run.note(error, entry)
            raise
        except TASK_CANCELLED:
            self._settle_entries()
            raise
        finally:
            under_way.pop(self, None)
        self._record(started_at, codec.name, text, None, attempt=status.current_attempt or 0)
        return output

    def _not_storable(self, error: SerializationError) -> Exception:
        what = f"What step {self.name} (number {self.place.number}) of workflow {self.run.id} returned"
        return not_storable(what, error)

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
        key = self._key
        return (
            self.arguments
            if key is None
            else noted(self.arguments, key, self._shown() if key.asked else None)
        )

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
        run, key = self.run, self._key
        if run.unwinding or (run.verdict is not None and not may_write(run)):
            return None
        if key is None:
            arguments = self.arguments
        else:
            arguments = noted(self.arguments, key) if error is None else self._noted_with_arguments()
        write = run.checkpoint(
            self.place,
            self.name,
            arguments=arguments,
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

"""What every durable operation does first and last."""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import TYPE_CHECKING, Any

from dbos_events.engine.effects import TASK_CANCELLED, Effect, Flow, Settled
from dbos_events.engine.recall import Recall
from dbos_events.engine.replay import NOTE
from dbos_events.engine.runvalues import Place
from dbos_events.engine.shield import may_write
from dbos_events.engine.waits import Leased
from dbos_events.errors import SerializationError
from dbos_events.serialization.raised import is_interrupt, text_of
from dbos_events.storage.writes import CANCELLED_CALL

if TYPE_CHECKING:
    from dbos_events.engine.run import Run
    from dbos_events.storage.writes import Checkpoint


def deliver(run: Run, entry: Checkpoint) -> Any:
    """Return what the call returned when it was recorded, or raise what it raised.

    What cannot be read ends the run, whatever the user's code makes of it: to go on without it would be
    to go on as if the call had failed.
    """
    error, value = None, None
    try:
        codec = run.core.codecs.get(entry.codec or "json")
        if entry.error is not None:
            error = codec.decode_error(entry.error)
        elif entry.output is not None:
            value = codec.decode(entry.output)
    except BaseException as why:
        if is_interrupt(why):
            raise
        raise unreadable(run, entry, text_of(why)) from None
    if error is not None:
        run.note(error, entry)
        raise error
    return value


def unreadable(run: Run, entry: Checkpoint, why: object) -> SerializationError:
    """Stop the run for a checkpoint that is damaged, or of a codec that is not known here; gives its verdict."""
    error = SerializationError(
        f"The checkpoint of step {entry.step} ({entry.name}) of workflow {run.id} cannot be read: {why}"
    )
    run.stop(error)
    return error


def operation(
    run: Run,
    place: Place,
    name: str,
    arguments: str | None,
    fresh: Callable[[], Flow[Any]],
    recorded: Callable[[Run, Checkpoint], Any] = deliver,
    noted: Callable[[], str | None] | None = None,
    may_go_on: Callable[[Run], bool] | None = None,
) -> Flow[Any]:
    """One durable call: what was `recorded` for it, in its turn, or what `fresh` does and records now.

    A call that is cancelled before it has recorded anything is recorded as cancelled: what is
    recorded is what the user's code saw. `noted` gives what is stored of its arguments then. `may_go_on` tells for a
    call that need not wait for all that the run has handed over whether it may be done now.
    """
    run.open_calls += 1
    try:
        entry = None if run.is_clear() else (yield from _replayed(run, place, name, arguments, may_go_on))
        if entry is None:
            return (yield from fresh())
    except TASK_CANCELLED as cancelled:
        record_cancelled(run, place, name, arguments if noted is None else noted(), cancelled)
        raise
    finally:
        run.open_calls -= 1
        if run.tasks is not None and run.tasks.waits:
            run.tasks.consider_parking()  # what the others wait for is all that is left, unless this branch goes on
    return recorded(run, entry)


def _replayed(
    run: Run,
    place: Place,
    name: str,
    arguments: str | None,
    may_go_on: Callable[[Run], bool] | None = None,
) -> Flow[Checkpoint | None]:
    """The recorded outcome of this call in its turn; None when it has to be done now.

    What the run handed over before is durable when this returns None (promise P5).
    """
    if run.history is not None:
        entry = run.history.find(run, place.call, name, arguments)
        # Taken by a call that does not fit any more; before the wait, in which this one may be cancelled and recorded.
        if entry is None and place.number in run.history.numbers:
            place.number = run.take_number()
        yield Recall(run, entry)
        if entry is not None:
            return entry
    if not (run.is_settled() if may_go_on is None else may_go_on(run)):
        yield Settled(run)
    if not run.core.holds_lease:
        yield Leased(run)
    run.enter()
    return None


def follows(run: Run) -> bool:
    """For a call that does nothing but write behind what the run has handed over: it need not wait for that.

    All writes of a run go out in their order, and what comes after a refused one is refused. Raises what stopped the run.
    """
    run.is_settled()
    return True


def record_cancelled(
    run: Run, place: Place, name: str, arguments: str | None, cancelled: BaseException
) -> None:
    """Note that the call was cancelled, unless history holds it already or the run may not write."""
    known = run.history.by_call.get(place.call) if run.history is not None else None
    if known is not None and known.codec == CANCELLED_CALL:
        run.note(cancelled, known, cancelled=True)
    if known is not None or not may_write(run):
        return
    now = run.core.clock.now_ms()
    write = run.checkpoint(
        place, name, arguments=arguments, codec=CANCELLED_CALL, started_at=now, completed_at=now
    )
    run.note(cancelled, write.checkpoint, cancelled=True)
    run.defer(write)


def noted_beside(place: Place) -> Place:
    """Where something is noted beside the call at this place, while it is under way."""
    return Place(f"{place.call}{NOTE}", -place.number)


def counted(run: Run, flow: Flow[Any]) -> Generator[Effect, Any, Any]:
    """Let the run know while a call of it is open."""
    run.open_calls += 1
    try:
        return (yield from flow)
    finally:
        run.open_calls -= 1

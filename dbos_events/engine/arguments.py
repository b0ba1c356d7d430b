"""What the function of a run is called with, and why that of an event is not called after all."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dbos_events.engine.payload import Binding
    from dbos_events.engine.run import Run
    from dbos_events.model.message_type import Message


class ExpiredEvent(Exception):
    """The event was too late when its turn came; its handler is not called."""


def arguments_of(run: Run, binding: Binding) -> tuple[Any, ...] | None:
    """What the handler is called with in `run`; None when the event is not to be run after all.

    Raises:
        UndecodablePayload: The value is not what the handler takes.
        TryAgain: Its codec cannot tell now.
        FilterFailed: `when`, which is asked again, or `expires` could not judge the event.
        ExpiredEvent: It is too late.
    """
    if run.origin is None or run.verdict is not None:
        return run.args
    (message,) = run.args
    if run.origin.asks_again and binding.when is not None and not binding.when(message):
        return None
    if binding.until is not None:
        refuse_late(run, binding.until, message)
    return run.args if binding.decode is None else (binding.decode(message),)


def refuse_late(run: Run, time_of: Callable[[Message], int | None], message: Any) -> None:
    """Raise where the event of a run that has not begun is too late.

    It has begun when something of it is recorded, as in rule 12; then it goes on, in whichever process. Further attempts
    run, and so does what an operator redrives.

    Raises:
        ExpiredEvent: It is too late.
        FilterFailed: That cannot be said.
    """
    if run.history is not None or run.generation:
        return
    until = time_of(message)
    if until is not None and run.core.clock.now_ms() > until:
        raise ExpiredEvent

"""What every durable operation does first and last."""

from __future__ import annotations

from collections.abc import Generator
from typing import TYPE_CHECKING, Any

from dbos_events.engine.effects import Effect, Flow, Settled
from dbos_events.engine.replay import Recall

if TYPE_CHECKING:
    from dbos_events.engine.run import Place, Run
    from dbos_events.storage.writes import Checkpoint


def replayed(run: Run, place: Place, name: str, arguments: str | None) -> Flow[Checkpoint | None]:
    """The recorded outcome of this call in its turn; None when it has to be done now.

    What the run handed over before is durable when this returns None (promise P5).
    """
    run.enter()
    if run.history is not None:
        entry = run.history.find(run, place.call, name, arguments)
        yield Recall(run, entry)
        if entry is not None:
            return entry
    if not run.is_settled():
        yield Settled(run)
    run.enter()
    return None


def deliver(run: Run, entry: Checkpoint) -> Any:
    """Return what the call returned when it was recorded, or raise what it raised."""
    codec = run.core.codecs.get(entry.codec or "json")
    if entry.error is not None:
        raise codec.decode_error(entry.error)
    return None if entry.output is None else codec.decode(entry.output)


def counted(run: Run, flow: Flow[Any]) -> Generator[Effect, Any, Any]:
    """Let the run know while a call of it is open."""
    run.open_calls += 1
    try:
        return (yield from flow)
    finally:
        run.open_calls -= 1

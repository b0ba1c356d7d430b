"""Wait for another workflow's result from within a workflow, or from outside."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from dbos_events.engine.ends import EndWait
from dbos_events.engine.operations.common import operation
from dbos_events.serialization import encoded, stored_error
from dbos_events.storage.writes import Park, result_key

if TYPE_CHECKING:
    from dbos_events.engine.core import Core
    from dbos_events.engine.effects import Flow
    from dbos_events.engine.run import Run
    from dbos_events.engine.runvalues import Ending, Place

NAME = "DBOS.getResult"


def ending_of(
    core: Core, workflow_id: str, awaited: Run | None, run: Run | None, poll: float
) -> Flow[Ending]:
    """Wait until the workflow has ended, wherever it runs; gives its ending."""

    def peek() -> Ending | None:
        ending = awaited.ending if awaited is not None else None
        return ending if ending is not None and ending.kind == "ended" else None

    def look() -> Ending | None:
        return core.stored_ending(workflow_id)

    ending: Ending = yield EndWait(
        core,
        run,
        channel=f"workflow:{workflow_id}",
        peek=peek,
        look=look,
        is_here=lambda: awaited is not None and awaited.ending is None and awaited.verdict is None,
        poll=poll,
        park=Park(None, (result_key(workflow_id),)),
    )
    return ending


def result_of(core: Core, workflow_id: str, awaited: Run | None, poll: float) -> Flow[Any]:
    """The result of a workflow for a caller outside of workflows: its value, or its error raised."""
    ending = yield from ending_of(core, workflow_id, awaited, None, poll)
    if ending.error is not None:
        raise ending.error
    return ending.value


def child_result(
    core: Core, run: Run, place: Place, workflow_id: str, awaited: Run | None, poll: float
) -> Flow[Any]:
    """The result of a workflow for another workflow; recorded, so a replay gets it again."""

    def fresh() -> Flow[Any]:
        started_at = core.clock.now_ms()
        ending = yield from ending_of(core, workflow_id, awaited, run, poll)
        codec = core.codecs.default
        name, error = codec.name, None
        if ending.error is not None:
            name, error = stored_error(codec, ending.error)
        write = run.checkpoint(
            place,
            NAME,
            codec=name,
            output=encoded(codec, ending.value),
            error=error,
            child_id=workflow_id,
            started_at=started_at,
            completed_at=core.clock.now_ms(),
        )
        run.hand_over(write)
        if ending.error is not None:
            run.note(ending.error, write.checkpoint)
            raise ending.error
        return ending.value

    return operation(run, place, NAME, None, fresh)

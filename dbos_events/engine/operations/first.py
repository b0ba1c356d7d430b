"""Wait until one of several workflows has ended; which one is recorded."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from dbos_events.engine.ends import EndWait
from dbos_events.engine.operations.common import operation
from dbos_events.model.workflow import FINISHED, WorkflowFilter
from dbos_events.storage.writes import Park, result_key

if TYPE_CHECKING:
    from dbos_events.engine.core import Core
    from dbos_events.engine.effects import Flow
    from dbos_events.engine.run import Run
    from dbos_events.engine.runvalues import Place

NAME = "DBOS.waitFirst"


class _FirstOf(EndWait):
    """Wait until one of several workflows has ended, wherever they run; gives its id."""

    def __init__(
        self,
        core: Core,
        run: Run | None,
        workflow_ids: Sequence[str],
        runs: Sequence[Run | None],
        poll: float,
    ) -> None:
        here = {id_: one for id_, one in zip(workflow_ids, runs, strict=True) if one is not None}

        def peek() -> str | None:
            ended = (
                id_ for id_, one in here.items() if one.ending is not None and one.ending.kind == "ended"
            )
            return next(ended, None)

        def look() -> str | None:
            criteria = WorkflowFilter(
                workflow_ids=tuple(workflow_ids),
                statuses=tuple(sorted(FINISHED)),
                with_input=False,
                with_output=False,
            )
            rows = core.storage.workflows.find(criteria)
            first = min(rows, key=lambda row: (row["completed_at"] or 0, row["id"]), default=None)
            return None if first is None else str(first["id"])

        super().__init__(
            core,
            run,
            peek=peek,
            look=look,
            poll=poll,
            park=Park(None, tuple(result_key(one) for one in workflow_ids)),
        )
        self._channels += [f"workflow:{id_}" for id_ in workflow_ids]


def first_of(core: Core, workflow_ids: Sequence[str], runs: Sequence[Run | None], poll: float) -> Flow[str]:
    """The id of the workflow that has ended first, for a caller outside of workflows."""
    found: str = yield _FirstOf(core, None, workflow_ids, runs, poll)
    return found


def recorded_first_of(
    core: Core, run: Run, place: Place, workflow_ids: Sequence[str], runs: Sequence[Run | None], poll: float
) -> Flow[str]:
    """As `first_of`, from within a workflow: recorded, so a replay gets the same one."""

    def fresh() -> Flow[str]:
        started_at = core.clock.now_ms()
        found: str = yield _FirstOf(core, run, workflow_ids, runs, poll)
        codec = core.codecs.default
        write = run.checkpoint(
            place,
            NAME,
            codec=codec.name,
            output=codec.encode(found),
            child_id=found,
            started_at=started_at,
            completed_at=core.clock.now_ms(),
        )
        run.hand_over(write)
        return found

    return operation(run, place, NAME, None, fresh)

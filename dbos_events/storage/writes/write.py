"""One fenced write of one workflow: the unit that a run hands over and the committer writes.

It records a call, changes something, or both.
"""

from __future__ import annotations

from typing import ClassVar

from dbos_events.model.dataclass import dataclass

CANCELLED_CALL = "cancelled"
"""Stored in `codec` for a call that was cancelled before it had a result."""


@dataclass(slots=True)
class Checkpoint:
    """A step's stored outcome. `call` names the call within the run, `completion_order` says when it completed.

    `version` is that of the application that wrote it; it is known when it is read.
    """

    step: int
    call: str
    name: str
    completion_order: int
    arguments: str | None = None
    codec: str | None = None
    output: str | None = None
    error: str | None = None
    child_id: str | None = None
    started_at: int | None = None
    completed_at: int | None = None
    write_id: int = 0
    version: str | None = None
    recorded_in: int | None = None
    """The generation that made it, where that is an earlier one; known when it is read."""


class Change:
    """What a write changes beside recording a call. The members of the family are in the files of this folder.

    A member that says nothing of itself is written statement by statement, after all others of the batch that it
    might depend on, and leaves its run in the process.
    """

    __slots__ = ()

    closes: ClassVar[bool] = False
    """Whether the run has left the process once this is written."""

    starts: ClassVar[bool] = False
    """Whether it starts another workflow."""

    @property
    def fits_one_call(self) -> bool:
        """Whether the database's function for plain batches writes all of it."""
        return False


@dataclass(slots=True)
class Write:
    """One fenced change of one workflow; `take` 0 means that no running workflow stands behind it."""

    workflow_id: str = ""
    take: int = 0
    generation: int = 0
    checkpoint: Checkpoint | None = None
    change: Change | None = None
    reset_crashes: bool = False
    shielded: bool = False
    """Whether it is written also after the workflow was cancelled, as long as its run has the token."""

    @property
    def only_starts(self) -> bool:
        """Whether it starts a workflow, and no running workflow stands behind it."""
        return self.change is not None and self.change.starts and not self.workflow_id

    @property
    def closes(self) -> bool:
        """Whether the run has left the process once this is written."""
        return self.change is not None and self.change.closes

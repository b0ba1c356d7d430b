"""One fenced write of one workflow: the unit that a run hands over and the committer writes."""

from __future__ import annotations

from typing import ClassVar

from dbos_events.model.dataclass import dataclass
from dbos_events.storage.writes.checkpoint import Checkpoint


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

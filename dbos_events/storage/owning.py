"""What the engine asks about process starts and about workflows: the longest part of the storage protocol."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from dbos_events.model.workflow import WorkflowFilter
from dbos_events.storage.rows import (
    ExecutorRow,
    KeyDecision,
    NewExecutor,
    StoredEnding,
    TakenWorkflow,
    UsedKey,
)
from dbos_events.storage.writes import Checkpoint


class Executors(Protocol):
    """Process starts and their leases (protocol 1)."""

    def register_executor(self, new: NewExecutor) -> int:
        """Insert an executor with a fresh lease; gives its number."""
        ...

    def renew_lease(self, executor: int, lease_ms: int) -> bool:
        """Count one heartbeat and prolong the lease; False when the executor is dead."""
        ...

    def list_executors(self, application: str) -> list[ExecutorRow]:
        """The executors that are alive, and the dead ones that still own workflows."""
        ...

    def declare_dead(self, executor: int, heartbeat: int, reason: str) -> bool:
        """End an executor, final, unless it has beaten since `heartbeat`; True when it is dead now.

        Waits for the batches that the executor has under way, so that nothing it wrote can
        become visible later.
        """
        ...

    def release_executor(self, executor: int) -> None:
        """End this process's own executor gracefully: what it owns is free at once."""
        ...


class Workflows(Protocol):
    """Running, finding and changing workflows (protocol 2 to 5)."""

    def adopt_from_dead(
        self,
        executor: int,
        application: str,
        version: str,
        limits: Mapping[str, int | None],
        count: int,
        waits: bool = False,
    ) -> list[TakenWorkflow]:
        """Take unordered running workflows of dead executors; the named functions only.

        A started one of another version is taken only when no live process has that version, and with
        `waits` never; the same holds for `take_due`, and for claims.
        Those that crashed more often than `limits` allows are ended and not given back.
        """
        ...

    def free_lanes_of_dead(self, application: str) -> int:
        """Clear the owner of ordered events whose executor is dead; their lane's holder runs them."""
        ...

    def take_due(
        self,
        executor: int,
        application: str,
        version: str,
        names: Sequence[str],
        count: int,
        waits: bool = False,
    ) -> list[TakenWorkflow]:
        """Take parked workflows whose time has come; those of a queue go back to it instead.

        One of another version is left to a live process of that version, if there is one.
        """
        ...

    def next_wake(self, application: str) -> int | None:
        """Milliseconds until the next parked workflow is due; None when none is parked with a time."""
        ...

    def read_checkpoints(self, workflow_ids: Sequence[str]) -> dict[str, list[Checkpoint]]:
        """The checkpoints that the current generation of each workflow may use."""
        ...

    def read_divergences(self, workflow_ids: Sequence[str]) -> dict[str, dict[int, int]]:
        """Of each workflow, by generation: from which completion on the next generation may differ."""
        ...

    def read_used_keys(
        self, workflow_ids: Sequence[str]
    ) -> dict[str, tuple[list[UsedKey], list[KeyDecision]]]:
        """Of each workflow whose earlier generations asked for idempotency keys: the calls, and what was decided."""
        ...

    def read_ending(self, workflow_id: str) -> StoredEnding | None:
        """How a workflow stands; None when there is none."""
        ...

    def stopped_among(self, executor: int, workflow_ids: Sequence[str]) -> dict[str, str]:
        """Those of the workflows that this executor may not run any more, with their status."""
        ...

    def cancel(self, workflow_ids: Sequence[str]) -> list[str]:
        """Cancel what has not ended; gives the ids that were changed."""
        ...

    def resume(self, workflow_ids: Sequence[str]) -> list[str]:
        """Put cancelled, crashed-out and unfinished workflows back to run; gives the ids that were changed.

        What a live process runs under its token is taken from it.
        """
        ...

    def list_workflows(self, criteria: WorkflowFilter) -> list[Mapping[str, Any]]:
        """Rows that fit, as mappings of the stored columns."""
        ...

    def list_steps(self, workflow_id: str) -> list[Checkpoint]:
        """All checkpoints of a workflow's current generation, by number."""
        ...

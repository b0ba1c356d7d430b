"""Reading and changing workflows by id."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from dbos_events.model.dataclass import dataclass, replace
from dbos_events.model.workflow import ERROR, EXPIRED, SUCCESS, WorkflowFilter
from dbos_events.storage.apart import halved, refuses
from dbos_events.storage.database import Database, Tx
from dbos_events.storage.listing import listing
from dbos_events.storage.shapes import records
from dbos_events.storage.writes import Checkpoint
from dbos_events.storage.writes.waiting import result_key, wake


@dataclass(frozen=True, slots=True)
class StoredEnding:
    """How a workflow stands: its status and, once it has ended, its stored value or error."""

    status: str
    codec: str | None
    output: str | None
    error: str | None


class Workflows(Protocol):
    """Running, finding and changing workflows (protocol 2 to 5)."""

    def read_checkpoints(self, workflow_ids: Sequence[str]) -> dict[str, list[Checkpoint]]:
        """The checkpoints that the current generation of each workflow may use."""
        ...

    def list_steps(self, workflow_id: str) -> list[Checkpoint]:
        """All checkpoints of a workflow's current generation, by number."""
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

    def find(self, criteria: WorkflowFilter) -> list[Mapping[str, Any]]:
        """Rows that fit, as mappings of the stored columns."""
        ...


class WorkflowTable:
    """What verbs, handles and the command line ask of the workflows."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def read_checkpoints(self, workflow_ids: Sequence[str]) -> dict[str, list[Checkpoint]]:
        found: dict[str, list[Checkpoint]] = {workflow_id: [] for workflow_id in workflow_ids}
        rows = self._database.transact(lambda tx: tx.run("read_checkpoints", ids=workflow_ids))
        for row, entry in zip(rows, records(Checkpoint, rows, but=("workflow_id",)), strict=True):
            found[row.workflow_id].append(entry)
        return found

    def list_steps(self, workflow_id: str) -> list[Checkpoint]:
        rows = self._database.transact(lambda tx: tx.run("list_steps", workflow_id=workflow_id))
        return records(Checkpoint, rows)

    def read_ending(self, workflow_id: str) -> StoredEnding | None:
        row = self._database.transact(lambda tx: tx.one("read_ending", workflow_id=workflow_id))
        return None if row is None else records(StoredEnding, [row])[0]

    def stopped_among(self, executor: int, workflow_ids: Sequence[str]) -> dict[str, str]:
        rows = self._database.transact(
            lambda tx: tx.run("stopped_among", ids=workflow_ids, executor=executor)
        )
        return {row.id: row.status for row in rows}

    def cancel(self, workflow_ids: Sequence[str]) -> list[str]:
        return self._database.transact(lambda tx: cancel(tx, workflow_ids))

    def resume(self, workflow_ids: Sequence[str]) -> list[str]:
        changed: list[str] = []
        left = list(workflow_ids)
        while left:  # again where one was claimed in between
            resumed, left = self._database.transact(lambda tx, ids=left: _resume(tx, ids))  # type: ignore[misc]
            changed += resumed
        return changed

    def find(self, criteria: WorkflowFilter) -> list[Mapping[str, Any]]:
        try:
            return self._listed(criteria)
        except Exception as error:
            if not refuses(error) or not (criteria.with_input or criteria.with_output):
                raise
        # The input or the result of one of them cannot be read: it is shown without, and hides none of the others.
        bare = self._listed(replace(criteria, with_input=False, with_output=False))
        found, _ = halved(
            [row["id"] for row in bare],
            lambda ids: self._listed(
                WorkflowFilter(
                    workflow_ids=tuple(ids), with_input=criteria.with_input, with_output=criteria.with_output
                )
            ),
        )
        whole = {row["id"]: row for rows in found for row in rows}
        return [whole.get(row["id"], row) for row in bare]

    def _listed(self, criteria: WorkflowFilter) -> list[Mapping[str, Any]]:
        database = self._database
        query = listing(criteria, database.schema or None, postgres=database.dialect.is_postgres)

        def work(tx: Tx) -> list[Mapping[str, Any]]:
            return [dict(row) for row in tx.connection.execute(query).mappings()]

        return self._database.transact(work)


def cancel(tx: Tx, workflow_ids: Sequence[str]) -> list[str]:
    """End what has not ended; gives the ids that were changed."""
    changed = [row.id for row in tx.run("cancel", ids=workflow_ids)]
    cancelled(tx, changed, "cancelled")
    return changed


def cancelled(tx: Tx, ids: Sequence[str], reason: str) -> None:
    """What follows from the cancelling of these: their events are put aside, and who waits for their results is woken."""
    if ids:
        tx.run("quarantine_ended", ids=ids, reason=reason)
        tx.run("forget_parked_keys", ids=ids)
        wake(tx, [result_key(one) for one in ids])


def _resume(tx: Tx, ids: Sequence[str]) -> tuple[list[str], list[str]]:
    """The ids that were resumed, and those that another executor took meanwhile."""
    owners = [row.id for row in tx.run("lock_owners", ids=ids)]
    changed = [row.id for row in tx.run("resume", ids=ids, owners=owners)]
    if changed:
        tx.run("forget_parked_keys", ids=changed)
        tx.run("release_quarantine", ids=changed, released_as="resumed")
    unchanged = sorted(set(ids) - set(changed))
    rows = tx.run("read_tokens", ids=unchanged) if unchanged else ()
    taken = [
        row.id
        for row in rows
        if row.status not in (SUCCESS, ERROR, EXPIRED) and row.owner not in (None, *owners)
    ]
    return changed, taken

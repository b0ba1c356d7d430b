"""List workflows, look at one, cancel, resume."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from dbos_events.control.limits import with_time_limits
from dbos_events.control.signals import Tell, tell_nobody
from dbos_events.errors import DBOSException, DBOSNonExistentWorkflowError
from dbos_events.model.event import ReceivedEvent
from dbos_events.model.workflow import CANCELLED_SIGNAL, StepInfo, Unhandled, WorkflowFilter, WorkflowStatus
from dbos_events.serialization.headers import decode_headers

if TYPE_CHECKING:
    from dbos_events.serialization import Codecs
    from dbos_events.storage.protocol import Storage


class WorkflowControl:
    """What an operator may ask of, and do to, workflows; needs no registered functions."""

    def __init__(self, storage: Storage, codecs: Codecs, *, tell: Tell = tell_nobody) -> None:
        self._storage = storage
        self._codecs = codecs
        self._tell = tell

    def find(self, criteria: WorkflowFilter) -> list[WorkflowStatus]:
        """Workflows that fit. What cannot be decoded is shown as its stored text, never an error."""
        return [self._status(row) for row in self._storage.workflows.find(criteria)]

    def get(self, workflow_id: str) -> WorkflowStatus | None:
        """One workflow, or None when there is none with that id."""
        found = self.find(WorkflowFilter(workflow_ids=(workflow_id,)))
        return found[0] if found else None

    def steps(self, workflow_id: str, *, with_output: bool = True) -> list[StepInfo]:
        """The checkpoints of a workflow, by number, each time limit behind the call that it bounds."""
        return [
            StepInfo(
                function_id=entry.step,
                function_name=entry.name,
                output=self._value(entry.codec, entry.output) if with_output else None,
                error=self._error(entry.codec, entry.error) if with_output else None,
                child_workflow_id=entry.child_id,
                started_at_epoch_ms=entry.started_at,
                completed_at_epoch_ms=entry.completed_at,
            )
            for entry in with_time_limits(self._storage.workflows.list_steps(workflow_id))
        ]

    def event(self, workflow_id: str) -> ReceivedEvent | None:
        """The event that started a workflow; None where none did."""
        stored = self._storage.intake.read_events([workflow_id]).get(workflow_id)
        if stored is None:
            return None
        return ReceivedEvent(
            stored.topic, stored.partition, stored.offset, stored.key, stored.value, stored.timestamp
        )

    def event_headers(self, workflow_id: str) -> list[tuple[str, bytes | None]]:
        """The headers of the event that started a workflow; none where it has none, or where none did."""
        stored = self._storage.intake.read_events([workflow_id]).get(workflow_id)
        return [] if stored is None else decode_headers(stored.headers) or []

    def unhandled(self, application: str | None = None) -> list[Unhandled]:
        """Functions of waiting workflows that no live process has, of applications of which a process lives."""
        return self._storage.unhandled.functions(application)

    def stored_error(self, codec: str | None, text: str | None) -> BaseException | None:
        """An error as it was stored; one that cannot be read is told as such."""
        return self._error(codec, text)

    def cancel(self, workflow_ids: Sequence[str], *, children: bool = False) -> list[str]:
        """Cancel what has not ended; gives the ids that changed. Idempotent.

        With `children` all that they have started is cancelled in the same transaction, also what one that has ended
        has started. A running workflow learns it at its next durable operation, on another process at once where
        that listens, else within a heartbeat.
        """
        existing = self._existing(workflow_ids)
        changed = (
            self._storage.endings.cancel_trees(existing)
            if children
            else self._storage.workflows.cancel(existing)
        )
        self._tell([f"workflow:{workflow_id}" for workflow_id in changed])
        if changed:
            self._tell([CANCELLED_SIGNAL, "timers"])
        return changed

    def resume(self, workflow_ids: Sequence[str]) -> list[str]:
        """Let cancelled, crashed-out or unfinished workflows go on; finished ones stay as they are."""
        changed = self._storage.workflows.resume(self._existing(workflow_ids))
        self._tell(["queues"])
        return changed

    def _existing(self, workflow_ids: Sequence[str]) -> list[str]:
        criteria = WorkflowFilter(workflow_ids=tuple(workflow_ids), with_input=False, with_output=False)
        known = {str(row["id"]) for row in self._storage.workflows.find(criteria)} if workflow_ids else set()
        for workflow_id in workflow_ids:
            if workflow_id not in known:
                raise DBOSNonExistentWorkflowError(workflow_id)
        return list(workflow_ids)

    def _status(self, row: Mapping[str, Any]) -> WorkflowStatus:
        error = self._error(row.get("result_codec"), row.get("error"))
        return WorkflowStatus(
            workflow_id=row["id"],
            status=row["status"],
            name=row["name"],
            class_name=row["class_name"],
            config_name=row["config_name"],
            input=self._input(row.get("input_codec"), row.get("input")),
            output=self._value(row.get("result_codec"), row.get("output")),
            error=error,
            created_at=row["created_at"],
            updated_at=row["updated_at"],
            started_at=row["started_at"],
            completed_at=row["completed_at"],
            dequeued_at=row["started_at"] if row["queue"] else None,
            queue_name=row["queue"],
            priority=row["priority"],
            deduplication_id=row["deduplication_id"],
            queue_partition_key=row["queue_partition_key"],
            executor_id=row["executor_label"],
            app_version=row["version"],
            application_name=row["application"],
            workflow_timeout_ms=row["timeout_ms"],
            workflow_deadline_epoch_ms=row["deadline"],
            delay_until_epoch_ms=row["delay_until"],
            parent_workflow_id=row["parent_id"],
            forked_from=row["forked_from"],
            recovery_attempts=row["crashes"],
            generation=row["generation"],
            wake_at=row["wake_at"],
            end_reason=row["end_reason"],
            attributes=_attributes(row["attributes"]),
            schedule_name=row["schedule_name"],
        )

    def _input(self, codec: str | None, text: str | None) -> Any:
        value = self._value(codec, text)
        if isinstance(value, dict) and isinstance(value.get("args"), list):
            return {"args": tuple(value["args"]), "kwargs": value.get("kwargs", {})}
        return value

    def _value(self, codec: str | None, text: str | None) -> Any:
        if text is None:
            return None
        try:
            return self._codecs.get(codec or "json").decode(text)
        except Exception:  # noqa: BLE001 - one value of a list must not hide the others
            return text

    def _error(self, codec: str | None, text: str | None) -> BaseException | None:
        if text is None:
            return None
        try:
            return self._codecs.get(codec or "json").decode_error(text)
        except Exception as error:  # noqa: BLE001 - as above
            return DBOSException(f"The stored error cannot be read: {error}")


def _attributes(text: str | None) -> dict[str, Any] | None:
    """Attributes as they were given; what somebody else has written there is shown as it stands."""
    if text is None:
        return None
    try:
        value = json.loads(text)
    except ValueError:
        return {"": text}
    return value if isinstance(value, dict) else {"": value}

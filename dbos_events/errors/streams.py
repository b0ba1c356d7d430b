"""About streams."""

from __future__ import annotations

from typing import Any

from dbos_events.errors.base import DBOSException


class DBOSStreamTimeoutError(DBOSException):
    """No value came on a stream: in time, or before the stream ended (then `timeout_seconds` is None)."""

    code = "stream-timeout"

    def __init__(self, workflow_id: str, key: str, timeout_seconds: float | None = None) -> None:
        self.workflow_id = workflow_id
        self.key = key
        self.timeout_seconds = timeout_seconds
        why = (
            "it ended before. Read from an offset that it has"
            if timeout_seconds is None
            else f"none came within {timeout_seconds:g} seconds. Wait longer, or look whether the workflow still writes"
        )
        super().__init__(f"The stream {key!r} of workflow {workflow_id!r} has no such value: {why}.")

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.workflow_id, self.key, self.timeout_seconds)

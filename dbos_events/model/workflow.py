"""What a workflow and its steps look like from outside."""

from __future__ import annotations

from enum import Enum
from typing import Any

from dbos_events.model.dataclass import dataclass, field
from dbos_events.model.mapped import Mapped


class WorkflowStatusString(str, Enum):  # noqa: UP042 - formats as the peer does
    """The states of a workflow, by the names that DBOS Transact uses; EXPIRED is ours."""

    PENDING = "PENDING"
    SUCCESS = "SUCCESS"
    ERROR = "ERROR"
    MAX_RECOVERY_ATTEMPTS_EXCEEDED = "MAX_RECOVERY_ATTEMPTS_EXCEEDED"
    CANCELLED = "CANCELLED"
    ENQUEUED = "ENQUEUED"
    DELAYED = "DELAYED"
    EXPIRED = "EXPIRED"


PENDING = WorkflowStatusString.PENDING.value
SUCCESS = WorkflowStatusString.SUCCESS.value
ERROR = WorkflowStatusString.ERROR.value
MAX_RECOVERY_ATTEMPTS_EXCEEDED = WorkflowStatusString.MAX_RECOVERY_ATTEMPTS_EXCEEDED.value
CANCELLED = WorkflowStatusString.CANCELLED.value
ENQUEUED = WorkflowStatusString.ENQUEUED.value
DELAYED = WorkflowStatusString.DELAYED.value
EXPIRED = WorkflowStatusString.EXPIRED.value

CANCELLED_SIGNAL = "cancelled"
"""The channel on which processes learn that something was cancelled, which may run there."""

FINISHED = frozenset({SUCCESS, ERROR, MAX_RECOVERY_ATTEMPTS_EXCEEDED, CANCELLED, EXPIRED})


@dataclass(slots=True)
class WorkflowStatus:
    """One workflow as the database holds it; times are milliseconds since 1970 (UTC).

    `input` is `{"args": (...), "kwargs": {...}}`, or None where it was not loaded.
    """

    workflow_id: str
    status: str
    name: str
    class_name: str | None = None
    config_name: str | None = None
    input: dict[str, Any] | None = None
    output: Any = None
    error: BaseException | None = None
    created_at: int | None = None
    updated_at: int | None = None
    started_at: int | None = None
    completed_at: int | None = None
    dequeued_at: int | None = None
    queue_name: str | None = None
    priority: int = 0
    deduplication_id: str | None = None
    queue_partition_key: str | None = None
    executor_id: str | None = None
    app_version: str | None = None
    application_name: str | None = None
    workflow_timeout_ms: int | None = None
    workflow_deadline_epoch_ms: int | None = None
    delay_until_epoch_ms: int | None = None
    parent_workflow_id: str | None = None
    forked_from: str | None = None
    recovery_attempts: int = 0
    generation: int = 0
    wake_at: int | None = None
    attributes: dict[str, Any] | None = None
    schedule_name: str | None = None
    end_reason: str | None = None
    """Why it was cancelled: `cancelled`, `timeout`, `queue-timeout`; None where it ended by itself, or has not."""


@dataclass(slots=True)
class StepInfo(Mapped):
    """One checkpoint; `function_id` is the step's number, counted from 1 in call order."""

    function_id: int
    function_name: str
    output: Any
    error: BaseException | None
    child_workflow_id: str | None
    started_at_epoch_ms: int | None
    completed_at_epoch_ms: int | None


@dataclass(frozen=True, slots=True)
class WorkflowFilter:
    """Which workflows a listing shows; an empty field does not narrow it.

    Sequences mean "any of these". Times are milliseconds since 1970 and bound
    `created_at` inclusively. Rows come oldest first, or newest first with `descending`.
    """

    workflow_ids: tuple[str, ...] = ()
    id_prefix: tuple[str, ...] = ()
    statuses: tuple[str, ...] = ()
    names: tuple[str, ...] = ()
    applications: tuple[str, ...] = ()
    versions: tuple[str, ...] = ()
    queues: tuple[str, ...] = ()
    executors: tuple[str, ...] = ()
    parents: tuple[str, ...] = ()
    created_from: int | None = None
    created_until: int | None = None
    completed_from: int | None = None
    completed_until: int | None = None
    on_a_queue: bool = False
    has_parent: bool | None = None
    attributes: str | None = None
    """A JSON object; those that hold all of it fit."""
    limit: int | None = None
    offset: int | None = None
    descending: bool = False
    with_input: bool = True
    with_output: bool = True


@dataclass(slots=True)
class StepStatus:
    """Where the running step stands. `current_attempt` counts from 0; both are None where nothing is tried again."""

    step_id: int
    current_attempt: int | None = None
    max_attempts: int | None = None


@dataclass(frozen=True, slots=True)
class StepOptions:
    """How a step is named, retried and bounded.

    Args:
        name: The name in the history; the function's qualified name by default.
        retries_allowed: Whether a failing call is tried again.
        interval_seconds: Wait before the second attempt.
        max_attempts: Attempts in all, the first one counted.
        backoff_rate: Factor from each wait to the next; a wait is never above an hour.
        should_retry: Asked with the error; False ends the step with that error at once.
        timeout_seconds: Bound of each attempt; only for `async def` steps.
        preemptible: Whether it is interrupted at once when its workflow is cancelled; only for `async def` steps.
        idempotency_key: Called with the step's arguments; gives what `DBOS.idempotency_key` is in it.
    """

    name: str | None = None
    retries_allowed: bool = False
    interval_seconds: float = 1.0
    max_attempts: int = 3
    backoff_rate: float = 2.0
    should_retry: Any = field(default=None, compare=False)
    timeout_seconds: float | None = None
    idempotency_key: Any = field(default=None, compare=False)
    preemptible: bool = False

    @property
    def attempts(self) -> int:
        return max(1, self.max_attempts) if self.retries_allowed else 1

    def delay_after(self, attempt: int) -> float:
        """Seconds to wait after attempt number `attempt` (from 1) failed."""
        return min(self.interval_seconds * self.backoff_rate ** (attempt - 1), 3600.0)


@dataclass(frozen=True, slots=True)
class Unhandled:
    """A function that no live process of the application has, and how many workflows of it wait, at least."""

    application: str
    name: str
    waiting: int

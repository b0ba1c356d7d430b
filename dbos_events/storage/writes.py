"""What the committer asks the storage to write, and the answers.

A `Write` belongs to one workflow and is fenced by its owner token (executor, take). Writes
of many workflows go out in one transaction; each gets an answer of its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, TypeAlias

if TYPE_CHECKING:
    from dbos_events.storage.line import Line

CANCELLED_CALL = "cancelled"
"""Stored in `codec` for a call that was cancelled before it had a result."""


@dataclass(slots=True)
class Checkpoint:
    """A step's stored outcome. `call` names the call within the run, `order` when it completed.

    `version` is that of the application that wrote it; it is known when it is read.
    """

    step: int
    call: str
    name: str
    order: int
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


@dataclass(slots=True)
class NewWorkflow:
    """A workflow to insert: PENDING and owned by the writing executor, or ENQUEUED on `queue`.

    `start_id` tells an insert whose commit answer was lost from somebody else's.
    """

    id: str
    name: str
    application: str
    start_id: int
    status: str
    version: str | None
    codec: str | None = None
    input: str | None = None
    class_name: str | None = None
    config_name: str | None = None
    queue: str | None = None
    priority: int = 0
    deduplication_id: str | None = None
    queue_partition_key: str | None = None
    parent_id: str | None = None
    root_id: str | None = None
    timeout_ms: int | None = None
    deadline: int | None = None


@dataclass(slots=True)
class QuarantineNote:
    """Why an event's workflow is put aside."""

    consumer: int
    reason: str
    error: str | None
    attempts: int
    failure: Failure | None = None


@dataclass(frozen=True, slots=True)
class Failure:
    """The error that a generation ended with, and the steps that it came from.

    `type` and `message` say it to people and to filters without decoding anything. `steps` are the numbers
    of the checkpoints that the next generation does not get.
    """

    codec: str
    error: str
    type: str
    message: str
    steps: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class NextAttempt:
    """End this generation and begin the next one `delay_ms` from now."""

    delay_ms: int
    attempt: int
    reason: str
    failure: Failure


@dataclass(slots=True)
class Outcome:
    """How a workflow ended here."""

    status: str
    codec: str | None = None
    output: str | None = None
    error: str | None = None
    parent_id: str | None = None
    quarantine: QuarantineNote | None = None
    frees_lane: bool = True


@dataclass(slots=True)
class Park:
    """Give the workflow up until `wake_at` or until the workflow `awaited_id` has ended.

    `polls` says that it waits for more workflows than the one, so it has to look now and then.
    """

    wake_at: int | None
    awaited_id: str | None = None
    polls: bool = False


@dataclass(slots=True)
class Write:
    """One fenced change of one workflow; `take` 0 means that no running workflow stands behind it."""

    workflow_id: str = ""
    take: int = 0
    generation: int = 0
    checkpoint: Checkpoint | None = None
    start: NewWorkflow | None = None
    outcome: Outcome | None = None
    park: Park | None = None
    reset_crashes: bool = False
    retry: NextAttempt | None = None

    @property
    def only_starts(self) -> bool:
        """Whether it starts a workflow, and no running one has to do with it."""
        return self.start is not None and not self.workflow_id

    @property
    def closes(self) -> bool:
        """Whether the run has left the process once this is written."""
        return self.outcome is not None or self.park is not None or self.retry is not None


@dataclass(frozen=True, slots=True)
class Written:
    """It is durable, by this transaction or by one whose answer was lost."""


@dataclass(frozen=True, slots=True)
class Fenced:
    """Nothing was written: the workflow is not running under this token any more."""

    status: str | None


@dataclass(frozen=True, slots=True)
class Existing:
    """The workflow to start was there already; nothing was changed by the start."""

    workflow_id: str
    name: str
    status: str
    queue: str | None
    class_name: str | None


@dataclass(frozen=True, slots=True)
class Refused:
    """The database does not take this value; the workflow fails with the error."""

    error: Exception


Result: TypeAlias = Written | Fenced | Existing | Refused
WRITTEN = Written()


class Batches(Protocol):
    """Writing batches (protocol 2 and 3)."""

    def write_batch(self, executor: int, writes: Sequence[Write]) -> list[Result]:
        """Write checkpoints, starts, outcomes and parks in one transaction, fenced; answers in order.

        Safe to repeat after a lost commit answer: what is there already under the same token
        counts as written. Raises `ExecutorFenced` when the executor is dead, `BadWrite` when the
        database refuses a value (then nothing of the batch was written).
        """
        ...

    def open_line(self) -> Line | None:
        """A connection for `send_batch`; None where the database has none. Blocks until it stands.

        It is the caller's, who closes it, and uses it from one thread at a time.
        """
        ...

    def send_batch(self, line: Line, executor: int, writes: Sequence[Write]) -> bool:
        """Begin what `write_batch` does, and do not wait; False for a batch that takes more than one call.

        `line.receive` tells when all of it is written. Where it raises instead, or this does, the batch is to be
        written by `write_batch`, whatever has become of it: it may be written and its answer lost.
        """
        ...

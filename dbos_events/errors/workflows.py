"""About one workflow: it is not there, it ended, it was stopped."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from dbos_events.errors.base import DBOSBaseException, DBOSException


class _AboutWorkflow(DBOSException):
    """An error that names one workflow; it is rebuilt from the id alone."""

    template = "Workflow {workflow_id}"

    def __init__(self, workflow_id: str) -> None:
        self.workflow_id = workflow_id
        super().__init__(self.template.format(workflow_id=workflow_id))

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.workflow_id,)


class DBOSNonExistentWorkflowError(_AboutWorkflow):
    """There is no workflow with that id."""

    code = "workflow-not-found"
    template = (
        "There is no workflow with the id {workflow_id!r} in this database. Check the id and the schema."
    )


class DBOSNonExistentConsumerError(DBOSException):
    """No consumer of that name was ever registered; `known` are those that were."""

    code = "consumer-not-found"

    def __init__(self, name: str, application: str, known: Sequence[str] = ()) -> None:
        self.name = name
        self.application = application
        self.known = tuple(known)
        there = (
            f"It has {', '.join(self.known)}." if self.known else "It has none yet: they register at launch."
        )
        super().__init__(f"The application {application!r} has no consumer called {name!r}. {there}")

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.name, self.application, self.known)


class DBOSNonExistentQueueError(DBOSException):
    """The application has no queue of that name; `known` are those that it has."""

    code = "queue-not-found"

    def __init__(self, name: str, application: str, known: Sequence[str] = ()) -> None:
        self.name = name
        self.application = application
        self.known = tuple(known)
        there = f"It has {', '.join(self.known)}." if self.known else "It has none yet."
        super().__init__(f"The application {application!r} has no queue called {name!r}. {there}")

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.name, self.application, self.known)


class DBOSAwaitedWorkflowCancelledError(_AboutWorkflow):
    """The workflow whose result was awaited has been cancelled."""

    code = "awaited-workflow-cancelled"
    template = "The awaited workflow {workflow_id!r} was cancelled. Resume it to let it finish."


class DBOSWorkflowExpiredError(_AboutWorkflow):
    """The event of the awaited workflow was too late when its turn came, so its handler was not called."""

    code = "workflow-expired"
    template = (
        "The awaited workflow {workflow_id!r} has not run: by its consumer's `expires`, its event was too late when its "
        "turn came."
    )


class DBOSAwaitedWorkflowMaxRecoveryAttemptsExceeded(_AboutWorkflow):
    """The workflow whose result was awaited crashed its process too often."""

    code = "awaited-workflow-max-recovery-attempts"
    template = (
        "The awaited workflow {workflow_id!r} was stopped because its process crashed too often while "
        "it ran. Mend the cause and resume it."
    )


class DBOSConflictingWorkflowError(DBOSException):
    """The id is taken by another function's workflow."""

    code = "conflicting-workflow"

    def __init__(self, workflow_id: str, message: str | None = None) -> None:
        self.workflow_id = workflow_id
        super().__init__(message or f"The workflow id {workflow_id!r} belongs to another function.")

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.workflow_id, self.message)


class DBOSQueueDeduplicatedError(DBOSException):
    """A workflow with that deduplication id is on the queue and has not ended; `winner` is its id."""

    code = "queue-deduplicated"

    def __init__(
        self, workflow_id: str, queue_name: str, deduplication_id: str, winner: str | None = None
    ) -> None:
        self.workflow_id = workflow_id
        self.queue_name = queue_name
        self.deduplication_id = deduplication_id
        self.winner = winner
        holder = "an unfinished workflow" if winner is None else f"the unfinished workflow {winner!r}"
        super().__init__(
            f"Workflow {workflow_id!r} was not enqueued: queue {queue_name!r} holds {holder} "
            f"with the deduplication id {deduplication_id!r}."
        )

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.workflow_id, self.queue_name, self.deduplication_id, self.winner)


class DBOSWorkflowIDInUseError(_AboutWorkflow):
    """There is a workflow with that id already, and the start said that this is an error."""

    code = "workflow-id-in-use"
    template = (
        "There is a workflow with the id {workflow_id!r} already. Use another id, or leave workflow_id_reuse_policy out to "
        "get a handle on it."
    )


class MaxRecoveryAttemptsExceededError(DBOSException):
    """The workflow's process crashed more often than the workflow allows."""

    code = "max-recovery-attempts"

    def __init__(self, workflow_id: str, max_recovery_attempts: int) -> None:
        self.workflow_id = workflow_id
        self.max_recovery_attempts = max_recovery_attempts
        super().__init__(
            f"Workflow {workflow_id!r} was stopped: its process crashed more than {max_recovery_attempts} "
            "times while it ran. Mend the cause and resume it."
        )

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.workflow_id, self.max_recovery_attempts)


class DBOSUnexpectedStepError(DBOSException):
    """Replay asked for another step than history holds: the workflow is not deterministic.

    The message shows both histories. `version_mismatch` is true when the history was
    written by another application version.
    """

    code = "unexpected-step"

    def __init__(self, workflow_id: str, message: str, *, version_mismatch: bool = False) -> None:
        self.workflow_id = workflow_id
        self.version_mismatch = version_mismatch
        super().__init__(message)

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.workflow_id, self.message), {"version_mismatch": self.version_mismatch}


class DBOSArgumentsChangedError(DBOSException):
    """A step would be called under the idempotency key of an earlier attempt, with other arguments.

    It was not called; the message shows both. An event is redriven with the same key, or with a new one.
    """

    code = "arguments-changed"


class DBOSWorkflowCancelledError(DBOSBaseException):
    """The running workflow was cancelled; raised in it at its next durable operation."""

    code = "workflow-cancelled"


class DBOSWorkflowConflictIDError(DBOSBaseException):
    """Another process owns this workflow now; raised in the run that lost it."""

    code = "workflow-conflict"

    def __init__(self, workflow_id: str) -> None:
        self.workflow_id = workflow_id
        super().__init__(f"Workflow {workflow_id!r} is owned by another executor now; this run of it stops.")

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.workflow_id,)

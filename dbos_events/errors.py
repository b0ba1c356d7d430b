"""Every error that this package raises.

    DBOSException                              what `except Exception` sees
    ├── DBOSInitializationError                configuration, launch, migration
    │   ├── ConfigurationError
    │   ├── RegistrationError
    │   └── MigrationRequired
    ├── DBOSWorkflowFunctionNotFoundError
    ├── DBOSNonExistentWorkflowError
    ├── DBOSNonExistentConsumerError
    ├── DBOSConflictingWorkflowError
    ├── DBOSQueueDeduplicatedError
    ├── DBOSUnexpectedStepError                history and code disagree
    ├── DBOSMaxStepRetriesExceeded
    ├── DBOSStepTimeoutError
    ├── DBOSAwaitedWorkflowCancelledError
    ├── DBOSAwaitedWorkflowMaxRecoveryAttemptsExceeded
    ├── MaxRecoveryAttemptsExceededError
    ├── SerializationError
    ├── RecordedError                          a stored error whose class is gone
    ├── Quarantine                             raised by a handler: skip the retries
    │   ├── UndecodablePayload                 the event's value is not what its handler takes
    │   └── FilterFailed                       the consumer's `when` could not judge the event
    ├── TryAgain                               raised by a codec: what it needs does not answer now
    ├── StorageError
    │   ├── StorageUnavailable                 transient: the server does not answer
    │   └── BadWrite                           the database refuses this value
    ├── ExecutorFenced                         this process lost its lease
    └── ConnectorError
        ├── StaleTopic                         the answer is about a life of the topic that is over
        └── ClusterChanged                     the brokers are another cluster's

    DBOSBaseException                          passes through `except Exception`
    ├── DBOSWorkflowCancelledError
    └── DBOSWorkflowConflictIDError            another process owns the workflow now

The names that the field knows from DBOS Transact are kept.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


class DBOSException(Exception):
    """Base of all errors of this package; `message` is the text, `code` a stable word."""

    code: str = "error"

    def __init__(self, message: str) -> None:
        self.message = message
        super().__init__(message)


class DBOSBaseException(BaseException):
    """Base of what unwinds a workflow and must not be swallowed by `except Exception`."""

    code: str = "unwound"

    def __init__(self, message: str) -> None:
        self.message = message
        super().__init__(message)


class DBOSInitializationError(DBOSException):
    """The App cannot start as it is configured."""

    code = "initialization"


class ConfigurationError(DBOSInitializationError):
    """A setting is missing, malformed, or would break a promise."""

    code = "configuration"


class RegistrationError(DBOSInitializationError):
    """A decorated function cannot be registered as asked."""

    code = "registration"


class MigrationRequired(DBOSInitializationError):
    """The database's schema does not fit this code and may not be changed now."""

    code = "migration-required"


class DBOSWorkflowFunctionNotFoundError(DBOSException):
    """No function of that name is registered in this process."""

    code = "workflow-function-not-found"

    def __init__(self, workflow_id: str, message: str | None = None) -> None:
        self.workflow_id = workflow_id
        super().__init__(
            message
            or f"Workflow {workflow_id}: its function is not registered in this process. "
            "Import the module that defines it before DBOS.launch()."
        )

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.workflow_id, self.message)


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


class DBOSAwaitedWorkflowCancelledError(_AboutWorkflow):
    """The workflow whose result was awaited has been cancelled."""

    code = "awaited-workflow-cancelled"
    template = "The awaited workflow {workflow_id!r} was cancelled. Resume it to let it finish."


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
    """A workflow with that deduplication id waits or runs on the queue already."""

    code = "queue-deduplicated"

    def __init__(self, workflow_id: str, queue_name: str, deduplication_id: str) -> None:
        self.workflow_id = workflow_id
        self.queue_name = queue_name
        self.deduplication_id = deduplication_id
        super().__init__(
            f"Workflow {workflow_id!r} was not enqueued: queue {queue_name!r} holds an unfinished workflow "
            f"with the deduplication id {deduplication_id!r}."
        )

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.workflow_id, self.queue_name, self.deduplication_id)


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


class DBOSMaxStepRetriesExceeded(DBOSException):
    """A step failed in every attempt; `errors` holds what each of them raised."""

    code = "max-step-retries"

    def __init__(self, step_name: str, max_retries: int, errors: Sequence[BaseException] = ()) -> None:
        self.step_name = step_name
        self.max_retries = max_retries
        self.errors = list(errors)
        last = f" Last error: {_shown(self.errors[-1])}" if self.errors else ""
        super().__init__(f"Step {step_name} failed in all of its {max_retries} attempts.{last}")

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.step_name, self.max_retries, self.errors)


def _shown(error: BaseException) -> str:
    name = type(error).__name__
    try:
        return f"{name}: {error}"
    except BaseException:  # noqa: BLE001 - it runs code of the user's class
        return name


class DBOSStepTimeoutError(DBOSException):
    """A step took longer than its `timeout_seconds`."""

    code = "step-timeout"

    def __init__(self, step_name: str, timeout_seconds: float) -> None:
        self.step_name = step_name
        self.timeout_seconds = timeout_seconds
        super().__init__(f"Step {step_name} did not finish within {timeout_seconds} s.")

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.step_name, self.timeout_seconds)


class SerializationError(DBOSException):
    """A value cannot be stored so that replay gets it back with the same type, or cannot be read."""

    code = "serialization"


class RecordedError(DBOSException):
    """A stored error whose own class cannot be imported or rebuilt in this process."""

    code = "recorded-error"

    def __init__(self, type_name: str, message: str) -> None:
        self.type_name = type_name
        self.recorded_message = message
        super().__init__(f"{type_name}: {message}")

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.type_name, self.recorded_message)


class Quarantine(DBOSException):
    """Raise it in a handler to quarantine the event now, without further attempts."""

    code = "quarantine"

    def __init__(self, reason: str) -> None:
        self.reason = reason
        super().__init__(reason)


class UndecodablePayload(Quarantine):
    """The value of an event does not decode, or is not what the handler's annotation says.

    The handler was not called. The record is stored as it came: mend model or codec and redrive it.
    """

    code = "undecodable"

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.reason = self.code


class FilterFailed(Quarantine):
    """The `when` of a consumer raised, so whether the event is to run is not known.

    The handler was not called. Mend `when` and redrive the event: it is asked again then.
    """

    code = "filter-failed"

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.reason = self.code


class TryAgain(DBOSException):
    """Raise it in a codec when what it needs (a schema registry) does not answer: another attempt may go better."""

    code = "unavailable"


class StorageError(DBOSException):
    """The database answered with an error."""

    code = "storage"


class StorageUnavailable(StorageError):
    """The database does not answer, or asked to try again; the work is repeated with back-off."""

    code = "storage-unavailable"


class BadWrite(StorageError):
    """The database refuses a value; what carried it fails alone."""

    code = "bad-write"


class ExecutorFenced(DBOSException):
    """This process was declared dead (its lease ended) and may write no more under its old identity."""

    code = "executor-fenced"

    def __init__(self, executor: int) -> None:
        self.executor = executor
        super().__init__(
            f"Executor {executor} is no longer alive in the database: its lease ended while the process "
            "did not renew it. Its runs were dropped here and go on elsewhere."
        )

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.executor,)


class ConnectorError(DBOSException):
    """A connector cannot do what it was asked to do."""

    code = "connector"


class StaleTopic(ConnectorError):
    """A broker told the id of a life of the topic that is over: ask again."""

    code = "stale-topic"


class ClusterChanged(ConnectorError):
    """The brokers belong to another cluster than the one that the consumer has read."""

    code = "cluster-changed"


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

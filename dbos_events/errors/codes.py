"""The numbers that DBOS Transact gives to kinds of errors, for programs that look at them."""

from __future__ import annotations

from enum import Enum


class DBOSErrorCode(Enum):
    """Numbers of errors; `error.dbos_error_code` is the value of one."""

    ConflictingIDError = 1
    RecoveryError = 2
    InitializationError = 3
    WorkflowFunctionNotFound = 4
    NonExistentWorkflowError = 5
    MaxRecoveryAttemptsExceeded = 6
    MaxStepRetriesExceeded = 7
    NotAuthorized = 8
    ConflictingWorkflowError = 9
    WorkflowCancelled = 10
    UnexpectedStep = 11
    QueueDeduplicated = 12
    AwaitedWorkflowCancelled = 13
    AwaitedWorkflowMaxRecoveryAttemptsExceeded = 14
    PatchNondeterminism = 15
    StreamTimeout = 16
    StreamNondeterminism = 17
    StepTimeout = 18
    ConflictingRegistrationError = 25
    QueryTimeout = 26
    WorkflowIDInUse = 27
    StepNondeterminism = 28


NUMBERS = {
    "workflow-conflict": DBOSErrorCode.ConflictingIDError,
    "initialization": DBOSErrorCode.InitializationError,
    "workflow-function-not-found": DBOSErrorCode.WorkflowFunctionNotFound,
    "workflow-not-found": DBOSErrorCode.NonExistentWorkflowError,
    "max-recovery-attempts": DBOSErrorCode.MaxRecoveryAttemptsExceeded,
    "max-step-retries": DBOSErrorCode.MaxStepRetriesExceeded,
    "conflicting-workflow": DBOSErrorCode.ConflictingWorkflowError,
    "workflow-cancelled": DBOSErrorCode.WorkflowCancelled,
    "unexpected-step": DBOSErrorCode.UnexpectedStep,
    "queue-deduplicated": DBOSErrorCode.QueueDeduplicated,
    "awaited-workflow-cancelled": DBOSErrorCode.AwaitedWorkflowCancelled,
    "awaited-workflow-max-recovery-attempts": DBOSErrorCode.AwaitedWorkflowMaxRecoveryAttemptsExceeded,
    "stream-timeout": DBOSErrorCode.StreamTimeout,
    "step-timeout": DBOSErrorCode.StepTimeout,
    "workflow-id-in-use": DBOSErrorCode.WorkflowIDInUse,
}
"""By the `code` of a class; a class without a number has that of the class that it is derived from."""


def number_of(kind: type[BaseException]) -> int | None:
    """The number of a class of errors; None where DBOS Transact has none for it."""
    codes = (vars(one).get("code") for one in kind.__mro__)
    return next((NUMBERS[code].value for code in codes if code in NUMBERS), None)

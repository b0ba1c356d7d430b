"""Every error that this package raises.

    DBOSException                              what `except Exception` sees
    ├── DBOSInitializationError                configuration, launch, migration
    │   ├── ConfigurationError
    │   ├── RegistrationError
    │   └── MigrationRequired
    ├── DBOSWorkflowFunctionNotFoundError
    ├── DBOSNonExistentWorkflowError
    ├── DBOSNonExistentConsumerError
    ├── DBOSNonExistentQueueError
    ├── DBOSNonExistentScheduleError
    ├── DBOSScheduleExistsError
    ├── DBOSConflictingWorkflowError
    ├── DBOSQueueDeduplicatedError
    ├── DBOSWorkflowIDInUseError
    ├── DBOSUnexpectedStepError                history and code disagree
    ├── DBOSMaxStepRetriesExceeded
    ├── DBOSStepTimeoutError
    ├── DBOSStreamTimeoutError                 nothing came on a stream, in time or before it ended
    ├── DBOSAwaitedWorkflowCancelledError
    ├── DBOSAwaitedWorkflowMaxRecoveryAttemptsExceeded
    ├── DBOSWorkflowExpiredError               the event was too late when its turn came
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

from dbos_events.errors.base import DBOSBaseException as DBOSBaseException
from dbos_events.errors.base import DBOSException as DBOSException
from dbos_events.errors.codes import DBOSErrorCode as DBOSErrorCode
from dbos_events.errors.connectors import ClusterChanged as ClusterChanged
from dbos_events.errors.connectors import ConnectorError as ConnectorError
from dbos_events.errors.connectors import StaleTopic as StaleTopic
from dbos_events.errors.events import ConflictingDuplicate as ConflictingDuplicate
from dbos_events.errors.events import FilterFailed as FilterFailed
from dbos_events.errors.events import Quarantine as Quarantine
from dbos_events.errors.events import TryAgain as TryAgain
from dbos_events.errors.events import UndecodablePayload as UndecodablePayload
from dbos_events.errors.schedules import DBOSNonExistentScheduleError as DBOSNonExistentScheduleError
from dbos_events.errors.schedules import DBOSScheduleExistsError as DBOSScheduleExistsError
from dbos_events.errors.setup import ConfigurationError as ConfigurationError
from dbos_events.errors.setup import DBOSInitializationError as DBOSInitializationError
from dbos_events.errors.setup import DBOSWorkflowFunctionNotFoundError as DBOSWorkflowFunctionNotFoundError
from dbos_events.errors.setup import MigrationRequired as MigrationRequired
from dbos_events.errors.setup import RegistrationError as RegistrationError
from dbos_events.errors.setup import UnknownOption as UnknownOption
from dbos_events.errors.steps import DBOSMaxStepRetriesExceeded as DBOSMaxStepRetriesExceeded
from dbos_events.errors.steps import DBOSStepTimeoutError as DBOSStepTimeoutError
from dbos_events.errors.storage import BadWrite as BadWrite
from dbos_events.errors.storage import ExecutorFenced as ExecutorFenced
from dbos_events.errors.storage import StorageError as StorageError
from dbos_events.errors.storage import StorageUnavailable as StorageUnavailable
from dbos_events.errors.streams import DBOSStreamTimeoutError as DBOSStreamTimeoutError
from dbos_events.errors.values import RecordedError as RecordedError
from dbos_events.errors.values import SerializationError as SerializationError
from dbos_events.errors.workflows import DBOSArgumentsChangedError as DBOSArgumentsChangedError
from dbos_events.errors.workflows import (
    DBOSAwaitedWorkflowCancelledError as DBOSAwaitedWorkflowCancelledError,
)
from dbos_events.errors.workflows import (
    DBOSAwaitedWorkflowMaxRecoveryAttemptsExceeded as DBOSAwaitedWorkflowMaxRecoveryAttemptsExceeded,
)
from dbos_events.errors.workflows import DBOSConflictingWorkflowError as DBOSConflictingWorkflowError
from dbos_events.errors.workflows import DBOSNonExistentConsumerError as DBOSNonExistentConsumerError
from dbos_events.errors.workflows import DBOSNonExistentQueueError as DBOSNonExistentQueueError
from dbos_events.errors.workflows import DBOSNonExistentWorkflowError as DBOSNonExistentWorkflowError
from dbos_events.errors.workflows import DBOSQueueDeduplicatedError as DBOSQueueDeduplicatedError
from dbos_events.errors.workflows import DBOSUnexpectedStepError as DBOSUnexpectedStepError
from dbos_events.errors.workflows import DBOSWorkflowCancelledError as DBOSWorkflowCancelledError
from dbos_events.errors.workflows import DBOSWorkflowConflictIDError as DBOSWorkflowConflictIDError
from dbos_events.errors.workflows import DBOSWorkflowExpiredError as DBOSWorkflowExpiredError
from dbos_events.errors.workflows import DBOSWorkflowIDInUseError as DBOSWorkflowIDInUseError
from dbos_events.errors.workflows import MaxRecoveryAttemptsExceededError as MaxRecoveryAttemptsExceededError

# Stored errors name their class by this module, whichever file it stands in.
for _error in tuple(globals().values()):
    if isinstance(_error, type) and issubclass(_error, BaseException):
        _error.__module__ = __name__
del _error

"""What is wrong before work begins: settings, names, the schema."""

from __future__ import annotations

from typing import Any

from dbos_events.errors.base import DBOSException


class DBOSInitializationError(DBOSException):
    """The App cannot start as it is configured."""

    code = "initialization"


class ConfigurationError(DBOSInitializationError):
    """A setting is missing, malformed, or would break a promise."""

    code = "configuration"


class RegistrationError(DBOSInitializationError):
    """A decorated function cannot be registered as asked."""

    code = "registration"


class UnknownOption(RegistrationError, TypeError):
    """A decorator was called in a way that it does not know; a `TypeError`, as Python's own would be."""

    code = "unknown-option"


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

"""What the database answered."""

from __future__ import annotations

from typing import Any

from dbos_events.errors.base import DBOSException


class StorageError(DBOSException):
    """The database answered with an error."""

    code = "storage"


class StorageUnavailable(StorageError):
    """The database does not answer, or asked to try again; the work is repeated with back-off.

    `away` says that it is the server that cannot be reached, `refused` that it answers and lets nobody in: the database does
    not exist, or the role may not log in. Neither: it answered with another error.
    """

    code = "storage-unavailable"
    away = False
    refused = False

    def beginning_with(self, what: str) -> StorageUnavailable:
        """The same with what was asked before it."""
        told = StorageUnavailable(f"{what}: {self.message}")
        told.away, told.refused = self.away, self.refused
        return told


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

"""What puts an event aside, or has it tried again."""

from __future__ import annotations

from dbos_events.errors.base import DBOSException


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


class ConflictingDuplicate(Quarantine):
    """An event came with the id of another one, and with other content.

    The first one stays as it is. This one was not run: redrive it to run it as an event of its own, or discard it.
    """

    code = "conflicting-duplicate"

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.reason = self.code

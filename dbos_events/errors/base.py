"""The two roots of all errors."""

from __future__ import annotations

from dbos_events.errors.codes import number_of


class _Numbered:
    """Errors with a number, as DBOS Transact has them."""

    _number: int | None = None

    @property
    def dbos_error_code(self) -> int | None:
        """The number of errors of this kind (`DBOSErrorCode`), or that which it was made with; None where it has none."""
        return number_of(type(self)) if self._number is None else self._number  # type: ignore[arg-type]


class DBOSException(_Numbered, Exception):
    """Base of all errors of this package; `message` is the text, `code` a stable word."""

    code: str = "error"

    def __init__(self, message: str, dbos_error_code: int | None = None) -> None:
        self.message = message
        if dbos_error_code is not None:
            self._number = dbos_error_code
        super().__init__(message)


class DBOSBaseException(_Numbered, BaseException):
    """Base of what unwinds a workflow and must not be swallowed by `except Exception`."""

    code: str = "unwound"

    def __init__(self, message: str, dbos_error_code: int | None = None) -> None:
        self.message = message
        if dbos_error_code is not None:
            self._number = dbos_error_code
        super().__init__(message)

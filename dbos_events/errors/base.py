"""The two roots of all errors."""

from __future__ import annotations


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

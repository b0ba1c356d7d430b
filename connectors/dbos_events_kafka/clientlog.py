"""The log of the Kafka client itself, without what it says over and over."""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from dbos_events.connect import Recurring, logger
from dbos_events_kafka.state import SourceState

_TOLD_OTHERWISE = ("FAIL", "ERROR", "HEARTBEAT", "MAXPOLL", "FATAL", "COMMITFAIL")
"""Kinds of lines whose trouble the client reports as an error, too."""


class ClientLog:
    """What confluent-kafka takes for a logger.

    A client that looks for a dead broker says so twenty times a second. Troubles of one kind are
    said at once, and then at growing intervals, with a count; what arrives as an error as well is
    left to that. `own` is the user's logger, which gets every line in place of ours.
    """

    def __init__(self, state: SourceState, mask: Callable[[str], str], own: Any = None) -> None:
        self._state = state
        self._mask = mask
        self._own = own
        self._kinds: dict[str, Recurring] = {}

    def log(self, level: int, message: str, kind: str, *details: object) -> None:
        """Called by the client within a poll; `kind` is a word of its own such as FAIL.

        What a logger, a handler or a filter of the user raises would throw away the records that are being polled.
        """
        with suppress(BaseException):
            self._log(level, message, kind, *details)

    def _log(self, level: int, message: str, kind: str, *details: object) -> None:
        details = tuple(self._mask(str(detail)) for detail in details)
        if kind == "FAIL" and details:
            self._state.clue(str(details[-1]))
        if self._own is not None:
            self._own.log(level, message, kind, *details)
        elif kind in _TOLD_OTHERWISE:
            logger.debug(message, kind, *details)
        elif level < logging.WARNING:
            logger.log(level, message, kind, *details)
        else:
            self._kinds.setdefault(kind, Recurring()).say(message, kind, *details)

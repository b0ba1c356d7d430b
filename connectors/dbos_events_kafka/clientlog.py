"""The log of the Kafka client itself, without what it says over and over."""

from __future__ import annotations

import logging

from dbos_events.connect import Recurring, logger


class ClientLog:
    """What confluent-kafka takes for a logger.

    A client that looks for a dead broker says so twenty times a second. Troubles of one kind are
    said at once, and then at growing intervals, with a count.
    """

    def __init__(self) -> None:
        self._kinds: dict[str, Recurring] = {}

    def log(self, level: int, message: str, kind: str, *details: object) -> None:
        """Called by the client; `kind` is a word of its own such as FAIL."""
        if level < logging.WARNING:
            logger.log(level, message, kind, *details)
        else:
            self._kinds.setdefault(kind, Recurring()).say(message, kind, *details)

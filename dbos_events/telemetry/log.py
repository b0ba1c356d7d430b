"""The package's logger. It never configures the root logger; only `dbos-events run` does.

It has no handler of its own: in a program that configures no logging, Python prints warnings and errors to standard error.
"""

from __future__ import annotations

import logging
import re
import threading
import time
from collections.abc import Mapping

logger = logging.getLogger("dbos_events")

# Up to the last @: a password that is not encoded may hold one itself.
_SECRET = re.compile(r"(?P<scheme>[a-z][a-z0-9+.-]*://[^:/@\s]*):\S*@", re.IGNORECASE)
_SECRET_SETTING = re.compile(
    r"""(?P<key>[\w.]*(?:password|passwd|secret|token)[\w.]*['"]?\s*[=:]\s*)"""
    r"""(?:'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*"|[^\s&;,'"]+)""",
    re.IGNORECASE,
)


def redact(text: str) -> str:
    """Replace the passwords of connection strings in `text`."""
    return _SECRET_SETTING.sub(r"\g<key>***", _SECRET.sub(r"\g<scheme>:***@", text))


class Recurring:
    """Logs what keeps happening once at first, then at growing intervals, with a count.

    A dead server must not fill the log, nor fall silent. What waits for a person's decision is an ERROR, and said again
    without a count.
    """

    def __init__(
        self, first_pause: float = 10.0, longest_pause: float = 300.0, *, decision: bool = False
    ) -> None:
        self._decision = decision
        self._lock = threading.Lock()
        self._first = first_pause
        self._longest = longest_pause
        self._pause = first_pause
        self._next = 0.0
        self._unsaid = 0
        self.active = False

    def say(self, message: str, *details: object, extra: Mapping[str, object] | None = None) -> None:
        """Log it now, or count it; `extra` is what programs read beside the message."""
        with self._lock:
            now = time.monotonic()
            self.active = True
            if now < self._next:
                self._unsaid += 1
                return
            unsaid, self._unsaid = self._unsaid, 0
            self._next = now + self._pause
            self._pause = min(self._pause * 2, self._longest)
        more = f" ({unsaid} more like it since)" if unsaid and not self._decision else ""
        shown = message % tuple(redact(str(detail)) for detail in details) if details else message
        level = logging.ERROR if self._decision else logging.WARNING
        logger.log(level, "%s%s", shown, more, extra=dict(extra or {}))

    def over(self, message: str, *details: object) -> None:
        """Log once that it is over, when it was said before."""
        with self._lock:
            was, self.active = self.active, False
            self._pause, self._next, self._unsaid = self._first, 0.0, 0
        if was:
            logger.info(message, *details)

"""The tokens of a user's `oauth_cb`, for all clients of one consumer."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

from dbos_events.errors import ConnectorError
from dbos_events_kafka.state import TOKENS, SourceState

FRESH_SECONDS = 5.0
"""A token that was asked for so lately serves another client, too."""


class Tokens:
    """What the clients get for `oauth_cb`.

    A client that gets no token at first waits ten seconds, and then cannot be made. So the token is asked for before, and
    each failure is told, until there is one.
    """

    def __init__(self, ask: Callable[[Any], Any], config: object, state: SourceState) -> None:
        self._ask = ask
        self._config = config
        self._state = state
        self._lock = threading.Lock()
        self._prepared: Any = None
        self._asked_at = 0.0

    def prepare(self) -> None:
        """Have a token for a client that is about to be made.

        Raises:
            ConnectorError: There is none now.
        """
        with self._lock:
            if self._prepared is None or time.monotonic() - self._asked_at > FRESH_SECONDS:
                self._prepared = None
                self._prepared = self._fetch(self._config)
                self._asked_at = time.monotonic()

    def __call__(self, config: object) -> Any:
        """Called by a client, on a thread of its own, when it is made and before its token ends."""
        with self._lock:
            prepared, self._prepared = self._prepared, None
        return self._fetch(config) if prepared is None else prepared

    def _fetch(self, config: object) -> Any:
        try:
            token = _checked(self._ask(config))
        except BaseException as error:  # noqa: BLE001 - whatever a function of the user raises
            shown = f"{type(error).__name__}: {error}"
            self._state.trouble(
                f"there is no token to log in with; oauth_cb failed and is called again ({shown})", TOKENS
            )
            raise ConnectorError(f"oauth_cb failed with {shown}") from None
        self._state.mended(TOKENS)
        return token


def _checked(token: Any) -> Any:
    """Raises when the client would not take it."""
    if not isinstance(token, tuple) or len(token) < 2 or not isinstance(token[0], str):
        raise TypeError("it must give a tuple: the token, and when it ends, in seconds since 1970")
    return token

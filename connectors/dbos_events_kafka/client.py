"""Make the clients of one consumer, with the callbacks of the user beside ours.

A client may refuse its settings, wait for a token, or fail for a file that is not there yet. The first is said at launch;
the rest belongs to the consumer's own threads, which ask again.
"""

from __future__ import annotations

import contextvars
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any, TypeVar

from confluent_kafka import Consumer, KafkaError, KafkaException

from dbos_events.connect import Recurring
from dbos_events.errors import ConfigurationError, ConnectorError
from dbos_events_kafka.clientlog import ClientLog
from dbos_events_kafka.settings import ConsumerSettings
from dbos_events_kafka.state import SourceState
from dbos_events_kafka.tokens import Tokens

Client = TypeVar("Client")

_APART = ("logger", "oauth_cb", "error_cb")
_OUTSIDE = (".location", "OpenSSL", "thread", "pipe", "socket")
"""Words by which the client names what is outside of its settings: files, and what the system gives."""


class Clients:
    """Makes them on whatever thread needs one; all methods but `check` may wait, and raise while something is missing."""

    def __init__(self, name: str, settings: ConsumerSettings, state: SourceState) -> None:
        self._name = name
        self._settings = settings
        self._state = state
        self._tokens: Tokens | None = None
        if "oauth_cb" in settings.callbacks and settings.uses_tokens:
            ask = settings.callbacks["oauth_cb"]
            self._tokens = Tokens(ask, settings.client.get("sasl.oauthbearer.config"), state)

    def check(self, topics: Sequence[str]) -> None:
        """See whether the client takes these settings and topics, without a word to anybody outside.

        Raises:
            ConfigurationError: It refuses one of them; says which.
        """
        settings = {**self._settings.client, "bootstrap.servers": "", "metadata.broker.list": ""}
        try:
            callbacks = callbacks_of(self._settings.callbacks, self._state.error)
            client = Consumer({**settings, **callbacks, "log_level": 0})
            try:
                client.subscribe(list(topics))
            finally:
                client.close()
        except (KafkaException, TypeError, ValueError) as error:
            if not _is_outside(error):
                raise ConfigurationError(
                    f"Consumer {self._name!r}: the Kafka client refuses its settings: {self._reason(error)}"
                ) from None  # what it says may quote a secret
        except Exception:  # noqa: BLE001, S110 - nothing about the settings; the consumer's own thread tells it
            pass

    def member(self) -> Consumer:
        """The client that reads. It is no member of the group yet.

        Raises:
            ConnectorError: It cannot be made now.
        """
        log = ClientLog(self._state, self._settings.mask, self._settings.callbacks.get("logger"))
        callbacks = callbacks_of(self._settings.callbacks, self._state.error)
        return self.make(lambda token: Consumer({**self._settings.client, **callbacks, **token}, logger=log))

    def make(self, make: Callable[[Mapping[str, Any]], Client]) -> Client:
        """Any other client, made by a function that is given the settings to log in with. Raises as `member` does."""
        try:
            token: dict[str, Any] = {}
            if self._tokens is not None:
                self._tokens.prepare()
                token["oauth_cb"] = self._tokens
            return make(token)
        except Exception as error:  # noqa: BLE001 - a client raises what it likes
            raise ConnectorError(
                f"the Kafka client cannot be made now, and is made as soon as it can be: {self._reason(error)}"
            ) from None  # what it says may quote a secret

    def _reason(self, error: Exception) -> str:
        return self._settings.mask(reason_of(error))


def reason_of(error: BaseException) -> str:
    """In words, whatever kind of error it is."""
    first = error.args[0] if error.args else None
    if isinstance(first, KafkaError):
        return first.str()
    if isinstance(error, (ConnectorError, TypeError, ValueError)):
        return str(error)
    return f"{type(error).__name__}: {error}"


def _is_outside(error: Exception) -> bool:
    first = error.args[0] if error.args else None
    if not isinstance(first, KafkaError):
        return False
    return first.code() != KafkaError._INVALID_ARG or any(word in first.str() for word in _OUTSIDE)  # noqa: SLF001


def guarded(name: str, callback: Callable[..., Any]) -> Callable[..., None]:
    """A callback that cannot do harm: what it raised would throw away the records that are being polled."""
    trouble = Recurring()

    def call(*arguments: object) -> None:
        try:
            contextvars.copy_context().run(callback, *arguments)  # what it sets is not there for the next one
        except BaseException as error:  # noqa: BLE001 - SystemExit would end the thread that polls
            with suppress(BaseException):
                trouble.say(
                    "The callback %s of the Kafka client raised %s: %s", name, type(error).__name__, error
                )

    return call


def callbacks_of(user: dict[str, Any], ours: Callable[..., Any]) -> dict[str, Callable[..., None]]:
    """The callbacks for the client: the user's, and for errors ours before it.

    Raises:
        TypeError: One of them cannot be called.
    """
    for key, callback in user.items():
        if key != "logger" and not callable(callback):
            raise TypeError(f"{key} must be a function, not {type(callback).__name__}")
    theirs = {key: guarded(key, callback) for key, callback in user.items() if key not in _APART}
    our_own = guarded("error_cb", ours)
    also = guarded("error_cb", user["error_cb"]) if "error_cb" in user else None

    def on_error(error: object) -> None:
        our_own(error)
        if also is not None:
            also(error)

    return {**theirs, "error_cb": on_error}

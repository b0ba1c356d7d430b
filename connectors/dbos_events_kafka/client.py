"""Make a client, with the callbacks of the user beside ours."""

from __future__ import annotations

import contextvars
from collections.abc import Callable
from typing import Any

from confluent_kafka import Consumer, KafkaException

from dbos_events.connect import Recurring
from dbos_events.errors import ConfigurationError
from dbos_events_kafka.clientlog import ClientLog
from dbos_events_kafka.settings import ConsumerSettings
from dbos_events_kafka.state import SourceState


def open_client(name: str, settings: ConsumerSettings, state: SourceState) -> Consumer:
    """A client that is no member of the group yet.

    Raises:
        ConfigurationError: The client refuses a setting; says which.
    """
    log = ClientLog(state, settings.mask, settings.callbacks.get("logger"))
    try:
        return Consumer({**settings.client, **callbacks_of(settings.callbacks, state.error)}, logger=log)
    except (KafkaException, TypeError, ValueError) as error:
        reason = error.args[0].str() if isinstance(error, KafkaException) else str(error)
        raise ConfigurationError(
            f"Consumer {name!r}: the Kafka client refuses its settings: {settings.mask(reason)}"
        ) from None  # what it says may quote a secret


def guarded(name: str, callback: Callable[..., Any]) -> Callable[..., None]:
    """A callback of the user that cannot do harm: what it raised would throw away a record that was polled."""
    trouble = Recurring()

    def call(*arguments: object) -> None:
        try:
            contextvars.copy_context().run(callback, *arguments)  # what it sets is not there for the next one
        except Exception as error:  # noqa: BLE001
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
    theirs = {key: guarded(key, callback) for key, callback in user.items() if key != "logger"}
    also = theirs.pop("error_cb", None)

    def on_error(error: object) -> None:
        ours(error)
        if also is not None:
            also(error)

    return {**theirs, "error_cb": on_error}

"""What a sender hears instead of our own words: a fixed answer, or what a function makes of the event."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from dbos_events.connect import logger
from dbos_events.errors import ConfigurationError
from dbos_events_webhooks.event import WebhookEvent
from dbos_events_webhooks.outcome import Answer

Said = Answer | Mapping[str, Any] | str | bytes | None
Reply = Said | Callable[[WebhookEvent[Any]], Said | Awaitable[Said]]


def checked_reply(path: str, reply: Reply) -> Reply:
    """What `reply=` was given, where it can be said.

    Raises:
        ConfigurationError: It is of no such type, or its status tells the sender that it failed.
    """
    if callable(reply) or reply is None:
        return reply
    try:
        return _answer(reply, 200)
    except (TypeError, ValueError) as error:
        raise ConfigurationError(f"reply of {path}: {error}") from None


async def replied(reply: Reply, event: WebhookEvent[Any], usual: Answer, seconds: float) -> Answer | None:
    """What the sender hears; None where the function failed, or took too long. The event is durable in any case."""
    if not callable(reply):
        return usual if reply is None else _answer(reply, usual.status)
    try:
        async with asyncio.timeout(seconds):
            if inspect.iscoroutinefunction(reply):
                said = await reply(event)
            else:
                said = await asyncio.to_thread(_called, reply, event)
                said = await said if inspect.isawaitable(said) else said
        return usual if said is None else _answer(said, usual.status)
    except Exception:  # noqa: BLE001 - whatever the user's function raises
        logger.exception("The reply to the event %s of %s could not be made.", event.id, event.endpoint)
        return None


def replied_here(reply: Reply, event: WebhookEvent[Any], usual: Answer) -> Answer | None:
    """As `replied`, on this thread, and without a bound."""
    if not callable(reply):
        return usual if reply is None else _answer(reply, usual.status)
    try:
        said: Any = _called(reply, event)
        if inspect.isawaitable(said):
            said = asyncio.run(_awaited(said))
        return usual if said is None else _answer(said, usual.status)
    except Exception:  # noqa: BLE001 - whatever the user's function raises
        logger.exception("The reply to the event %s of %s could not be made.", event.id, event.endpoint)
        return None


async def _awaited(said: Awaitable[Any]) -> Any:
    return await said


def _called(reply: Callable[[WebhookEvent[Any]], Any], event: WebhookEvent[Any]) -> Any:
    try:
        return reply(event)
    except StopIteration as error:  # which no future takes
        raise RuntimeError("It raised StopIteration.") from error


def _answer(said: Any, status: int) -> Answer:
    if isinstance(said, Answer):
        if not 200 <= said.status < 300:
            raise ValueError(
                f"a reply has a status of success, and not {said.status}: the event is durable, and the sender would "
                "send it again"
            )
        return said
    if isinstance(said, str):
        text = Answer.text(said)
        return Answer(200 if status == 204 else status, text.body, text.headers)
    if isinstance(said, bytes):
        return Answer(200 if status == 204 else status, said, (("content-type", "application/octet-stream"),))
    if isinstance(said, Mapping):
        return Answer.json(dict(said), 200 if status == 204 else status)
    raise TypeError(f"a reply is an Answer, a mapping, text or bytes, and not {type(said).__name__}")

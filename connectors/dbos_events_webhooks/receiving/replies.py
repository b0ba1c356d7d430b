"""What a sender hears instead of our own words: a fixed answer, or what a function makes of the event."""

from __future__ import annotations

import asyncio
import inspect
import json
import re
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from dbos_events.connect import logger
from dbos_events.errors import ConfigurationError
from dbos_events_webhooks.event import WebhookEvent
from dbos_events_webhooks.outcome import Answer
from dbos_events_webhooks.threads import Threads, on_thread

Said = Answer | Mapping[str, Any] | str | bytes | None
Reply = Said | Callable[[WebhookEvent[Any]], Said | Awaitable[Said]]

_NAME = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_VALUE = re.compile(r"[\t\x20-\x7e\x80-\xff]*")
_OURS = ("connection", "content-length", "transfer-encoding")
"""Headers that say where an answer ends, which is said by whoever sends it."""


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


async def replied(
    reply: Reply, event: WebhookEvent[Any], usual: Answer, seconds: float, threads: Threads
) -> Answer | None:
    """What the sender hears; None where the function failed, or took too long. The event is durable in any case."""
    if not callable(reply):
        return usual if reply is None else _answer(reply, usual.status)
    making = asyncio.ensure_future(_made(reply, event, usual, threads))
    try:
        await asyncio.wait((making,), timeout=seconds)  # a function may catch that it is cancelled, and go on
    finally:
        late = not making.done()
        making.cancel()
    if late:
        logger.error(
            "The reply to the event %s of %s was not made within %g s.", event.id, event.endpoint, seconds
        )
    return None if late or making.cancelled() else making.result()


async def _made(
    reply: Callable[[WebhookEvent[Any]], Any], event: WebhookEvent[Any], usual: Answer, threads: Threads
) -> Answer | None:
    """What a function says; no more than that it failed leaves it, for an exit would end all that the loop serves."""
    try:
        if inspect.iscoroutinefunction(reply):
            said = await reply(event)
        else:
            said = await on_thread(threads, _called, reply, event)
            said = await said if inspect.isawaitable(said) else said
        return usual if said is None else _answer(said, usual.status)
    except BaseException as error:
        task = asyncio.current_task()
        if isinstance(error, asyncio.CancelledError) and task is not None and task.cancelling():
            raise  # from here, and not by the function
        _failed(event, error)
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
    except KeyboardInterrupt:
        raise  # it is meant for the thread that called
    except BaseException as error:  # noqa: BLE001 - whatever the user's function raises
        _failed(event, error)
        return None


def _failed(event: WebhookEvent[Any], error: BaseException) -> None:
    logger.error(
        "The reply to the event %s of %s could not be made.", event.id, event.endpoint, exc_info=error
    )


async def _awaited(said: Awaitable[Any]) -> Any:
    return await said


def _called(reply: Callable[[WebhookEvent[Any]], Any], event: WebhookEvent[Any]) -> Any:
    try:
        return reply(event)
    except BaseException as error:
        if isinstance(error, Exception) and not isinstance(error, StopIteration):
            raise
        raise RuntimeError(f"It raised {type(error).__name__}.") from error  # a future does not hand it over


def _answer(said: Any, status: int) -> Answer:
    if isinstance(said, Answer):
        if not 200 <= said.status < 300:
            raise ValueError(
                f"a reply has a status of success, and not {said.status}: the event is durable, and the sender would "
                "send it again"
            )
        return _sendable(said)
    if isinstance(said, str):
        text = Answer.text(said)
        return Answer(200 if status == 204 else status, text.body, text.headers)
    if isinstance(said, bytes):
        return Answer(200 if status == 204 else status, said, (("content-type", "application/octet-stream"),))
    if isinstance(said, Mapping):
        content = json.dumps(dict(said), separators=(",", ":"), allow_nan=False)
        return Answer(
            200 if status == 204 else status, content.encode(), (("content-type", "application/json"),)
        )
    raise TypeError(f"a reply is an Answer, a mapping, text or bytes, and not {type(said).__name__}")


def _sendable(said: Answer) -> Answer:
    """An Answer that any server can send: it was made by hand, and nothing has looked at its parts."""
    if type(said.status) is not int:
        raise TypeError(f"the status of a reply is a whole number, and not {said.status!r}")
    if not isinstance(said.body, bytes):
        raise TypeError(f"the body of an Answer is bytes, and not {type(said.body).__name__}")
    if said.status in (204, 205) and said.body:
        raise ValueError(f"a reply of status {said.status} has no body")
    headers = said.headers.items() if isinstance(said.headers, Mapping) else said.headers
    pairs = tuple((name, value) for name, value in headers)
    for name, value in pairs:
        if not (isinstance(name, str) and isinstance(value, str)):
            raise TypeError(f"a header of a reply is a pair of texts, and not {name!r} with {value!r}")
        if not _NAME.fullmatch(name) or not _VALUE.fullmatch(value):
            raise ValueError(f"the header {name!r} of a reply has characters that no header can have")
        if name.lower() in _OURS:
            raise ValueError(f"a reply has no header {name!r}: whoever sends it counts its bytes")
    return Answer(said.status, said.body, pairs)

"""Verbs of callbacks: a URL that somebody outside answers a workflow by, once, within a time."""

from __future__ import annotations

import asyncio
import hashlib
import re
import secrets
from collections.abc import Coroutine
from math import isfinite
from typing import Any, Literal, cast

from dbos_events.api.decorators import call_step
from dbos_events.api.messages import Messages, workflow_only
from dbos_events.api.session import Session, refuse_on_loop
from dbos_events.engine.drivers import drive, drive_async
from dbos_events.engine.effects import Flow, Query
from dbos_events.engine.operations.messages import Outgoing, send
from dbos_events.errors import ConfigurationError, DBOSException, DBOSNonExistentWorkflowError
from dbos_events.model.callback import CallbackAnswer
from dbos_events.model.dataclass import dataclass, field
from dbos_events.model.workflow import StepOptions
from dbos_events.storage.subjects.callbacks import AnsweredToken, NewCallback

CALLBACK = "DBOS.callback"
LATE_SECONDS = 5.0
"""An answer that came in time may reach its workflow so much later."""
LONGEST_NAME = 255

_TOKEN = re.compile(r"[A-Za-z0-9_-]{43}")

Told = Literal["answered", "late", "unknown"]


@dataclass(frozen=True, slots=True)
class Callback:
    """A callback that was opened. The URL is a secret: whoever has it can answer."""

    name: str
    url: str = field(repr=False)
    deadline_ms: int
    _topic: str = field(repr=False)
    _session: Messages = field(repr=False, compare=False)

    def wait(self) -> CallbackAnswer | None:
        """The answer, waited for durably; None when none came before the deadline. From the workflow that opened it."""
        answer: CallbackAnswer | None = self._session.recv(self._topic, self._seconds())
        return answer

    async def wait_async(self) -> CallbackAnswer | None:
        """As `wait`, without blocking the loop."""
        answer: CallbackAnswer | None = await self._session.recv_async(self._topic, self._seconds())
        return answer

    def _seconds(self) -> float:
        left = self.deadline_ms - self._session.core.clock.now_ms()
        return max(0.0, left / 1000) + LATE_SECONDS


class CallbackVerbs(Session):
    """Opening callbacks in workflows, and answering them from outside."""

    def callback(self, name: str, timeout_seconds: float) -> Callback:
        """Open a callback of the calling workflow: a URL that somebody outside may answer once, by POST.

        The token in the URL is random; the table of callbacks has its hash. The first answer before the deadline is the one
        that `wait` gives; a later one is answered as the first was, and changes nothing. After the deadline it is 410.
        The call is recorded as a step: a replay gives the same URL. The history of the workflow holds it, too.

        The setting `callback_url` says where the application is reached.

        Raises:
            DBOSException: It was not called from a workflow, or an argument is wrong.
            ConfigurationError: `callback_url` is not set.
        """
        refuse_on_loop("callback")
        make = _Opening(self, name, timeout_seconds)
        return make.opened(call_step(CALLBACK, _STEP, make.open, (), {}, is_async=False))

    async def callback_async(self, name: str, timeout_seconds: float) -> Callback:
        """As `callback`, without blocking the loop."""
        make = _Opening(self, name, timeout_seconds)
        return make.opened(await call_step(CALLBACK, _STEP, make.open_async, (), {}, is_async=True))

    def answer_callback(self, token: str, body: bytes, content_type: str | None = None) -> Told:
        """Answer a callback, from whatever received its token; gives what the sender may be told.

        Safe to repeat: the same token is answered once.
        """
        refuse_on_loop("answer_callback")
        return "unknown" if _odd(token) else drive(_answering(self, token, body, content_type))

    def answer_callback_async(
        self, token: str, body: bytes, content_type: str | None = None
    ) -> Coroutine[Any, Any, Told]:
        """As `answer_callback`, without blocking the loop."""
        return _nothing() if _odd(token) else drive_async(_answering(self, token, body, content_type))


_STEP = StepOptions(CALLBACK)


class _Opening:
    """One call of `callback`."""

    def __init__(self, session: Session, name: Any, timeout_seconds: Any) -> None:
        self._scope = workflow_only("callback")
        if not isinstance(name, str) or not 0 < len(name) <= LONGEST_NAME or not name.isprintable():
            raise DBOSException(
                f"DBOS.callback: its name is 1 to {LONGEST_NAME} printable characters, not {name!r}."
            )
        number = isinstance(timeout_seconds, int | float) and not isinstance(timeout_seconds, bool)
        if not number or not isfinite(timeout_seconds) or not 0 < timeout_seconds <= 1e9:
            raise DBOSException(
                f"DBOS.callback: timeout_seconds is a number of seconds above 0, not {timeout_seconds!r}."
            )
        self._session = session
        self._name = name
        self._ms = round(timeout_seconds * 1000)
        url: str | None = cast("Any", session).launched.settings.callback_url
        if url is None:
            raise ConfigurationError(
                "The setting callback_url is missing: where callbacks reach this application from outside, such as "
                "https://host/callbacks (DBOS_EVENTS_CALLBACK_URL)."
            )
        self._url = url.rstrip("/")

    def open(self) -> list[Any]:
        token = secrets.token_urlsafe(32)
        core = self._session.core
        deadline = core.clock.now_ms() + self._ms
        new = NewCallback(hash_of(token), core.application, self._name, self._scope.run.id, deadline)
        core.ask(lambda: core.storage.callbacks.open(new))
        return [token, deadline]

    async def open_async(self) -> list[Any]:
        return await asyncio.to_thread(self.open)

    def opened(self, made: list[Any]) -> Callback:
        token, deadline = made
        messages = cast("Messages", self._session)
        return Callback(self._name, f"{self._url}/{token}", deadline, topic_of(hash_of(token)), messages)


def hash_of(token: str) -> str:
    """What is stored of a token."""
    return hashlib.sha256(token.encode()).hexdigest()


def topic_of(token_hash: str) -> str:
    """The topic of the message that an answer becomes."""
    return f"callback:{token_hash}"


def _answering(session: Session, token: str, body: bytes, content_type: str | None) -> Flow[Told]:
    core = session.core
    key = hash_of(token)
    answered: AnsweredToken = yield Query(core, lambda: core.storage.callbacks.answer(core.application, key))
    if answered.workflow_id is None:
        return "late" if answered.known else "unknown"
    value = CallbackAnswer(bytes(body), content_type)
    try:
        yield from send(core, [Outgoing(answered.workflow_id, value, topic_of(key), topic_of(key))])
    except DBOSNonExistentWorkflowError:
        return "late"
    return "answered"


def _odd(token: object) -> bool:
    return not isinstance(token, str) or _TOKEN.fullmatch(token) is None


async def _nothing() -> Told:
    return "unknown"

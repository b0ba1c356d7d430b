"""What providers ask an endpoint before they send events to it.

A handshake must not be a signing oracle: an answer that is made with the key of the events is given only for a
token that no event could be, and, where the provider signs its question, only when that signature is right.
"""

from __future__ import annotations

import hmac
import re
from collections.abc import Sequence
from typing import Any, ClassVar, Protocol

from dbos_events.errors import ConfigurationError
from dbos_events.model.dataclass import dataclass, field
from dbos_events_webhooks.algorithms import encode, same
from dbos_events_webhooks.outcome import Answer, Reason, refuse
from dbos_events_webhooks.payload import Payload, Unreadable
from dbos_events_webhooks.places import Body, found
from dbos_events_webhooks.request import WebhookRequest
from dbos_events_webhooks.secret import Key

MAX_ECHO = 4096
_TOKEN = re.compile(r"[A-Za-z0-9_\-=]{1,256}")
_ORIGIN = re.compile(r"[A-Za-z0-9.\-]{1,253}(?::[0-9]{1,5})?")
_PRINTABLE = re.compile(r"[^\x00-\x08\x0b-\x1f\x7f]*")


class Handshake(Protocol):
    """A question of one kind.

    `method` is the one that it comes by. `proven` says that only a verified request gets the answer, and `whom`, for
    people, who may ask.
    """

    method: ClassVar[str]
    proven: ClassVar[bool]
    whom: ClassVar[str]

    def asks(self, request: WebhookRequest) -> bool:
        """Whether the request is this question, as far as its head tells."""

    def answer(self, request: WebhookRequest, payload: Payload, keys: Sequence[Key]) -> Answer | None:
        """The answer, or None where this request asks nothing."""

    def could_have_signed(self, body: bytes) -> bool:
        """Whether an answer to a stranger may hold a signature over this body."""


class _Question:
    method: ClassVar[str] = "POST"
    proven: ClassVar[bool] = True
    whom: ClassVar[str] = "signed"

    def asks(self, request: WebhookRequest) -> bool:
        return request.method == self.method

    def could_have_signed(self, body: bytes) -> bool:
        return False


@dataclass(frozen=True)
class EchoChallenge(_Question):
    """Slack: a signed body with a type of its own holds a challenge, which is sent back."""

    place: tuple[str, ...]
    word: str
    challenge: tuple[str, ...]

    def answer(self, request: WebhookRequest, payload: Payload, keys: Sequence[Key]) -> Answer | None:
        if _at(payload, self.place) != self.word:
            return None
        return Answer.text(_echoed(_at(payload, self.challenge)))


@dataclass(frozen=True)
class SignToken(_Question):
    """Zoom: a signed body holds a token, which is sent back with its HMAC."""

    place: tuple[str, ...]
    word: str
    token: tuple[str, ...]

    def answer(self, request: WebhookRequest, payload: Payload, keys: Sequence[Key]) -> Answer | None:
        if _at(payload, self.place) != self.word:
            return None
        token = _bounded(_at(payload, self.token))
        signed = hmac.digest(_first(keys).material, token.encode(), "sha256")
        return Answer.json({"plainToken": token, "encryptedToken": signed.hex()})


@dataclass(frozen=True)
class SignQuery(_Question):
    """X: anybody may send a token in the query, and gets its HMAC. So no body that is such a token is an event."""

    parameter: str
    method: ClassVar[str] = "GET"
    proven: ClassVar[bool] = False
    whom: ClassVar[str] = "anybody"

    def asks(self, request: WebhookRequest) -> bool:
        return request.method == self.method and request.parameter(self.parameter) is not None

    def answer(self, request: WebhookRequest, payload: Payload, keys: Sequence[Key]) -> Answer | None:
        token = _bounded(request.parameter(self.parameter))
        signed = hmac.digest(_first(keys).material, token.encode(), "sha256")
        return Answer.json({"response_token": f"sha256={encode(signed, 'base64')}"})

    def could_have_signed(self, body: bytes) -> bool:
        return len(body) <= MAX_ECHO and _TOKEN.fullmatch(body.decode("latin-1")) is not None


@dataclass(frozen=True)
class Subscribe(_Question):
    """Meta: a GET with a token that both sides know holds a challenge, which is sent back."""

    tokens: tuple[bytes, ...] = field(default=(), repr=False)
    method: ClassVar[str] = "GET"
    proven: ClassVar[bool] = False
    whom: ClassVar[str] = "knows `verify_token`"

    def asks(self, request: WebhookRequest) -> bool:
        return request.method == self.method and request.parameter("hub.mode") == "subscribe"

    def answer(self, request: WebhookRequest, payload: Payload, keys: Sequence[Key]) -> Answer | None:
        given = (request.parameter("hub.verify_token") or "").encode("utf-8", "surrogatepass")
        if not sum([same(given, token) for token in self.tokens]):
            raise refuse(Reason.HANDSHAKE, "hub.verify_token is not the verify_token of this endpoint.")
        return Answer.text(_echoed(request.parameter("hub.challenge")))


@dataclass(frozen=True)
class EchoQuery(_Question):
    """Microsoft Graph: a POST with a token in its query, which is sent back. Nobody proves anything by it."""

    parameter: str
    proven: ClassVar[bool] = False
    whom: ClassVar[str] = "anybody"

    def asks(self, request: WebhookRequest) -> bool:
        return request.method == self.method and request.parameter(self.parameter) is not None

    def answer(self, request: WebhookRequest, payload: Payload, keys: Sequence[Key]) -> Answer | None:
        return Answer.text(_echoed(request.parameter(self.parameter)))


@dataclass(frozen=True)
class Ping(_Question):
    """Discord: a signed body with nothing but a type."""

    place: tuple[str, ...]
    number: int
    reply: Any = None

    def answer(self, request: WebhookRequest, payload: Payload, keys: Sequence[Key]) -> Answer | None:
        given = _at(payload, self.place)
        if isinstance(given, bool) or given != self.number:
            return None
        return Answer(204) if self.reply is None else Answer.json(self.reply)


@dataclass(frozen=True)
class AllowOrigin(_Question):
    """CloudEvents: an OPTIONS with the sender's name. It is allowed when it is on the list; no URL is called."""

    origins: tuple[str, ...] = ()
    rate: int | None = None
    method: ClassVar[str] = "OPTIONS"
    proven: ClassVar[bool] = False
    whom: ClassVar[str] = "is in `allowed_origins`"

    def answer(self, request: WebhookRequest, payload: Payload, keys: Sequence[Key]) -> Answer | None:
        origin = request.one("webhook-request-origin") or ""
        if not _ORIGIN.fullmatch(origin) or not {"*", origin.lower()} & set(self.origins):
            raise refuse(
                Reason.HANDSHAKE,
                "The sender in webhook-request-origin is not on the list of allowed origins.",
            )
        rate = "*" if self.rate is None else str(self.rate)
        return Answer(
            200,
            headers=(("allow", "POST"), ("webhook-allowed-origin", origin), ("webhook-allowed-rate", rate)),
        )


def _at(payload: Payload, place: tuple[str, ...]) -> Any:
    try:
        return found(payload.value, Body(place))
    except Unreadable as error:
        raise refuse(Reason.HANDSHAKE, str(error)) from None


def _echoed(value: object) -> str:
    if not isinstance(value, str) or not 0 < len(value) <= MAX_ECHO or not _PRINTABLE.fullmatch(value):
        raise refuse(Reason.HANDSHAKE, f"The challenge is not text of 1 to {MAX_ECHO} characters.")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise refuse(Reason.HANDSHAKE, "The challenge is not text.") from None
    return value


def _bounded(value: object) -> str:
    if not isinstance(value, str) or not _TOKEN.fullmatch(value):
        raise refuse(
            Reason.HANDSHAKE, "The token is not 1 to 256 letters, digits, `_`, `-` and `=`; it is not signed."
        )
    return value


def _first(keys: Sequence[Key]) -> Key:
    for key in keys:
        if not key.expired:
            return key
    raise refuse(Reason.NO_SECRET, "There is no secret that is valid now.")


def verify_tokens(given: Any) -> tuple[bytes, ...]:
    """One or several tokens of a subscription.

    Raises:
        ConfigurationError: There is none, or one is empty.
    """
    several = [given] if isinstance(given, str) else list(given or ())
    if not several or not all(isinstance(each, str) and each.strip() for each in several):
        raise ConfigurationError("verify_token is empty. Give the text that you enter where you subscribe.")
    return tuple(each.encode() for each in several)

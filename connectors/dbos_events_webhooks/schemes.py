"""How a request proves where it comes from. One strict way over bytes; what differs between providers is data."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from dbos_events.model.dataclass import dataclass, field
from dbos_events_webhooks.algorithms import same
from dbos_events_webhooks.keys import KeyForm
from dbos_events_webhooks.outcome import Reason, refuse
from dbos_events_webhooks.payload import Payload, Unreadable
from dbos_events_webhooks.places import Body, elements, found
from dbos_events_webhooks.request import WebhookRequest
from dbos_events_webhooks.secret import Key

MAX_NAMED = 256
MAX_ITEMS = 10_000


@dataclass(frozen=True, slots=True)
class Draft:
    """A request that is to be signed: its parts, and what goes into the headers of the signature."""

    body: bytes
    now_ms: int
    id: str
    query: bytes = b""
    path: str = "/"
    headers: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Proof:
    """The key that fits, the bytes that it has signed, if any were, and the content as those bytes hold it."""

    key: Key
    signed: bytes | None = field(default=None, repr=False)
    content: bytes | None = field(default=None, repr=False)
    age_ms: int | None = None


class Scheme(Protocol):
    """One way to prove it. `single` are headers that may be sent once only."""

    @property
    def key_form(self) -> KeyForm: ...

    @property
    def single(self) -> tuple[str, ...]: ...

    def check(self) -> None:
        """Raise ConfigurationError for what cannot work."""

    def check_head(self, request: WebhookRequest, now_ms: int) -> None:
        """Refuse what can be refused without body and secrets."""

    def prove(self, request: WebhookRequest, keys: Sequence[Key], payload: Payload, now_ms: int) -> Proof:
        """Find the key that fits, or refuse."""

    def signs_body(self) -> bool:
        """Whether the content lies inside the signature, so that nobody can change it on the way."""

    def signs_header(self, request: WebhookRequest, name: str) -> bool:
        """Whether the value of a header lies inside the signature."""

    def named(self, request: WebhookRequest, name: str) -> str:
        """The full name of a header whose name depends on the family that the sender uses."""

    def sign(self, draft: Draft, key: Any) -> tuple[tuple[str, str], ...]:
        """The headers that prove it."""


def fitting(keys: Sequence[Key], fits: Sequence[bool], wrong: str) -> Key:
    """The first key that fits and has not expired.

    All are compared before this is called: the time tells nothing about which of them it was.
    """
    if not keys:
        raise refuse(Reason.NO_SECRET, "There is no secret for this request.")
    right = [key for key, fit in zip(keys, fits, strict=True) if fit]
    for key in right:
        if not key.expired:
            return key
    if right:
        raise refuse(Reason.EXPIRED_SECRET, f"Only {right[0].use.name!r} fits, and it has expired.")
    raise refuse(Reason.WRONG_SIGNATURE, wrong)


class Unsigned:
    """What the schemes have in common that sign nothing."""

    @property
    def single(self) -> tuple[str, ...]:
        return ()

    def check(self) -> None:
        return

    def check_head(self, request: WebhookRequest, now_ms: int) -> None:
        return

    def signs_body(self) -> bool:
        return False

    def signs_header(self, request: WebhookRequest, name: str) -> bool:
        return False

    def named(self, request: WebhookRequest, name: str) -> str:
        return name

    def sign(self, draft: Draft, key: Any) -> tuple[tuple[str, str], ...]:
        return ()


@dataclass(frozen=True)
class TokenScheme(Unsigned):
    """The secret itself stands in a header. Nothing is signed: whoever has read one request can write another."""

    header: str
    word: str = ""
    key_form: KeyForm = "text"

    @property
    def single(self) -> tuple[str, ...]:
        return (self.header,)

    def check_head(self, request: WebhookRequest, now_ms: int) -> None:
        self._given(request)

    def prove(self, request: WebhookRequest, keys: Sequence[Key], payload: Payload, now_ms: int) -> Proof:
        given = self._given(request)
        fits = [same(given, key.material) for key in keys]
        return Proof(fitting(keys, fits, f"The header {self.header!r} has another value than the secrets."))

    def _given(self, request: WebhookRequest) -> bytes:
        value = request.one(self.header)
        if not value:
            raise refuse(Reason.MISSING_SIGNATURE, f"The header {self.header!r} is missing or empty.")
        if not self.word:
            return value.encode("latin-1")
        word, space, rest = value.partition(" ")
        if word.lower() != self.word.lower() or not space or not rest:
            raise refuse(
                Reason.MALFORMED_SIGNATURE, f"The header {self.header!r} does not begin with {self.word!r}."
            )
        return rest.encode("latin-1")

    def sign(self, draft: Draft, key: Any) -> tuple[tuple[str, str], ...]:
        value = bytes(key).decode("latin-1")
        return ((self.header, f"{self.word} {value}" if self.word else value),)


@dataclass(frozen=True)
class ItemSecretScheme(Unsigned):
    """Each item of the body holds the secret, as `clientState` of Microsoft Graph. Nothing is signed."""

    items: tuple[str, ...]
    name: str
    key_form: KeyForm = "text"

    def prove(self, request: WebhookRequest, keys: Sequence[Key], payload: Payload, now_ms: int) -> Proof:
        """Every item has to name a secret: a request with one that does not is refused whole."""
        if payload.problem is not None:
            raise refuse(Reason.UNREADABLE, payload.problem)
        try:
            items = elements(payload.value, self.items)
            given = [found(item, Body((self.name,))) for item, _ in items]
        except Unreadable as error:
            raise refuse(Reason.UNREADABLE, str(error)) from None
        texts = [text for text in given if isinstance(text, str) and 0 < len(text) <= MAX_NAMED]
        if not texts or len(texts) < len(given) or len(texts) > MAX_ITEMS:
            raise refuse(Reason.MISSING_SIGNATURE, f"The body has no item, or one without {self.name!r}.")
        wrong = f"An item of the body has another {self.name!r} than the secrets."
        right = [
            fitting(keys, [same(text.encode("utf-8", "surrogatepass"), key.material) for key in keys], wrong)
            for text in texts
        ]
        return Proof(right[0])


@dataclass(frozen=True)
class OpenScheme(Unsigned):
    """Nothing is proved, or a function of the caller has judged already."""

    key_form: KeyForm = "text"

    def prove(self, request: WebhookRequest, keys: Sequence[Key], payload: Payload, now_ms: int) -> Proof:
        return Proof(keys[0])

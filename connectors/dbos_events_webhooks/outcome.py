"""What verification answers: verified, refused with a reason, or an answer to a handshake."""

from __future__ import annotations

import json
from datetime import datetime
from enum import StrEnum
from typing import Any

from dbos_events.errors import UndecodablePayload
from dbos_events.model.dataclass import dataclass, field


class Reason(StrEnum):
    """Why a request was refused. It is for logs and metrics: the sender learns the status only."""

    METHOD = "method"
    HEADERS_TOO_LARGE = "headers-too-large"
    REPEATED_HEADER = "repeated-header"
    MALFORMED_LENGTH = "malformed-length"
    MALFORMED_QUERY = "malformed-query"
    BODY_TOO_LARGE = "body-too-large"
    CONTENT_ENCODING = "content-encoding"
    MALFORMED_ENCODING = "malformed-encoding"
    MEDIA_TYPE = "media-type"
    MISSING_SIGNATURE = "missing-signature"
    MALFORMED_SIGNATURE = "malformed-signature"
    WRONG_SIGNATURE = "wrong-signature"
    EXPIRED_SECRET = "expired-secret"  # noqa: S105 - a word, not a password
    NO_SECRET = "no-secret"  # noqa: S105
    MISSING_TIMESTAMP = "missing-timestamp"
    MALFORMED_TIMESTAMP = "malformed-timestamp"
    TOO_OLD = "too-old"
    TOO_NEW = "too-new"
    MISSING_ID = "missing-id"
    MALFORMED_ID = "malformed-id"
    MISSING_HEADER = "missing-header"
    MALFORMED_HEADER = "malformed-header"
    UNTRUSTED_CERTIFICATE = "untrusted-certificate"
    UNREADABLE = "unreadable"
    JUDGED_FALSE = "judged-false"
    HANDSHAKE = "handshake"
    SECRETS_UNAVAILABLE = "secrets-unavailable"
    CERTIFICATE_UNAVAILABLE = "certificate-unavailable"


UNAUTHORIZED = 401
_COMPACT = json.JSONEncoder(separators=(",", ":")).encode
_STATUS = {
    Reason.METHOD: 405,
    Reason.HEADERS_TOO_LARGE: 400,
    Reason.REPEATED_HEADER: 400,
    Reason.MALFORMED_LENGTH: 400,
    Reason.MALFORMED_QUERY: 400,
    Reason.MALFORMED_ENCODING: 400,
    Reason.BODY_TOO_LARGE: 413,
    Reason.CONTENT_ENCODING: 415,
    Reason.MEDIA_TYPE: 415,
    Reason.SECRETS_UNAVAILABLE: 503,
    Reason.CERTIFICATE_UNAVAILABLE: 503,
}
_WORDS = {
    400: "malformed request",
    401: "unauthorized",
    405: "method not allowed",
    413: "too large",
    415: "unsupported media type",
    503: "unavailable",
}


@dataclass(frozen=True, slots=True)
class Answer:
    """An HTTP answer: to a handshake, or to a request that was refused."""

    status: int
    body: bytes = b""
    headers: tuple[tuple[str, str], ...] = ()

    @classmethod
    def json(cls, value: object, status: int = 200, *more: tuple[str, str]) -> Answer:
        body = _COMPACT(value).encode()
        return cls(status, body, (("content-type", "application/json"), *more))

    @classmethod
    def text(cls, value: str) -> Answer:
        """Text that a browser never takes for a page."""
        kind = ("content-type", "text/plain; charset=utf-8")
        return cls(200, value.encode(), (kind, ("x-content-type-options", "nosniff")))


@dataclass(frozen=True, slots=True)
class Refused:
    """The request is not to be believed. `detail` is for the operator and holds no secret and no signature."""

    reason: Reason
    detail: str
    allow: str = "POST"

    @property
    def status(self) -> int:
        """The HTTP status; 401 for all failures of authentication alike, so that none of them tells anything."""
        return _STATUS.get(self.reason, UNAUTHORIZED)

    @property
    def answer(self) -> Answer:
        """What the sender gets: its status, and the same words for all reasons of that status."""
        more = {405: ("allow", self.allow), 413: ("connection", "close"), 503: ("retry-after", "5")}
        extra = (more[self.status],) if self.status in more else ()
        return Answer.json({"error": _WORDS[self.status]}, self.status, *extra)


class Refusal(Exception):
    """Carries a refusal from where it is found to where it is answered."""

    def __init__(self, refused: Refused) -> None:
        self.refused = refused
        super().__init__(refused.detail)


def refuse(reason: Reason, detail: str, *, allow: str = "POST") -> Refusal:
    """Return what to raise for a refusal."""
    return Refusal(Refused(reason, detail, allow))


@dataclass(frozen=True, slots=True)
class SecretUse:
    """The secret that matched, without its value: `index` is its place in the list, 0 being the first."""

    name: str
    index: int
    expires_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class VerifiedEvent:
    """One event of a verified request.

    `id` is printable ASCII of at most 255 characters. It is the sender's where there is one, else a digest of
    what was received; never random, and never from a header that changes when the sender tries again.

    Args:
        id: The event's id within its endpoint.
        id_trusted: Whether the id lies inside what is signed, or is a digest of it.
        replay_guard: Where the id is outside the signature, or was taken away from there: the digest of what was
            signed. A second event with the same guard and another id is a replay.
        fingerprint: Digest of the content. An event with the same id and another fingerprint conflicts with it.
        type: The sender's word for the kind of event, or None.
        type_trusted: Whether the type lies inside what is signed.
        occurred_at: When the sender says that it happened, or None.
        raw: The bytes of this event: the body, or the JSON of one item of it.
        context: What stood around an item that was split off, from the outside in.
        attributes: The attributes of a CloudEvent.
        problem: Why the content cannot be read, or None. The request is genuine all the same.
    """

    id: str
    id_trusted: bool
    fingerprint: str
    raw: bytes = field(repr=False)
    replay_guard: str | None = None
    type: str | None = None
    type_trusted: bool = False
    occurred_at: datetime | None = None
    value: Any = field(default=None, repr=False)
    context: tuple[Any, ...] = field(default=(), repr=False)
    attributes: dict[str, Any] = field(default_factory=dict, repr=False)
    problem: str | None = None

    @property
    def data(self) -> Any:
        """The content: JSON values, the fields of a form, or bytes.

        Raises:
            UndecodablePayload: The content cannot be read; `problem` says why, and `raw` has the bytes.
        """
        if self.problem is not None:
            raise UndecodablePayload(f"Event {self.id}: {self.problem}")
        return self.value


@dataclass(frozen=True, slots=True)
class Verified:
    """The request is genuine: the sender knew a secret that is valid now.

    Args:
        provider: The provider's name.
        events: What the request holds, in its order. A sender may send an empty list.
        secret: The secret that matched, or None where the provider has none.
        digest: SHA-256 of the bytes that were signed, or None where nothing is.
        age_seconds: How old the signature's timestamp is, or None where it has none.
        accepted_status: What this provider wants to hear when the events are stored.
        plain: The body without its compression, where it was compressed.
    """

    provider: str
    events: tuple[VerifiedEvent, ...]
    secret: SecretUse | None = None
    digest: str | None = None
    age_seconds: float | None = None
    accepted_status: int = 200
    plain: bytes | None = field(default=None, repr=False)


Outcome = Verified | Refused | Answer
"""An `Answer` ends a handshake: send it, and start nothing."""

"""The order of work on one request: head, question of a stranger, secrets, signature, challenge, events."""

from __future__ import annotations

import re
from collections.abc import Callable, Generator, Sequence
from typing import Any, Protocol

from dbos_events.model.dataclass import dataclass, field
from dbos_events_webhooks.identity import digest
from dbos_events_webhooks.outcome import Answer, Outcome, Reason, Refusal, Verified, refuse
from dbos_events_webhooks.payload import MediaKind, Payload, media_kind
from dbos_events_webhooks.reading import Reader
from dbos_events_webhooks.request import WebhookRequest
from dbos_events_webhooks.rows import Row
from dbos_events_webhooks.schemes import Proof
from dbos_events_webhooks.secret import Ask, Asking, Key, Ring, SecretUses

CONTENT_TYPES: dict[MediaKind, str] = {
    "json": "application/json",
    "form": "application/x-www-form-urlencoded",
    "other": "application/octet-stream",
}
_LENGTH = re.compile(r"[0-9]{1,15}")
_PLAIN = ("", "identity")

Judge = Callable[[WebhookRequest], Any]
Judging = Generator[Ask, Any, Outcome]


class KeySource(Protocol):
    """Where the keys for a request come from."""

    def keys(self, request: WebhookRequest, now_ms: int) -> Asking: ...


@dataclass(frozen=True, slots=True)
class Case:
    """One request before one provider. A generator of what has to be asked outside, for threads and loops alike."""

    row: Row
    source: KeySource = field(repr=False)
    judge: Judge | None
    uses: SecretUses
    request: WebhookRequest
    now_ms: int
    head_is_checked: bool = False
    """Whether `check_head` has let this request pass already, before its body was read."""

    def judged(self) -> Judging:
        """The outcome; a refusal on the way is one."""
        try:
            return (yield from self._judged())
        except Refusal as refusal:
            return refusal.refused

    def _judged(self) -> Judging:
        # Before secrets are looked up or a certificate is fetched, the headers of the signature have to be sound.
        # Secrets that are at hand cost nothing: the headers are read once then, with the signature.
        if not self.head_is_checked:
            self.check_head(signature=not isinstance(self.source, Ring))
        size = len(self.request.body)
        if size > self.row.max_body:
            raise refuse(Reason.BODY_TOO_LARGE, f"The body has {size} bytes, over {self.row.max_body}.")
        if self.judge is not None:
            yield from self._ask_judge(self.judge)
        keys = yield from self.source.keys(self.request, self.now_ms)
        if self._is_question():
            return self._answered(keys)
        return self._genuine(keys)

    def _genuine(self, keys: Sequence[Key]) -> Outcome:
        coding = self._coding()
        if coding is not None and self.row.decompress is not None:
            if self.row.decompress.signed == "compressed":
                return self._genuine_of(keys, self.request, coding)
            plain = self.row.decompress.plain(self.request.body, coding, self.row.max_body)
            return self._genuine_of(keys, self.request.with_body(plain), None, plain)
        return self._genuine_of(keys, self.request, None)

    def _genuine_of(
        self, keys: Sequence[Key], request: WebhookRequest, coding: str | None, plain: bytes | None = None
    ) -> Outcome:
        """What a request proves, whose body is as it was signed; in a `coding` it is decompressed behind the proof."""
        for shake in self.row.handshakes:
            if shake.could_have_signed(request.body):
                raise refuse(
                    Reason.WRONG_SIGNATURE, "The body is a token, which a handshake may have signed."
                )
        payload = Payload(request.body, self._kind(), self.row.reading.form_json)
        proof = self.row.scheme.prove(request, keys, payload, self.now_ms)
        if coding is not None and self.row.decompress is not None:
            plain = self.row.decompress.plain(request.body, coding, self.row.max_body)
            request = request.with_body(plain)
            payload = Payload(plain, payload.kind, self.row.reading.form_json)
        for shake in self.row.handshakes:
            if shake.proven and (answer := shake.answer(request, payload, keys)) is not None:
                return answer
        return self._verified(proof, request, payload, plain)

    def _verified(
        self, proof: Proof, request: WebhookRequest, payload: Payload, plain: bytes | None
    ) -> Verified:
        row = self.row
        events = Reader(row.reading, row.scheme, request, proof).events(payload)
        self.uses.note(proof.key.use, self.now_ms)
        return Verified(
            provider=row.name,
            events=events,
            secret=None if proof.key.material is None else proof.key.use,
            digest=None if proof.signed is None else digest(proof.signed),
            age_seconds=None if proof.age_ms is None else proof.age_ms / 1000,
            accepted_status=row.accepted_status,
            plain=plain,
        )

    def _ask_judge(self, judge: Judge) -> Generator[Ask, Any, None]:
        try:
            verdict = yield Ask(judge, self.request)
        except Exception as error:
            raise refuse(
                Reason.JUDGED_FALSE, f"The function that judges raised {type(error).__name__}."
            ) from error
        if verdict is not True:
            raise refuse(
                Reason.JUDGED_FALSE,
                f"The function that judges returned {type(verdict).__name__}; only True accepts a request.",
            )

    # ------------------------------------------------------------ head

    def _is_question(self) -> bool:
        return any(not shake.proven and shake.asks(self.request) for shake in self.row.handshakes)

    def _answered(self, keys: Sequence[Key]) -> Answer:
        for shake in self.row.handshakes:
            if not shake.proven and shake.asks(self.request):
                answer = shake.answer(self.request, Payload(b"", "other"), keys)
                if answer is not None:
                    return answer
        raise refuse(Reason.HANDSHAKE, "The request is not a question of this provider.")

    def check_head(self, *, signature: bool = True) -> None:
        """Refuse what method and headers alone show to be wrong, those of the `signature` too."""
        request = self.request
        request.check_bounds()
        self._check_length()
        if self._is_question():
            return
        if request.method != "POST":
            raise refuse(Reason.METHOD, "Webhooks are sent by POST.")
        taken = () if self.row.decompress is None else self.row.decompress.codings
        if (coding := self._coding()) is not None and coding not in taken:
            raise refuse(Reason.CONTENT_ENCODING, "The body is compressed. Signatures are over plain bytes.")
        self._kind()
        scheme = self.row.scheme
        for name in (*scheme.single, *self.row.reading.headers()):
            request.one(scheme.named(request, name.lower()))
        if signature:
            scheme.check_head(request, self.now_ms)

    def _coding(self) -> str | None:
        """How the body is compressed; None where it is not."""
        coding = self.request.one("content-encoding")
        coding = "" if coding is None else coding.strip().lower()
        return None if coding in _PLAIN else coding

    def _check_length(self) -> None:
        length = self.request.one("content-length")
        if length is not None and not _LENGTH.fullmatch(length):
            raise refuse(Reason.MALFORMED_LENGTH, "The header 'content-length' is not a number.")
        if length is not None and int(length) > self.row.max_body:
            raise refuse(Reason.BODY_TOO_LARGE, f"The body has {length} bytes, over {self.row.max_body}.")

    def _kind(self) -> MediaKind:
        kind = media_kind(self.request.one("content-type"), self.row.media[0])
        if kind is None or kind not in self.row.media:
            wanted = " or ".join(CONTENT_TYPES[kind] for kind in self.row.media)
            raise refuse(Reason.MEDIA_TYPE, f"The content type is not {wanted} in UTF-8.")
        return kind

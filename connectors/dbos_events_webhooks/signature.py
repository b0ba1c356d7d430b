"""Signatures over bytes: one reader of headers, one template, one comparison, for every provider that signs."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from functools import cached_property
from typing import Any, Literal
from urllib.parse import urlsplit, urlunsplit

from dbos_events.errors import ConfigurationError
from dbos_events.model.dataclass import dataclass, field
from dbos_events_webhooks.algorithms import Algorithm, Encoding, decode, encode, make, matches
from dbos_events_webhooks.keys import KeyForm
from dbos_events_webhooks.outcome import Reason, refuse
from dbos_events_webhooks.payload import Payload, Unreadable, parse_pairs
from dbos_events_webhooks.places import MISSING, Body, Unit, found, time_ms
from dbos_events_webhooks.request import WebhookRequest
from dbos_events_webhooks.schemes import Draft, Proof, fitting
from dbos_events_webhooks.secret import Key
from dbos_events_webhooks.template import Filling, Part, parse_template, render

MAX_SIGNATURES = 16
MAX_TOLERANCE_SECONDS = 3600
FORM = "application/x-www-form-urlencoded"
_ID = re.compile(r"[A-Za-z0-9_\-:+/=~.]{1,255}")
_STAMPS = {
    "s": re.compile(r"[0-9]{1,12}"),
    "ms": re.compile(r"[0-9]{1,15}"),
    "iso": re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(?:\.[0-9]{1,9})?Z"),
}
_PORT = re.compile(r":[0-9]+$")
_DEFAULT_PORTS = {"https": 443, "http": 80}

Style = Literal["plain", "list", "pairs"]


@dataclass(frozen=True, slots=True)
class Stamp:
    """Where the time of the signature stands: in a header, in a pair of the signature's, or in the content."""

    header: str | None = None
    pair: str | None = None
    body: str | None = None
    unit: Unit = "s"


@dataclass(frozen=True, slots=True)
class Head:
    """What the headers say: the signatures that are well formed, their time as it is written, the id."""

    signatures: list[bytes]
    stamp: str | None
    id: str | None


@dataclass(frozen=True)
class SignatureScheme:
    """How a provider signs.

    Args:
        algorithm: Fixed here; a header that names one changes nothing.
        headers: Those that hold signatures; one of them is enough. `*` stands for a family.
        style: `plain` is one signature after `mark`; `list` is several, parted by spaces, each after `mark`;
            `pairs` is `name=value` parted by `separator`, the signatures being called `mark`.
        content: What is signed.
        timestamp: When it was signed, or None where nothing says so.
        id_header: The header of `{id}`.
        families: Prefixes of the headers' names, of which a request uses one.
        required: Headers that must have exactly these values.
        constants: Values of `{constant:name}`.
        public_url: The URL that the sender calls; without a path, that of the request follows it.
        ports: Whether the sender may sign the URL with its default port or without.
    """

    algorithm: Algorithm
    headers: tuple[str, ...]
    content: str = "{body}"
    style: Style = "plain"
    mark: str = ""
    separator: str = ","
    encoding: Encoding = "hex"
    timestamp: Stamp | None = None
    tolerance_seconds: int = 300
    id_header: str | None = None
    families: tuple[str, ...] = ("",)
    required: tuple[tuple[str, str], ...] = ()
    constants: Mapping[str, str] = field(default_factory=dict)
    public_url: str | None = None
    ports: bool = False
    key_form: KeyForm = "text"

    def check(self) -> None:
        """Refuse what cannot work before the first request comes.

        Raises:
            ConfigurationError: The template, the tolerance or the URL is wrong, or something is missing.
        """
        if not 0 < self.tolerance_seconds <= MAX_TOLERANCE_SECONDS:
            raise ConfigurationError(
                f"The tolerance is {self.tolerance_seconds} s. It has to be more than 0 and at most "
                f"{MAX_TOLERANCE_SECONDS} s."
            )
        if self._has("timestamp") and self.timestamp is None:
            raise ConfigurationError("The signed content has {timestamp}, and nothing says where it stands.")
        if self._has("id") and self.id_header is None:
            raise ConfigurationError(
                "The signed content has {id}, and nothing says in which header it stands."
            )
        if self._has("url"):
            split = urlsplit(self.public_url or "")
            if split.scheme not in _DEFAULT_PORTS or not split.netloc or split.query or split.fragment:
                raise ConfigurationError(
                    f"This provider signs the URL that it calls, and public_url is {self.public_url!r}. Give it "
                    "without its query: https://host/path, or https://host when the path is that of the request."
                )

    @cached_property
    def parts(self) -> tuple[Part, ...]:
        """The template of what is signed, read."""
        return parse_template(self.content)

    def _has(self, *tokens: str) -> bool:
        return any(part.kind in tokens for part in self.parts)

    # ------------------------------------------------------------ headers

    @cached_property
    def single(self) -> tuple[str, ...]:
        names = [*self.headers, self.id_header, self.timestamp.header if self.timestamp else None]
        names += [part.name for part in self.parts if part.kind == "header"]
        names += [name for name, _ in self.required]
        return tuple(name.replace("*", family) for name in names if name for family in self.families)

    def _family(self, request: WebhookRequest) -> str:
        """The first family that any header belongs to: headers of two never make one signature."""
        starred = [name for name in (*self.headers, self.id_header) if name and "*" in name]
        for family in self.families:
            if any(request.has(name.replace("*", family)) for name in starred):
                return family
        return self.families[0]

    def named(self, request: WebhookRequest, name: str) -> str:
        return name.replace("*", self._family(request)) if "*" in name else name

    def check_head(self, request: WebhookRequest, now_ms: int) -> None:
        self._age(self._head(request).stamp, now_ms)

    def _head(self, request: WebhookRequest) -> Head:
        signatures, paired = self._signatures(request)
        for name, value in self.required:
            if request.one(name) != value:
                raise refuse(Reason.MALFORMED_HEADER, f"The header {name!r} has to be {value!r}.")
        return Head(signatures, self._stamp(request, paired), self._id(request))

    def _signatures(self, request: WebhookRequest) -> tuple[list[bytes], str | None]:
        """The signatures that are well formed, and the time that stands among them."""
        names = [self.named(request, name) for name in self.headers]
        values = [value for name in names if (value := request.one(name))]
        if not values:
            raise refuse(Reason.MISSING_SIGNATURE, f"The header {names[0]!r} is missing or empty.")
        texts, stamps = self._pieces(values)
        if len(texts) > MAX_SIGNATURES:
            raise refuse(Reason.MALFORMED_SIGNATURE, f"There are over {MAX_SIGNATURES} signatures.")
        decoded = [decode(text, self.encoding, self.algorithm) for text in texts]
        good = [signature for signature in decoded if signature is not None]
        if not good or len(stamps) > 1:
            after = f" after {self.mark!r}" if self.mark else ""
            raise refuse(
                Reason.MALFORMED_SIGNATURE,
                f"The header {names[0]!r} holds no {self.algorithm} signature in {self.encoding}{after}.",
            )
        return good, stamps[0] if stamps else None

    def _pieces(self, values: Sequence[str]) -> tuple[list[str], list[str]]:
        if self.style != "pairs":
            pieces = [
                piece for value in values for piece in (value.split(" ") if self.style == "list" else [value])
            ]
            return [piece.removeprefix(self.mark) for piece in pieces if piece.startswith(self.mark)], []
        pairs = [piece.partition("=") for value in values for piece in value.split(self.separator)]
        clock = self.timestamp.pair if self.timestamp else None
        return (
            [value for name, equals, value in pairs if equals and name == self.mark],
            [value for name, equals, value in pairs if equals and name == clock],
        )

    def _id(self, request: WebhookRequest) -> str | None:
        if self.id_header is None:
            return None
        name = self.named(request, self.id_header)
        value = request.one(name)
        if not value:
            raise refuse(Reason.MISSING_ID, f"The header {name!r} is missing or empty.")
        if not _ID.fullmatch(value):
            raise refuse(Reason.MALFORMED_ID, f"The header {name!r} has characters that an id does not have.")
        return value

    # ------------------------------------------------------------ time

    def _stamp(self, request: WebhookRequest, paired: str | None) -> str | None:
        if self.timestamp is None or self.timestamp.body is not None:
            return None
        header = self.timestamp.header
        value = paired if header is None else request.one(self.named(request, header))
        if not value:
            raise refuse(Reason.MISSING_TIMESTAMP, "The signature has no timestamp.")
        return value

    def _age(self, text: str | None, now_ms: int) -> int | None:
        """How old the signature is; refused outside the tolerance, on both sides."""
        if text is None or self.timestamp is None:
            return None
        unit = self.timestamp.unit
        at = time_ms(text, unit) if _STAMPS[unit].fullmatch(text) else None
        if at is None:
            raise refuse(Reason.MALFORMED_TIMESTAMP, "The timestamp of the signature cannot be read as one.")
        age = now_ms - at
        if abs(age) > self.tolerance_seconds * 1000:
            raise refuse(
                Reason.TOO_OLD if age > 0 else Reason.TOO_NEW,
                f"The signature was made {abs(age) / 1000:.0f} s {'ago' if age > 0 else 'in the future'}, and "
                f"{self.tolerance_seconds} s are allowed. Is this machine's clock right?",
            )
        return age

    def _age_in_body(self, payload: Payload, now_ms: int) -> int | None:
        if self.timestamp is None or self.timestamp.body is None:
            return None
        try:
            value = found(payload.value, Body(self.timestamp.body))
        except Unreadable as error:
            raise refuse(Reason.MALFORMED_TIMESTAMP, str(error)) from None
        if value is MISSING or isinstance(value, bool) or not isinstance(value, (int, str)):
            raise refuse(Reason.MISSING_TIMESTAMP, f"The content has no time in {self.timestamp.body!r}.")
        too_long = isinstance(value, int) and abs(value) >= 10**15
        return self._age("" if too_long else str(value), now_ms)

    # ------------------------------------------------------------ proof

    def prove(self, request: WebhookRequest, keys: Sequence[Key], payload: Payload, now_ms: int) -> Proof:
        head = self._head(request)
        age = self._age(head.stamp, now_ms)
        contents = self._contents(request, head)
        # Every key with every signature, without an early end.
        fits = [
            sum(
                matches(self.algorithm, key.material, signature, content)
                for content in contents
                for signature in head.signatures
            )
            > 0
            for key in keys
        ]
        wrong = "No secret gives this signature. Is the secret right, and the body as it arrived?"
        key = fitting(keys, fits, wrong)
        in_body = self._age_in_body(payload, now_ms)
        content = contents[0] if self._has("form") else request.body
        return Proof(key, contents[0], content, age if in_body is None else in_body)

    def _contents(self, request: WebhookRequest, head: Head) -> list[bytes]:
        """What may have been signed: two ways of writing the URL, else one."""
        values = {
            "method": request.method.encode("latin-1", "replace"),
            "timestamp": (head.stamp or "").encode("latin-1"),
            "id": (head.id or "").encode("latin-1"),
            "form": self._form(request) if self._has("form") else b"",
        }
        headers = {
            part.name: self._header(request, part.name) for part in self.parts if part.kind == "header"
        }
        return [
            render(self.parts, Filling(request.body, {**values, "url": url}, headers, self.constants))
            for url in (self._urls(request) if self._has("url") else [b""])
        ]

    def _header(self, request: WebhookRequest, name: str) -> bytes:
        value = request.one(name)
        if value is None:
            raise refuse(Reason.MISSING_HEADER, f"The header {name!r} is signed, and missing.")
        return value.encode("latin-1")

    def _form(self, request: WebhookRequest) -> bytes:
        """The pairs of a form, sorted, each once; of another body nothing, for the URL has to hold its digest."""
        digest = request.parameter("bodySHA256")
        if digest is not None:
            if digest != hashlib.sha256(request.body).hexdigest():
                raise refuse(Reason.WRONG_SIGNATURE, "The body is not the one whose digest the URL holds.")
            return b""
        if not (request.one("content-type") or FORM).lower().startswith(FORM):
            raise refuse(
                Reason.MISSING_SIGNATURE, "The body is not a form, and the URL has no bodySHA256 of it."
            )
        try:
            pairs = sorted(set(parse_pairs(request.body)))
        except Unreadable as error:
            raise refuse(Reason.UNREADABLE, str(error)) from None
        return b"".join((name + value).encode("utf-8", "surrogatepass") for name, value in pairs)

    def _urls(self, request: WebhookRequest) -> list[bytes]:
        split = urlsplit(self.public_url or "")
        hosts = [split.netloc]
        if self.ports:
            bare = _PORT.sub("", split.netloc)
            hosts.append(bare if bare != split.netloc else f"{bare}:{_DEFAULT_PORTS[split.scheme]}")
        path = split.path or request.path
        query = b"?" + request.query if request.query else b""
        return [
            urlunsplit((split.scheme, host, path, "", "")).encode("utf-8", "surrogatepass") + query
            for host in hosts
        ]

    def signs_body(self) -> bool:
        """Not where the signed bytes fit other contents: a checksum, or names and values without a border."""
        return self._has("body")

    def signs_header(self, request: WebhookRequest, name: str) -> bool:
        if self.id_header is not None and self._has("id") and name == self.named(request, self.id_header):
            return self.signs_body()
        return any(part.kind == "header" and part.name == name for part in self.parts)

    # ------------------------------------------------------------ signing

    def sign(self, draft: Draft, key: Any) -> tuple[tuple[str, str], ...]:
        stamp = self._written(draft.now_ms)
        made: list[tuple[str, str]] = list(self.required)
        if self.id_header is not None:
            made.append((self.id_header.replace("*", self.families[0]), draft.id))
        if self.timestamp is not None and self.timestamp.header is not None:
            made.append((self.timestamp.header.replace("*", self.families[0]), stamp or ""))
        request = WebhookRequest.of(draft.body, (*draft.headers, *made), query=draft.query, path=draft.path)
        content = self._contents(request, Head([], stamp, draft.id))[0]
        text = self.mark + ("=" if self.style == "pairs" else "")
        text += encode(make(self.algorithm, key, content), self.encoding)
        if self.timestamp is not None and self.timestamp.pair is not None:
            text = f"{self.timestamp.pair}={stamp}{self.separator}{text}"
        return (*made, (self.headers[0].replace("*", self.families[0]), text))

    def _written(self, now_ms: int) -> str | None:
        if self.timestamp is None or self.timestamp.body is not None:
            return None
        if self.timestamp.unit == "iso":
            return datetime.fromtimestamp(now_ms // 1000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        return str(now_ms // 1000 if self.timestamp.unit == "s" else now_ms)

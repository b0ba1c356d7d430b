"""A request as it came: bytes, and headers in their order, each as often as it was sent."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any
from urllib.parse import parse_qsl, quote, urlsplit

from dbos_events.model.dataclass import dataclass, field, replace
from dbos_events_webhooks.outcome import Reason, refuse

MAX_HEADERS = 200
MAX_HEADERS_BYTES = 64 * 1024
MAX_VALUE_BYTES = 4096
"""Of a header that is looked at: a signature, a timestamp, an id, a type."""
MAX_QUERY_BYTES = 8192

Text = str | bytes
Headers = Mapping[str, Text] | Iterable[tuple[Text, Text]]


@dataclass(frozen=True, slots=True)
class WebhookRequest:
    """What verification looks at. Its `repr` shows sizes only: a request holds tokens and people's data.

    `body` must be the bytes that arrived, before anything has parsed them. `headers` are pairs with lower-case
    names. `path` is percent-encoded, as in a URL. `path_params` are those of the route, for a callable that looks up
    the secrets of a tenant.
    """

    body: bytes = b""
    headers: tuple[tuple[str, bytes], ...] = ()
    method: str = "POST"
    path: str = "/"
    query: bytes = b""
    path_params: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of(
        cls,
        body: bytes,
        headers: Headers = (),
        *,
        method: str = "POST",
        path: str = "/",
        query: Text = b"",
        path_params: Mapping[str, str] | None = None,
    ) -> WebhookRequest:
        """A request from its parts; text becomes the bytes that it was on the wire.

        Raises:
            TypeError: The body is not bytes. A body that was decoded or parsed cannot be verified.
        """
        if not isinstance(body, (bytes, bytearray, memoryview)):
            raise TypeError(
                f"The body of a webhook request is bytes as they arrived, but this is {type(body).__name__}. "
                "Read it before anything parses it: `await request.body()`, `request.get_data()`."
            )
        return cls(
            bytes(body), pairs_of(headers), method.upper(), path, _wire(query), dict(path_params or {})
        )

    @classmethod
    def from_asgi(
        cls, scope: Mapping[str, Any], body: bytes, path_params: Mapping[str, str] | None = None
    ) -> WebhookRequest:
        """The request of an ASGI scope, whose body was read to its end; `path_params` where the scope has others."""
        if path_params is None:
            path_params = {key: str(value) for key, value in (scope.get("path_params") or {}).items()}
        return cls.of(
            body,
            scope.get("headers", ()),
            method=scope.get("method", "POST"),
            path=_raw_path(scope),
            query=scope.get("query_string", b""),
            path_params=path_params,
        )

    @classmethod
    def from_wsgi(cls, environ: Mapping[str, Any], body: bytes) -> WebhookRequest:
        """The request of a WSGI environment, whose body was read to its end.

        WSGI joins a header that was sent twice with a comma, so only an ASGI server shows that it was.
        """
        named = {"CONTENT_TYPE": "content-type", "CONTENT_LENGTH": "content-length"}
        headers = [
            (named.get(key) or key.removeprefix("HTTP_").replace("_", "-"), str(value))
            for key, value in environ.items()
            if key.startswith("HTTP_") or (key in named and value)
        ]
        return cls.of(
            body,
            headers,
            method=environ.get("REQUEST_METHOD", "POST"),
            path=_wsgi_path(environ),
            query=environ.get("QUERY_STRING", ""),
        )

    def with_body(self, body: bytes) -> WebhookRequest:
        """The same request once its body was read to its end."""
        return WebhookRequest(body, self.headers, self.method, self.path, self.query, self.path_params)

    def at_path(self, url: str) -> WebhookRequest:
        """The same request to the path and query of a URL."""
        split = urlsplit(url)
        return replace(self, path=split.path or "/", query=_wire(split.query))

    def has(self, name: str) -> bool:
        """Whether a header of that name was sent."""
        return any(key == name for key, _ in self.headers)

    def one(self, name: str) -> str | None:
        """The value of a header that may be sent once, or None; what is not Latin-1 cannot arrive by HTTP."""
        values = [value for key, value in self.headers if key == name]
        if len(values) > 1:
            raise refuse(Reason.REPEATED_HEADER, f"The header {name!r} was sent {len(values)} times.")
        if values and len(values[0]) > MAX_VALUE_BYTES:
            raise refuse(
                Reason.HEADERS_TOO_LARGE,
                f"The header {name!r} has {len(values[0])} bytes; {MAX_VALUE_BYTES} are the most.",
            )
        return values[0].decode("latin-1") if values else None

    def parameter(self, name: str) -> str | None:
        """The value of a query parameter that may be sent once, decoded, or None."""
        if name.encode() not in self.query:
            return None
        try:
            pairs = parse_qsl(
                self.query.decode("ascii"), keep_blank_values=True, max_num_fields=100, errors="strict"
            )
        except ValueError as error:
            raise refuse(Reason.MALFORMED_QUERY, "The query is not UTF-8, or has over 100 fields.") from error
        values = [value for key, value in pairs if key == name]
        if len(values) > 1:
            raise refuse(Reason.MALFORMED_QUERY, f"The query parameter {name!r} was sent twice.")
        return values[0] if values else None

    def check_bounds(self) -> None:
        """Refuse a request whose headers or query are larger than any sender's."""
        size = sum(len(name) + len(value) for name, value in self.headers)
        if len(self.headers) > MAX_HEADERS or size > MAX_HEADERS_BYTES:
            raise refuse(
                Reason.HEADERS_TOO_LARGE, f"The request has {len(self.headers)} headers of {size} bytes."
            )
        if len(self.query) > MAX_QUERY_BYTES:
            raise refuse(Reason.HEADERS_TOO_LARGE, f"The query has {len(self.query)} bytes.")

    def __repr__(self) -> str:
        return f"WebhookRequest({self.method}, {len(self.headers)} headers, {len(self.body)} bytes)"


def _raw_path(scope: Mapping[str, Any]) -> str:
    """The path as it was sent, as long as the server hands it over: a URL is signed as it is written."""
    raw = scope.get("raw_path")
    return raw.decode("latin-1") if isinstance(raw, bytes) else _quoted(scope.get("path", "/"))


def _wsgi_path(environ: Mapping[str, Any]) -> str:
    """WSGI has the bytes of the path decoded as Latin-1."""
    path = environ.get("SCRIPT_NAME", "") + environ.get("PATH_INFO", "/")
    return _quoted(path.encode("latin-1", "replace"))


def _quoted(path: str | bytes) -> str:
    wire = path if isinstance(path, bytes) else path.encode("utf-8", "surrogatepass")
    return quote(wire, safe="/:@!$&'()*+,;=~-._")


def pairs_of(headers: Headers) -> tuple[tuple[str, bytes], ...]:
    """Headers as pairs of a lower-case name and the bytes on the wire."""
    pairs = headers.items() if isinstance(headers, Mapping) else headers
    return tuple((_name(name), _wire(value)) for name, value in pairs)


def _wire(value: Text) -> bytes:
    if not isinstance(value, str):
        return bytes(value)
    try:
        return value.encode("latin-1")
    except UnicodeEncodeError:
        return value.encode("utf-8", "surrogatepass")


def _name(value: Text) -> str:
    return (value if isinstance(value, str) else bytes(value).decode("latin-1")).lower()

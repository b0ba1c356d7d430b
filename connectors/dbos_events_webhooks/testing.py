"""Webhooks in tests: requests signed as their providers sign them, sent to a receiver without a server.

from dbos_events_webhooks.testing import WebhookClient

def test_a_payment_is_booked_once(dbos_test_app):
    dbos = dbos_test_app()
    stripe = WebhookClient(hooks, dbos)
    sent = stripe.send("/stripe", {"id": "evt_1", "type": "charge.paid"}, times=2)
    assert [each.status for each in sent.all] == [200, 200]
    dbos.run_until_idle()
    assert booked == ["evt_1"]
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Coroutine, Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from typing import Any, Literal, Protocol, TypeVar
from urllib.parse import quote, unquote

from dbos_events.connect import Clock, Inbox
from dbos_events.errors import ConfigurationError
from dbos_events.model.dataclass import dataclass, field, replace
from dbos_events_webhooks.provider import Provider
from dbos_events_webhooks.receiving.receiver import CONNECTOR, WebhookReceiver
from dbos_events_webhooks.request import Headers, WebhookRequest

T = TypeVar("T")
Tamper = Literal["body", "signature"] | Callable[[WebhookRequest], WebhookRequest]


@dataclass(frozen=True, slots=True)
class Delivery:
    """What the sender of one request, or of several equal ones, was answered; the fields are those of the last."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    request: WebhookRequest
    all: tuple[Delivery, ...] = field(default=(), repr=False)

    @property
    def json(self) -> Any:
        """The body as JSON, or None where it is none: empty, or a `reply` that is text."""
        try:
            return json.loads(self.body) if self.body else None
        except ValueError:
            return None

    @property
    def workflow_id(self) -> str | None:
        """The id of the workflow that was started, where it was one."""
        said = self.json
        return said.get("id") if isinstance(said, dict) else None


class Kit(Protocol):
    """A `dbos_events.testing.TestApp`."""

    @property
    def clock(self) -> Clock: ...

    def inbox(self, connector: str) -> Inbox: ...


class WebhookClient:
    """Sends webhooks to a receiver, in the process and without a server.

    Args:
        receiver: Its App is launched, or that of `test`.
        test: The `TestApp` that runs its handlers; requests are signed and judged at its time.
        clock: Another time than the machine's, without a `TestApp`.
    """

    def __init__(
        self, receiver: WebhookReceiver, test: Kit | None = None, *, clock: Clock | None = None
    ) -> None:
        self._receiver = receiver
        self._test = test
        clock = clock or (None if test is None else test.clock)
        if clock is not None:
            for endpoint in receiver.endpoints:
                endpoint.provider = endpoint.provider.at(clock)

    def send(  # noqa: PLR0913 - what a request is made of
        self,
        path: str,
        payload: object = None,
        *,
        id: str | None = None,  # noqa: A002 - the event's
        type: str | None = None,  # noqa: A002 - the event's
        headers: Headers = (),
        query: str | bytes = b"",
        signing_key: str | bytes | None = None,
        signed_at: datetime | None = None,
        times: int = 1,
        tamper: Tamper | None = None,
    ) -> Delivery:
        """Sign an event as the provider of `path` does, and send it.

        Args:
            path: Where it goes: `/stripe`, or `/t/acme/erp` with the parameters filled in.
            payload: Bytes as they are; text as UTF-8; anything else as JSON.
            id: The event's, where the provider has it in a header.
            type: The same for its kind.
            headers: More headers.
            query: The query, without its question mark.
            signing_key: The private key, or the secret where a function finds it.
            signed_at: When it was signed, other than now.
            times: How often the same request is sent.
            tamper: Change the signed request on its way: a bit of its `body`, of its `signature`, or by a function.
        """
        if times < 1:
            raise ConfigurationError(f"times is {times!r}. It has to be at least 1.")
        request = self.sign(
            path,
            payload,
            id=id,
            type=type,
            headers=headers,
            query=query,
            signing_key=signing_key,
            signed_at=signed_at,
        )
        if tamper is not None:
            request = _tampered(request, tamper)
        sent = tuple(self.send_request(request) for _ in range(times))
        return replace(sent[-1], all=sent)

    def sign(
        self, path: str, payload: object = None, *, signed_at: datetime | None = None, **more: Any
    ) -> WebhookRequest:
        """The request that `send` would send; arguments as there.

        Raises:
            ConfigurationError: The receiver has no such path, or what it has configured cannot sign.
        """
        path = quote(path, safe="/%:@!$&'()*+,;=~-._")
        found = self._receiver.find(unquote(path))
        if found is None:
            known = ", ".join(endpoint.path for endpoint in self._receiver.endpoints)
            raise ConfigurationError(f"The receiver has no endpoint at {path}; it has {known or 'none'}.")
        provider: Provider = found[0].provider
        if signed_at is not None:
            provider = provider.at(_Stopped(signed_at))
        return provider.sign(_bytes(payload), path=path, **more)

    def send_request(self, request: WebhookRequest) -> Delivery:
        """Send a request as it is."""
        return _run(self.send_request_async(request))

    async def send_request_async(self, request: WebhookRequest) -> Delivery:
        """As `send_request`, on the running loop."""
        messages: list[Any] = []
        pieces = [{"type": "http.request", "body": request.body, "more_body": False}]

        async def receive() -> Any:
            if pieces:
                return pieces.pop()
            return await asyncio.Event().wait()  # the sender waits for its answer

        async def send(message: Any) -> None:
            messages.append(message)

        scope = {
            "type": "http",
            "http_version": "1.1",
            "method": request.method,
            "path": unquote(request.path),
            "raw_path": request.path.encode("latin-1"),
            "query_string": request.query,
            "headers": [(name.encode("latin-1"), value) for name, value in request.headers],
        }
        if self._test is not None:
            self._receiver.open(self._test.inbox(CONNECTOR))
        await self._receiver(scope, receive, send)
        start = messages[0]
        said = {name.decode("latin-1"): value.decode("latin-1") for name, value in start["headers"]}
        body = b"".join(message.get("body", b"") for message in messages[1:])
        return Delivery(start["status"], said, body, request)


class _Stopped:
    """A clock that shows one time."""

    manual = True

    def __init__(self, at: datetime) -> None:
        self._ms = round(at.timestamp() * 1000)

    def now_ms(self) -> int:
        return self._ms

    def monotonic(self) -> float:
        return self._ms / 1000

    def alarm(self, at_ms: int, ring: Callable[[], object]) -> Callable[[], None]:
        return lambda: None


def _bytes(payload: object) -> bytes:
    if isinstance(payload, bytes):
        return payload
    if isinstance(payload, str):
        return payload.encode()
    as_json = getattr(payload, "model_dump_json", None)
    if as_json is not None:
        return str(as_json()).encode()
    return json.dumps({} if payload is None else payload).encode()


def _tampered(request: WebhookRequest, tamper: Tamper) -> WebhookRequest:
    if callable(tamper):
        return tamper(request)
    if tamper == "body":
        return request.with_body(bytes([request.body[0] ^ 1]) + request.body[1:] if request.body else b"!")
    if tamper != "signature":
        raise ConfigurationError(
            f"tamper is 'body', 'signature' or a function of the request, and not {tamper!r}."
        )
    return replace(
        request,
        headers=tuple(
            (
                name,
                value[:-3] + bytes([value[-3] ^ 1]) + value[-2:]
                if _proves(name) and len(value) > 2
                else value,
            )
            for name, value in request.headers
        ),
    )


def _proves(name: str) -> bool:
    return any(word in name for word in ("signature", "hmac", "authorization", "token", "-sig"))


def _run(work: Coroutine[Any, Any, T]) -> T:
    """On a loop of its own, on a thread where this one runs a loop already."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(work)
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(asyncio.run, work).result()

"""What an endpoint may be told beside its provider: compressed bodies, replies, rates, refusal of what does not fit."""

from __future__ import annotations

import asyncio
import functools
import gzip
import json
import threading
import zlib
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pydantic
import pytest

from dbos_events import App
from dbos_events.connect import Outcome
from dbos_events.errors import ConfigurationError, DBOSException, RegistrationError
from dbos_events.testing import ManualClock
from dbos_events.testing.plugin import MakeTestApp
from dbos_events_webhooks import (
    Answer,
    Decompress,
    Limits,
    RateLimit,
    WebhookEvent,
    WebhookReceiver,
    WebhookRequest,
    providers,
)
from dbos_events_webhooks.testing import WebhookClient
from tests.connectors.webhooks.receiving.fakes import MemoryInbox, Reply, Wire, receiver

BODY = json.dumps({"id": "evt_1", "type": "paid", "pad": "x" * 2000}).encode()


def stripe(**options: Any) -> Any:
    return providers.stripe(secret="whsec_t", **options)


class Hooks:
    """A receiver with one endpoint, `/in`, on an inbox in memory."""

    def __init__(self, provider: Any = None, limits: Limits | None = None, **options: Any) -> None:
        self.hooks = receiver(limits)

        @self.hooks.webhook("/in", provider=provider or stripe(), **options)
        def on_event(event: WebhookEvent) -> None: ...

        self.inbox: MemoryInbox = self.hooks.app.launch()

    def sign(self, body: bytes = BODY) -> WebhookRequest:
        return WebhookClient(self.hooks).sign("/in", body)

    def send(self, request: WebhookRequest) -> Reply:
        return Wire(self.hooks, request).reply()


def encoded(request: WebhookRequest, coding: str, body: bytes | None = None) -> WebhookRequest:
    headers = (*request.headers, ("content-encoding", coding.encode()))
    return replace(request, headers=headers, body=request.body if body is None else body)


# ------------------------------------------------------------------ compressed bodies

CODINGS = {"gzip": gzip.compress, "deflate": zlib.compress}


@pytest.mark.parametrize("coding", CODINGS)
def test_a_compressed_body_is_verified_as_it_arrived_and_read_without_its_compression(coding: str) -> None:
    hooks = Hooks(decompress=("gzip", "deflate"))
    request = encoded(hooks.sign(CODINGS[coding](BODY)), coding)
    assert hooks.send(request).status == 200
    (event,) = hooks.inbox.events
    assert (event.id, event.data["type"], event.raw) == ("evt_1", "paid", BODY)
    assert "content-encoding" not in event.headers
    assert hooks.send(encoded(hooks.sign(BODY), coding, CODINGS[coding](BODY))).status == 401


def test_a_body_that_was_compressed_behind_its_signature_is_verified_plain() -> None:
    hooks = Hooks(decompress=Decompress("gzip", signed="plain"))
    assert hooks.send(encoded(hooks.sign(), "GZIP ", gzip.compress(BODY))).status == 200
    (event,) = hooks.inbox.events
    assert (event.id, event.raw) == ("evt_1", BODY)
    assert hooks.send(encoded(hooks.sign(gzip.compress(BODY)), "gzip")).status == 401


def test_plain_bodies_are_taken_beside_compressed_ones() -> None:
    assert Hooks(decompress="gzip").send(Hooks().sign()).status == 200


@pytest.mark.parametrize("coding", ["br", "deflate", "gzip, gzip", "x"])
def test_another_coding_than_those_that_are_named_is_refused(coding: str) -> None:
    hooks = Hooks(decompress="gzip")
    assert hooks.send(encoded(hooks.sign(), coding)).status == 415


@pytest.mark.parametrize("signed", ["compressed", "plain"])
@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"not compressed", 400),
        (b"", 400),
        (gzip.compress(BODY)[:-5], 400),
        (gzip.compress(BODY) + b"behind", 400),
        (gzip.compress(BODY) * 2, 400),
        (gzip.compress(b"0" * 50_000_000), 413),
        (gzip.compress(b"0" * 900_000), 413),
    ],
    ids=["noise", "empty", "cut off", "more behind", "twice", "bomb", "ratio"],
)
def test_a_compression_that_is_broken_or_a_bomb_is_refused(signed: Any, body: bytes, status: int) -> None:
    hooks = Hooks(decompress=Decompress("gzip", signed=signed))
    assert hooks.send(encoded(hooks.sign(body), "gzip")).status == status
    assert hooks.inbox.calls == []


def test_a_decompression_that_cannot_be_is_refused_when_the_program_starts() -> None:
    for odd in ("br", (), ("gzip", "x"), 5, True):
        with pytest.raises((ConfigurationError, TypeError)):
            Hooks(decompress=odd)
    for more in ({"signed": "both"}, {"max_ratio": 0}):
        with pytest.raises(ConfigurationError):
            Decompress("gzip", **more)


# ------------------------------------------------------------------ replies


def twiml(event: WebhookEvent) -> str:
    return f"<Response>{event.id}</Response>"


async def later(event: WebhookEvent) -> dict[str, str]:
    await asyncio.sleep(0)
    return {"text": event.id}


@pytest.mark.parametrize(
    ("reply", "kind", "body"),
    [
        ("ok", "text/plain; charset=utf-8", b"ok"),
        ({"ok": True}, "application/json", b'{"ok":true}'),
        (b"\x00", "application/octet-stream", b"\x00"),
        (Answer(202, b"<Response/>", (("content-type", "text/xml"),)), "text/xml", b"<Response/>"),
        (twiml, "text/plain; charset=utf-8", b"<Response>evt_1</Response>"),
        (later, "application/json", b'{"text":"evt_1"}'),
        (functools.partial(later), "application/json", b'{"text":"evt_1"}'),
    ],
    ids=range(7),
)
def test_a_sender_hears_the_reply_and_a_duplicate_the_same(reply: Any, kind: str, body: bytes) -> None:
    hooks = Hooks(reply=reply)
    for _ in range(2):
        said = hooks.send(hooks.sign())
        assert (said.status, said.headers["content-type"], said.body) == (
            202 if kind == "text/xml" else 200,
            kind,
            body,
        )
    assert len(hooks.inbox.taken) == 1


def fails(event: WebhookEvent) -> str:
    raise RuntimeError(event.id)


def stops(event: WebhookEvent) -> str:
    raise StopIteration


async def hangs(event: WebhookEvent) -> str:
    return await asyncio.Event().wait()  # type: ignore[return-value]


@pytest.mark.parametrize(
    "reply",
    [fails, stops, hangs, lambda _: 5, lambda _: Answer(500), lambda _: Answer(302), lambda _: None],
    ids=range(7),
)
def test_a_reply_that_fails_leaves_the_sender_with_our_words_since_its_event_is_durable(reply: Any) -> None:
    hooks = Hooks(limits=Limits(reply_seconds=0.05), reply=reply)
    said = hooks.send(hooks.sign())
    assert (said.status, json.loads(said.body)["status"]) == (200, "accepted")


def test_a_reply_is_made_for_events_that_are_durable_only() -> None:
    called: list[str] = []
    hooks = Hooks(reply=lambda event: called.append(event.id))
    assert hooks.send(replace(hooks.sign(), body=b"{}")).status == 401
    hooks.inbox.answers.append([Outcome("refused", None, "database", "no answer")])
    assert hooks.send(hooks.sign()).status == 503
    assert called == []


def test_a_reply_that_cannot_be_one_is_refused_when_the_program_starts() -> None:
    for odd in (5, Answer(404), ["a"]):
        with pytest.raises(ConfigurationError):
            Hooks(reply=odd)
    hooks = Hooks(reply="ok")
    with pytest.raises(RegistrationError, match="belong to the path"):
        hooks.hooks.webhook("/in", name="other", reply="no")(on_any)


# ------------------------------------------------------------------ rates


def test_more_requests_than_the_rate_allows_are_told_when_to_come_again() -> None:
    clock = ManualClock()
    hooks = Hooks(stripe().at(clock), rate=RateLimit(2, per_seconds=10))
    wires = [hooks.sign(b'{"id":"evt_%d"}' % number) for number in range(4)]
    replies = [hooks.send(wire) for wire in wires[:3]]
    assert [reply.status for reply in replies] == [200, 200, 429]
    assert replies[2].headers["retry-after"] == "5"
    clock.advance(timedelta(seconds=5))
    assert [hooks.send(wire).status for wire in wires[2:]] == [200, 429]
    assert len(hooks.inbox.taken) == 3
    assert hooks.hooks.counts()["/in"]["limited"] == 2


def test_forged_requests_use_up_nobodys_allowance() -> None:
    hooks = Hooks(stripe().at(ManualClock()), rate=RateLimit(1, per_seconds=3600))
    request = hooks.sign()
    assert {hooks.send(request.with_body(b"{}")).status for _ in range(5)} == {401}
    assert hooks.send(request).status == 200


def test_each_key_has_an_allowance_of_its_own() -> None:
    hooks = receiver()
    limit = RateLimit(1, per_seconds=3600, key=lambda request: request.path_params["tenant"])
    hooks.webhook("/t/{tenant}", provider=stripe().at(ManualClock()), rate=limit)(on_any)
    hooks.app.launch()
    statuses = [
        Wire(hooks, WebhookClient(hooks).sign(f"/t/{tenant}", BODY)).reply().status for tenant in "aabba"
    ]
    assert statuses == [200, 429, 200, 429, 429]


def test_a_rate_that_cannot_be_kept_is_refused() -> None:
    for odd in ({"requests": 0}, {"requests": True}, {"requests": 1, "per_seconds": 0}, {"requests": "1"}):
        with pytest.raises(ConfigurationError):
            RateLimit(**odd)  # type: ignore[arg-type]
    with pytest.raises(RegistrationError, match="RateLimit"):
        Hooks(rate=5)


# ------------------------------------------------------------------ content that does not fit


class Charge(pydantic.BaseModel):
    id: str
    amount: int


def test_what_does_not_fit_is_rejected_where_that_is_said_and_nothing_of_its_request_is_stored(
    dbos_test_app: MakeTestApp,
) -> None:
    app = App()
    hooks, seen = WebhookReceiver(app), []

    @hooks.webhook("/in", provider=stripe(split="items", key=None), on_invalid="reject")
    def on_charge(charge: Charge) -> None:
        seen.append(charge.id)

    @hooks.webhook("/kept", provider=stripe(), name="kept")
    def on_kept(charge: Charge) -> None: ...

    dbos = dbos_test_app(app)
    client = WebhookClient(hooks, dbos)
    right, wrong = {"id": "a", "amount": 1}, {"id": "b", "amount": "secret"}
    said = client.send("/in", {"items": [right, wrong]})
    assert (said.status, said.json) == (422, {"error": "unprocessable content"})
    assert client.send("/in", b'{"items":[{"id":').status == 422
    assert client.send("/in", {"items": [right]}).status == 200
    assert client.send("/kept", wrong).status == 200
    dbos.run_until_idle()
    assert seen == ["a"]
    assert hooks.counts()["/in"]["rejected"] == 2


def test_what_a_filter_says_no_to_need_not_fit(dbos_test_app: MakeTestApp) -> None:
    app = App()
    hooks = WebhookReceiver(app)

    @hooks.webhook("/in", provider=stripe(), on_invalid="reject", when=lambda event: event.type == "charge")
    def on_charge(charge: Charge) -> None: ...

    client = WebhookClient(hooks, dbos_test_app(app))
    assert client.send("/in", {"id": "a", "type": "other"}).json["status"] == "ignored"
    assert client.send("/in", {"id": "b", "type": "charge"}).status == 422


def test_another_word_for_what_does_not_fit_is_refused() -> None:
    with pytest.raises(RegistrationError, match="on_invalid"):
        Hooks(on_invalid="drop")


# ------------------------------------------------------------------ another HTTP framework


def received(hooks: WebhookReceiver, request: WebhookRequest, *, is_async: bool) -> Answer:
    given = (request.method, request.path, request.headers, request.body)
    if is_async:
        return asyncio.run(hooks.receive_async(*given, query=request.query))
    return hooks.receive(*given, query=request.query)


@pytest.mark.parametrize("is_async", [False, True])
def test_a_request_that_another_framework_has_read_is_taken_in_as_over_asgi(
    is_async: bool, database_url: str
) -> None:
    app = App({"name": "shop", "system_database_url": database_url})
    hooks = WebhookReceiver(app)
    done = threading.Event()

    @hooks.webhook("/t/{tenant}/in", provider=stripe(), reply=twiml)
    def on_event(event: WebhookEvent) -> None:
        assert event.path_params == {"tenant": "a b"}
        done.set()

    app.launch()
    try:
        request = WebhookClient(hooks).sign("/t/a%20b/in", BODY)
        for _ in range(2):
            said = received(hooks, request, is_async=is_async)
            assert (said.status, said.body) == (200, b"<Response>evt_1</Response>")
        assert done.wait(30)
        assert received(hooks, request.with_body(b"{}"), is_async=is_async).status == 401
        assert received(hooks, replace(request, path="/none"), is_async=is_async).status == 404
        assert received(hooks, replace(request, method="GET"), is_async=is_async).status == 405
        assert received(hooks, request.with_body(b"x" * 2_000_000), is_async=is_async).status == 413
    finally:
        app.destroy()
    assert received(hooks, request, is_async=is_async).status == 503


def test_the_blocking_form_says_so_on_a_running_loop(dbos_test_app: MakeTestApp) -> None:
    app = App({"name": "shop"})
    hooks = WebhookReceiver(app)
    hooks.webhook("/in", provider=stripe(), name="in")(on_any)
    client = WebhookClient(hooks, dbos_test_app(app))
    client.send("/in", BODY)

    async def ask() -> None:
        request = client.sign("/in", BODY)
        hooks.receive(request.method, request.path, request.headers, request.body)

    with pytest.raises(DBOSException, match=r"accept_async|receive_async"):
        asyncio.run(ask())


def on_any(event: WebhookEvent) -> None: ...


# ------------------------------------------------------------------ settings


def test_limits_come_from_the_environment_and_from_the_configuration(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    monkeypatch.setenv("DBOS_EVENTS_WEBHOOKS__BODY_SECONDS", "7.5")
    monkeypatch.setenv("DBOS_EVENTS_WEBHOOKS__REQUESTS", "12")
    url = f"sqlite:///{tmp_path}/a.sqlite"
    made = [(None, Limits(body_seconds=7.5, requests=12)), (Limits(requests=5), Limits(requests=5))]
    for given, wanted in made:
        app = App({"name": "shop", "system_database_url": url})
        hooks = WebhookReceiver(app, limits=given)
        hooks.webhook("/in", provider=stripe(), name="in")(on_any)
        app.launch()
        assert hooks._service.limits == wanted
        app.destroy()


@pytest.mark.parametrize("odd", [{"body": 5}, {"requests": "many"}, {"requests": 0}])
def test_a_setting_that_cannot_be_used_is_told_at_launch(odd: dict[str, Any], tmp_path: Any) -> None:
    url = f"sqlite:///{tmp_path}/a.sqlite"
    app = App({"name": "shop", "system_database_url": url, "webhooks": odd})
    hooks = WebhookReceiver(app)
    hooks.webhook("/in", provider=stripe(), name="in")(on_any)
    with pytest.raises(ConfigurationError, match=r"body|requests"):
        app.launch()
    app.destroy()

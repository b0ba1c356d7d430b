"""Declaring endpoints, and how requests come to their handlers."""

from __future__ import annotations

import asyncio
import logging
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from starlette.applications import Starlette
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.routing import Mount

from dbos_events.connect import Outcome
from dbos_events.errors import ConfigurationError, RegistrationError
from dbos_events_webhooks import (
    Body,
    Header,
    Limits,
    WebhookEvent,
    WebhookReceiver,
    WebhookRequest,
    providers,
)
from dbos_events_webhooks.testing import WebhookClient
from tests.connectors.webhooks.receiving.fakes import MemoryInbox, Wire, receiver

STRIPE = b'{"id":"evt_1","type":"charge.paid","data":{"account":"a1"}}'


def stripe() -> Any:
    return providers.stripe(secret="whsec_test")


def github() -> Any:
    return providers.github(secret="s3cret")


def handler(event: WebhookEvent) -> None: ...


def open_with(hooks: WebhookReceiver) -> tuple[WebhookClient, MemoryInbox]:
    return WebhookClient(hooks), hooks.app.launch()


def one_endpoint(provider: Any = None, limits: Limits | None = None, **options: Any) -> WebhookReceiver:
    hooks = receiver(limits)

    @hooks.webhook("/in", provider=provider or stripe(), **options)
    def on_event(event: WebhookEvent) -> None: ...

    return hooks


# ------------------------------------------------------------ events


def test_an_event_is_stored_and_its_sender_told_its_workflow() -> None:
    client, inbox = open_with(one_endpoint())
    sent = client.send("/in", STRIPE)
    assert (sent.status, sent.json) == (200, {"status": "accepted", "id": "webhook/on_event/evt_1"})
    (event,) = inbox.events
    assert (event.id, event.type, event.data["data"], event.raw) == (
        "evt_1",
        "charge.paid",
        {"account": "a1"},
        STRIPE,
    )
    assert (event.endpoint, event.provider, event.id_trusted, event.type_trusted) == (
        "/in",
        "stripe",
        True,
        True,
    )
    assert event.workflow_id == "webhook/on_event/evt_1"


def test_a_duplicate_is_told_the_same_workflow_and_success() -> None:
    client, inbox = open_with(one_endpoint())
    sent = client.send("/in", STRIPE, times=3)
    assert [each.status for each in sent.all] == [200, 200, 200]
    assert [each.json["status"] for each in sent.all] == ["accepted", "duplicate", "duplicate"]
    assert {each.workflow_id for each in sent.all} == {"webhook/on_event/evt_1"}
    assert len(inbox.taken) == 1


def test_several_handlers_of_a_path_get_the_event_in_one_transaction() -> None:
    hooks = receiver()

    @hooks.webhook("/in", provider=stripe())
    def book(event: WebhookEvent) -> None: ...

    @hooks.webhook("/in")
    def notify(event: WebhookEvent) -> None: ...

    client, inbox = open_with(hooks)
    sent = client.send("/in", STRIPE)
    assert sent.json == {"status": "accepted", "events": 2}
    assert [each.consumer for each in inbox.calls[0]] == ["book", "notify"]
    assert len(inbox.calls) == 1


def test_items_of_one_request_are_events_of_one_transaction_and_only_new_ones_start() -> None:
    provider = providers.hmac(secret="k", header="x-sig", key=Body("id"), split="items")
    client, inbox = open_with(one_endpoint(provider))
    client.send("/in", {"items": [{"id": "1"}], "batch": 7})
    sent = client.send("/in", {"items": [{"id": "1"}, {"id": "2"}, {"id": "3"}], "batch": 7})
    assert sent.json == {"status": "accepted", "events": 3}
    assert [event.id for event in inbox.events] == ["1", "2", "3"]
    assert inbox.events[1].context == ({"batch": 7},)
    assert len(inbox.calls) == 2


def test_key_split_and_size_may_be_said_at_the_endpoint() -> None:
    provider = providers.hmac(secret="k", header="x-sig")
    hooks = one_endpoint(provider, key=Body("event.uuid"), split=Body("items"), max_body=100)
    client, inbox = open_with(hooks)
    client.send("/in", {"items": [{"event": {"uuid": "u1"}}]})
    assert [event.id for event in inbox.events] == ["u1"]
    assert client.send("/in", b"x" * 101).status == 413
    assert provider.row.reading.split == ()


def test_what_a_filter_says_no_to_is_answered_with_success_and_counted() -> None:
    hooks = one_endpoint(when=lambda event: event.type == "push")
    client, inbox = open_with(hooks)
    sent = client.send("/in", STRIPE)
    assert (sent.status, sent.json) == (200, {"status": "ignored"})
    assert (inbox.taken, hooks.counts()["/in"]) == ([], {"filtered": 1})


def test_an_empty_batch_is_answered_with_success() -> None:
    client, inbox = open_with(one_endpoint(providers.hmac(secret="k", header="x-sig", split="items")))
    assert client.send("/in", {"items": []}).status == 200
    assert inbox.calls == []


def test_tenants_have_their_own_ids_and_secrets() -> None:
    secrets = {"acme": "acme-secret", "other": "other-secret"}
    hooks = receiver()

    @hooks.webhook(
        "/t/{tenant}/erp",
        provider=providers.hmac(
            secret=lambda request: secrets[request.path_params["tenant"]], header="x-sig", key=Body("id")
        ),
    )
    def on_erp(event: WebhookEvent) -> None: ...

    client, inbox = open_with(hooks)
    for tenant, secret in secrets.items():
        assert client.send(f"/t/{tenant}/erp", {"id": "7"}, signing_key=secret).status == 200
    assert client.send("/t/acme/erp", {"id": "8"}, signing_key="other-secret").status == 401
    assert client.send("/t/nobody/erp", {"id": "8"}, signing_key="acme-secret").status == 401
    assert [(event.path_params, event.id) for event in inbox.events] == [
        ({"tenant": "acme"}, "7"),
        ({"tenant": "other"}, "7"),
    ]
    assert len({each.event_id for each in inbox.taken}) == 2


def test_secrets_may_be_looked_up_by_an_async_function() -> None:
    async def look_up(request: WebhookRequest) -> str:
        await asyncio.sleep(0)
        return "async-secret"

    client, _ = open_with(one_endpoint(providers.hmac(secret=look_up, header="x-sig")))
    assert client.send("/in", {"a": 1}, signing_key="async-secret").status == 200


@pytest.mark.parametrize("is_async", [True, False])
def test_a_lookup_that_takes_too_long_is_answered_with_503_in_time(is_async: bool) -> None:
    import threading

    release = threading.Event()

    async def never(request: WebhookRequest) -> str:
        await asyncio.Event().wait()
        return "never"

    def blocked(request: WebhookRequest) -> str:
        release.wait(10)
        return "late"

    limits = Limits(lookup_seconds=0.05)
    hooks = one_endpoint(providers.hmac(secret=never if is_async else blocked, header="x-sig"), limits)
    client, inbox = open_with(hooks)
    request = client.sign("/in", {"a": 1}, signing_key="x")

    async def ask() -> int:
        status = (await client.send_request_async(request)).status
        release.set()
        return status

    assert asyncio.run(ask()) == 503
    assert inbox.calls == []


def test_a_place_says_the_lane() -> None:
    hooks = receiver()

    @hooks.webhook("/body", provider=stripe(), ordering_key=Body("data.account"))
    def by_body(event: WebhookEvent) -> None: ...

    @hooks.webhook("/both", provider=github(), ordering_key=(Header("x-repo"), Body("n")))
    def by_both(event: WebhookEvent) -> None: ...

    client, inbox = open_with(hooks)
    client.send("/body", STRIPE)
    client.send("/body", {"id": "evt_2"})
    client.send("/both", {"n": 4}, headers={"x-repo": "a|b"})
    lanes = [inbox.consumers[each.consumer].ordering_key for each in inbox.taken]
    said = [lane(event) for lane, event in zip(lanes, inbox.events, strict=True) if lane is not None]
    assert said == ["a1", None, "a%7Cb|4"]


def test_headers_are_kept_without_those_that_prove_anything() -> None:
    client, inbox = open_with(one_endpoint(github()))
    client.send(
        "/in",
        {"a": 1},
        type="push",
        headers={
            "user-agent": "GitHub-Hookshot",
            "authorization": "Bearer t0ken",
            "cookie": "c",
            "x-api-key": "k",
        },
    )
    (event,) = inbox.events
    assert set(event.headers) == {"user-agent", "content-type", "x-github-delivery", "x-github-event"}
    assert event.type == "push"


def test_forms_and_their_json_are_decoded() -> None:
    client, inbox = open_with(one_endpoint(providers.slack(signing_secret="s")))
    form = {"content-type": "application/x-www-form-urlencoded"}
    client.send("/in", "command=%2Fdeploy&trigger_id=1.2", headers={**form, "x-slack-retry-num": "1"})
    client.send("/in", "payload=%7B%22trigger_id%22%3A%223%22%7D", headers=form)
    command, interaction = inbox.events
    assert (command.data, command.attempt) == ({"command": "/deploy", "trigger_id": "1.2"}, 2)
    assert command.content.json == b'{"command":"/deploy","trigger_id":"1.2"}'
    assert (interaction.data, interaction.content.json) == ({"trigger_id": "3"}, b'{"trigger_id":"3"}')


def test_cloud_events_are_decoded_in_every_mode() -> None:
    client, inbox = open_with(one_endpoint(providers.cloudevents(token="t")))
    base = {"specversion": "1.0", "source": "/s", "type": "t"}
    structured = {"content-type": "application/cloudevents+json"}
    batch = {"content-type": "application/cloudevents-batch+json"}
    assert client.send("/in", {**base, "id": "1", "data": {"n": 1}}, headers=structured).status == 202
    client.send(
        "/in", [{**base, "id": "2", "data_base64": "aGk="}, {**base, "id": "3", "data": 3}], headers=batch
    )
    client.send("/in", {"n": 4}, headers={f"ce-{name}": value for name, value in {**base, "id": "4"}.items()})
    assert [event.data for event in inbox.events] == [{"n": 1}, b"hi", 3, {"n": 4}]
    assert [event.attributes["id"] for event in inbox.events] == ["1", "2", "3", "4"]


# ------------------------------------------------------------ declaring


def test_an_endpoint_without_a_provider_is_refused() -> None:
    with pytest.raises(RegistrationError, match="has no provider"):
        receiver().webhook("/in")(handler)


def test_what_belongs_to_a_path_is_said_once() -> None:
    hooks = one_endpoint()
    with pytest.raises(RegistrationError, match="differ in provider"):
        hooks.webhook("/in", provider=stripe())(handler)
    with pytest.raises(RegistrationError, match="differ in provider"):
        hooks.webhook("/in", key=Body("other"))(handler)


@pytest.mark.parametrize("path", ["in", "", "/a b", "/{a}/{a}", "/{1}", "/{a", "/ä", 7])
def test_a_path_that_cannot_be_one_is_refused(path: Any) -> None:
    with pytest.raises(ConfigurationError, match="path"):
        receiver().webhook(path, provider=stripe())


def test_a_provider_that_is_not_one_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="provider="):
        receiver().webhook("/in", provider="stripe", key=Body("x"))(handler)  # type: ignore[arg-type]
    with pytest.raises(ConfigurationError, match="provider="):
        receiver().webhook("/in", provider=providers.stripe)(handler)  # type: ignore[arg-type]


@pytest.mark.parametrize("change", [{"body_seconds": 0}, {"requests": True}, {"store_seconds": "2"}])
def test_limits_that_cannot_be_used_are_refused(change: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError, match="Limits"):
        Limits(**change)


# ------------------------------------------------------------ mounting


def ask(app: Any, path: str, hooks: WebhookReceiver, method: str = "POST") -> int:
    request = WebhookClient(hooks).sign("/in", STRIPE)

    async def go() -> int:
        transport = httpx.ASGITransport(app, raise_app_exceptions=True)
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            headers = [(name, value.decode()) for name, value in request.headers]
            return (await client.request(method, path, content=request.body, headers=headers)).status_code

    return asyncio.run(go())


class Passing(BaseHTTPMiddleware):
    async def dispatch(self, request: Any, call_next: Any) -> Any:
        return await call_next(request)


def fastapi_router(hooks: WebhookReceiver) -> Any:
    app = FastAPI()
    app.include_router(hooks.router, prefix="/hooks")
    return app


def fastapi_mounted(hooks: WebhookReceiver) -> Any:
    app = FastAPI()
    app.mount("/hooks", hooks)
    return app


def starlette_routes(hooks: WebhookReceiver) -> Any:
    return Starlette(routes=[Mount("/hooks", routes=hooks.routes)])


def starlette_mounted(hooks: WebhookReceiver) -> Any:
    app = Starlette(routes=[Mount("/hooks", hooks)])
    app.add_middleware(Passing)
    return app


MOUNTED = [fastapi_router, fastapi_mounted, starlette_routes, starlette_mounted]


@pytest.mark.parametrize("mount", MOUNTED, ids=lambda mount: mount.__name__)
def test_it_works_inside_of_other_apps(mount: Any) -> None:
    hooks = one_endpoint()
    inbox = hooks.app.launch()
    app = mount(hooks)
    assert [ask(app, "/hooks/in", hooks), ask(app, "/hooks/in/", hooks)] == [200, 200]
    assert ask(app, "/hooks/in", hooks, "GET") == 405
    assert ask(app, "/hooks/other", hooks) == 404
    assert len(inbox.taken) == 1


def test_the_router_of_fastapi_shows_the_endpoint_and_parses_nothing() -> None:
    hooks = one_endpoint()
    app = fastapi_router(hooks)
    (path,) = app.openapi()["paths"]
    assert path == "/hooks/in"
    assert set(app.openapi()["paths"][path]["post"]["responses"]) >= {"200", "401", "503"}
    hooks.app.launch()
    broken = WebhookRequest.of(b"{not json", {"content-type": "application/json"})
    assert Wire(app, broken, scope={"path": "/hooks/in", "root_path": ""}).reply().status == 401


@pytest.mark.parametrize("mount", MOUNTED, ids=lambda mount: mount.__name__)
def test_a_receiver_whose_app_was_never_launched_says_so_loudly(
    mount: Any, caplog: pytest.LogCaptureFixture
) -> None:
    hooks = one_endpoint()
    with caplog.at_level(logging.ERROR, "dbos_events"):
        assert ask(mount(hooks), "/hooks/in", hooks) == 503
    assert "lifespan=hooks.lifespan" in caplog.text


def test_the_lifespan_of_the_outer_app_launches_and_stops() -> None:
    hooks = one_endpoint()
    seen: list[object] = []

    @asynccontextmanager
    async def own(app: Any) -> Any:
        seen.append(hooks.is_open)
        yield {"mine": 1}
        seen.append(hooks.is_open)

    async def go() -> None:
        async with hooks.wrap_lifespan(own)(None) as state:
            seen.append(state)
        seen.append(hooks.is_open)

    asyncio.run(go())
    assert seen == [True, {"mine": 1}, True, False]
    assert hooks.app.launches == 1


def test_an_app_that_is_launched_already_is_left_as_it_is() -> None:
    hooks = one_endpoint()
    hooks.app.launch()

    async def go() -> None:
        async with hooks.lifespan():
            pass

    asyncio.run(go())
    assert hooks.is_open
    assert hooks.app.launches == 1


def test_it_runs_alone_with_its_own_lifespan() -> None:
    hooks = one_endpoint()
    said: list[str] = []
    open_while: list[bool] = []

    async def go() -> None:
        messages = iter(["lifespan.startup", "lifespan.shutdown"])

        async def receive() -> Any:
            message = next(messages)
            open_while.append(hooks.is_open)
            return {"type": message}

        async def send(message: Any) -> None:
            said.append(message["type"])

        await hooks({"type": "lifespan"}, receive, send)

    asyncio.run(go())
    assert said == ["lifespan.startup.complete", "lifespan.shutdown.complete"]
    assert open_while == [False, True]
    assert not hooks.is_open


def test_a_launch_that_fails_fails_the_server() -> None:
    hooks = one_endpoint()

    async def fail() -> None:
        raise RuntimeError("no database")

    hooks.app.launch_async = fail
    said: list[Any] = []

    async def go() -> None:
        async def receive() -> Any:
            return {"type": "lifespan.startup"}

        async def send(message: Any) -> None:
            said.append(message)

        await hooks({"type": "lifespan"}, receive, send)

    with pytest.raises(RuntimeError, match="no database"):
        asyncio.run(go())
    assert said == [{"type": "lifespan.startup.failed", "message": "RuntimeError: no database"}]


def test_while_it_drains_senders_are_told_to_come_again() -> None:
    hooks = one_endpoint()
    client, inbox = open_with(hooks)
    hooks.app.source.pause()
    sent = client.send("/in", STRIPE)
    assert (sent.status, sent.headers["retry-after"], inbox.taken) == (503, "5", [])


# ------------------------------------------------------------ what the inbox says


@pytest.mark.parametrize(
    ("outcome", "status", "after"),
    [
        (Outcome("refused", cause="database", reason="no answer", retry_after=3), 503, "3"),
        (Outcome("refused", cause="stopping", reason="stopping"), 503, "5"),
        (Outcome("refused", cause="quota", reason="full", retry_after=60), 429, "60"),
        (Outcome("refused", cause="busy", reason="busy", retry_after=0.2), 429, "1"),
        (Outcome("paused", cause="breaker", reason="breaker", retry_after=30), 429, "30"),
        (Outcome("paused", cause="pause", reason="paused"), 429, "5"),
        (Outcome("conflicting-duplicate", "webhook/on_event/evt_1"), 200, None),
    ],
    ids=lambda value: f"{value.kind}-{value.cause}" if isinstance(value, Outcome) else "",
)
def test_what_was_not_stored_is_never_answered_with_success(
    outcome: Outcome, status: int, after: str | None
) -> None:
    client, inbox = open_with(one_endpoint())
    inbox.answers.append([outcome])
    sent = client.send("/in", STRIPE)
    assert (sent.status, sent.headers.get("retry-after")) == (status, after)


def test_when_one_event_of_a_request_is_not_stored_the_whole_request_comes_again() -> None:
    provider = providers.hmac(secret="k", header="x-sig", key=Body("id"), split="items")
    client, inbox = open_with(one_endpoint(provider))
    inbox.answers.append([Outcome("accepted", "w1"), Outcome("refused", cause="database", retry_after=2)])
    sent = client.send("/in", {"items": [{"id": 1}, {"id": 2}]}, times=2)
    assert [each.status for each in sent.all] == [503, 200]


def test_an_inbox_that_does_not_answer_is_not_waited_for_longer_than_its_bound() -> None:
    client, inbox = open_with(one_endpoint(limits=Limits(store_seconds=0.05)))
    inbox.delay = 30.0
    sent = client.send("/in", STRIPE)
    assert (sent.status, sent.headers["retry-after"]) == (503, "5")

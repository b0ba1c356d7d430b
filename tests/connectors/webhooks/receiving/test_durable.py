"""From a request to its workflow, through the testing kit: the real inbox on a database, and a clock that the test moves."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pydantic
import pytest

from dbos_events import App, Retry
from dbos_events.errors import DBOSInitializationError, RegistrationError
from dbos_events.testing.plugin import MakeTestApp
from dbos_events_webhooks import Body, WebhookEvent, WebhookReceiver, providers
from dbos_events_webhooks.testing import WebhookClient


class Charge(pydantic.BaseModel):
    id: str
    amount: int


@pytest.fixture
def app() -> App:
    return App()


@pytest.fixture
def hooks(app: App) -> WebhookReceiver:
    return WebhookReceiver(app)


@pytest.fixture
def seen() -> list[Any]:
    return []


def stripe() -> Any:
    return providers.stripe(secret="whsec_t")


def charge(number: int = 1, amount: object = 5) -> dict[str, Any]:
    return {"id": f"evt_{number}", "type": "charge", "amount": amount}


def test_a_handler_gets_the_event_with_its_content_validated(
    app: App, hooks: WebhookReceiver, seen: list[Any], dbos_test_app: MakeTestApp
) -> None:
    @hooks.webhook("/stripe", provider=stripe(), name="on_charge")
    async def on_charge(event: WebhookEvent[Charge]) -> str:
        seen.append(event)
        return event.workflow_id

    dbos = dbos_test_app(app)
    sent = WebhookClient(hooks, dbos).send("/stripe", charge())
    assert (sent.status, sent.workflow_id) == (
        200,
        "webhook/test.on_charge/evt_1",
    )
    dbos.run_until_idle()
    (event,) = seen
    assert event.data == Charge(id="evt_1", amount=5)
    assert (event.id, event.type, event.provider, event.endpoint) == ("evt_1", "charge", "stripe", "/stripe")
    assert event.workflow_id == sent.workflow_id
    assert event.received_at.timestamp() * 1000 == dbos.clock.now_ms()


@pytest.mark.parametrize("kind", ["bare", "bytes", "dict", "model", "raw", "any", "text"])
def test_a_handler_may_take_the_content_in_any_form(  # noqa: C901
    kind: str, app: App, hooks: WebhookReceiver, seen: list[Any], dbos_test_app: MakeTestApp
) -> None:
    at = hooks.webhook("/stripe", provider=stripe(), name=kind)
    if kind == "bare":

        @at
        def bare(event: WebhookEvent) -> None:
            seen.append(event.data)
    elif kind == "bytes":

        @at
        def raw_in_event(event: WebhookEvent[bytes]) -> None:
            seen.append(event.data)
    elif kind == "dict":

        @at
        def mapping(event: WebhookEvent[dict[str, Any]]) -> None:
            seen.append(event.data)
    elif kind == "model":

        @at
        def model(charge: Charge) -> None:
            seen.append(charge)
    elif kind == "raw":

        @at
        def raw(body: bytes) -> None:
            seen.append(body)
    elif kind == "any":

        @at
        def unannotated(event):  # type: ignore[no-untyped-def]
            seen.append(event.data)
    else:

        @at
        def text(body: str) -> None:
            seen.append(body)

    dbos = dbos_test_app(app)
    body = b'{"id":"evt_1","amount":5}'
    assert WebhookClient(hooks, dbos).send("/stripe", body).status == 200
    dbos.run_until_idle()
    as_sent = {"id": "evt_1", "amount": 5}
    expected: dict[str, Any] = {
        "bytes": body,
        "raw": body,
        "model": Charge(id="evt_1", amount=5),
        "text": body.decode(),
    }
    assert seen == [expected.get(kind, as_sent)]


def test_the_fields_of_a_form_are_validated_as_a_model(
    app: App, hooks: WebhookReceiver, seen: list[Any], dbos_test_app: MakeTestApp
) -> None:
    class Command(pydantic.BaseModel):
        command: str
        trigger_id: str

    @hooks.webhook("/slack", provider=providers.slack(signing_secret="s"))
    def on_command(event: WebhookEvent[Command]) -> None:
        seen.append(event.data)

    dbos = dbos_test_app(app)
    form = {"content-type": "application/x-www-form-urlencoded"}
    WebhookClient(hooks, dbos).send("/slack", "command=%2Fgo&trigger_id=1", headers=form)
    dbos.run_until_idle()
    assert seen == [Command(command="/go", trigger_id="1")]


def test_content_that_does_not_fit_is_put_into_quarantine_and_its_sender_hears_success(
    app: App, hooks: WebhookReceiver, seen: list[Any], dbos_test_app: MakeTestApp
) -> None:
    @hooks.webhook("/stripe", provider=stripe())
    def on_charge(event: WebhookEvent[Charge]) -> None:
        seen.append(event)

    dbos = dbos_test_app(app)
    client = WebhookClient(hooks, dbos)
    sent = [client.send("/stripe", charge(amount="much")), client.send("/stripe", b"not json")]
    assert [each.status for each in sent] == [200, 200]
    dbos.run_until_idle()
    assert seen == []
    put_aside = {each.workflow_id: each.error_type for each in app.list_quarantined()}
    assert put_aside == {str(each.workflow_id): "dbos_events.errors.UndecodablePayload" for each in sent}


def test_one_event_starts_one_workflow_however_often_it_comes(
    app: App, hooks: WebhookReceiver, seen: list[Any], dbos_test_app: MakeTestApp
) -> None:
    @hooks.webhook("/stripe", provider=stripe())
    def on_charge(event: WebhookEvent) -> None:
        seen.append(event.id)

    dbos = dbos_test_app(app)
    client = WebhookClient(hooks, dbos)
    assert {each.status for each in client.send("/stripe", charge(), times=3).all} == {200}
    dbos.run_until_idle()
    dbos.crash()
    assert client.send("/stripe", charge()).json["status"] == "duplicate"
    dbos.advance(days=29)
    assert client.send("/stripe", charge()).json["status"] == "duplicate"
    dbos.run_until_idle()
    assert seen == ["evt_1"]


def test_the_same_id_with_other_signed_content_is_put_into_quarantine(
    app: App, hooks: WebhookReceiver, seen: list[Any], dbos_test_app: MakeTestApp
) -> None:
    @hooks.webhook("/stripe", provider=stripe())
    def on_charge(event: WebhookEvent) -> None:
        seen.append(event.data["amount"])

    dbos = dbos_test_app(app)
    client = WebhookClient(hooks, dbos)
    client.send("/stripe", charge(amount=5))
    other = client.send("/stripe", charge(amount=6))
    assert (other.status, other.json["status"]) == (200, "duplicate")
    dbos.run_until_idle()
    assert seen == [5]
    assert [each.error_type for each in app.list_quarantined()] == ["dbos_events.errors.ConflictingDuplicate"]


def test_a_batch_with_one_known_event_starts_the_others(
    app: App, hooks: WebhookReceiver, seen: list[Any], dbos_test_app: MakeTestApp
) -> None:
    provider = providers.hmac(secret="k", header="x-sig", key=Body("id"), split="items")

    @hooks.webhook("/in", provider=provider)
    def on_item(event: WebhookEvent) -> None:
        seen.append(event.id)

    dbos = dbos_test_app(app)
    client = WebhookClient(hooks, dbos)
    client.send("/in", {"items": [{"id": "2"}]})
    client.send("/in", {"items": [{"id": "1"}, {"id": "2"}, {"id": "3"}]})
    dbos.run_until_idle()
    assert sorted(seen) == ["1", "2", "3"]


def test_several_handlers_run_apart_and_one_that_fails_repeats_no_other(
    app: App, hooks: WebhookReceiver, seen: list[Any], dbos_test_app: MakeTestApp
) -> None:
    @hooks.webhook(
        "/stripe", provider=stripe(), name="book", retries=Retry(max_attempts=2, interval_seconds=5)
    )
    def book(event: WebhookEvent) -> None:
        seen.append("book")
        if seen.count("book") == 1:
            raise RuntimeError("once")

    @hooks.webhook("/stripe", name="notify")
    def notify(event: WebhookEvent) -> None:
        seen.append("notify")

    dbos = dbos_test_app(app)
    assert WebhookClient(hooks, dbos).send("/stripe", charge()).json["events"] == 2
    dbos.advance(minutes=1)
    assert sorted(seen) == ["book", "book", "notify"]


def test_events_of_one_key_run_in_the_order_of_their_arrival(
    app: App, hooks: WebhookReceiver, seen: list[Any], dbos_test_app: MakeTestApp
) -> None:
    @app.step()
    def note(account: str, number: int) -> None:
        seen.append((account, number))

    @hooks.webhook("/in", provider=stripe(), ordering_key=Body("account"))
    async def on_event(event: WebhookEvent) -> None:
        await app.sleep_async(10 - event.data["n"])
        note(event.data["account"], event.data["n"])

    dbos = dbos_test_app(app)
    client = WebhookClient(hooks, dbos)
    for number in range(5):
        for account in "ab":
            client.send("/in", {"id": f"{account}{number}", "account": account, "n": number})
            dbos.run_until_idle()
    dbos.advance(minutes=5)
    for account in "ab":
        assert [number for name, number in seen if name == account] == [0, 1, 2, 3, 4]


def test_what_a_filter_says_no_to_is_counted(
    app: App, hooks: WebhookReceiver, seen: list[Any], dbos_test_app: MakeTestApp
) -> None:
    @hooks.webhook("/stripe", provider=stripe(), when=lambda event: event.data["amount"] > 10)
    def on_charge(event: WebhookEvent) -> None:
        seen.append(event.data["amount"])

    dbos = dbos_test_app(app)
    client = WebhookClient(hooks, dbos)
    answers = [client.send("/stripe", charge(n, amount=n)).json["status"] for n in (9, 11)]
    assert answers == ["ignored", "accepted"]
    dbos.run_until_idle()
    assert (seen, dbos.filtered(on_charge)) == ([11], 1)


def test_a_filter_that_fails_puts_the_event_aside_and_the_sender_hears_success(
    app: App, hooks: WebhookReceiver, seen: list[Any], dbos_test_app: MakeTestApp
) -> None:
    @hooks.webhook("/stripe", provider=stripe(), when=lambda event: event.data["missing"])
    def on_charge(event: WebhookEvent) -> None:
        seen.append(event)

    dbos = dbos_test_app(app)
    client = WebhookClient(hooks, dbos)
    assert client.send("/stripe", charge()).status == 200
    assert client.send("/stripe", b"[" * 10_000).status == 200
    dbos.run_until_idle()
    assert seen == []
    assert len(app.list_quarantined()) == 2


def test_an_event_may_be_delivered_by_the_kit_without_a_request(
    app: App, hooks: WebhookReceiver, seen: list[Any], dbos_test_app: MakeTestApp
) -> None:
    @hooks.webhook("/stripe", provider=stripe())
    def on_charge(event: WebhookEvent[Charge]) -> None:
        seen.append(event.data.amount)

    dbos = dbos_test_app(app)
    dbos.deliver(on_charge, charge(amount=9), event_id="evt_9")
    dbos.run_until_idle()
    assert seen == [9]


def test_what_is_redriven_and_recovered_is_the_same_event(
    app: App, hooks: WebhookReceiver, seen: list[Any], dbos_test_app: MakeTestApp
) -> None:
    @hooks.webhook("/t/{tenant}", provider=providers.github(secret="s"))
    def on_push(event: WebhookEvent) -> None:
        seen.append(
            (event.id, event.type, dict(event.path_params), dict(event.headers), event.received_at, event.raw)
        )
        if len(seen) < 3:
            raise RuntimeError("not yet")

    dbos = dbos_test_app(app)
    sent = WebhookClient(hooks, dbos).send(
        "/t/acme", {"a": "\u00e9"}, id="d-1", type="push", headers={"user-agent": "\u00ff"}
    )
    dbos.run_until_idle()
    for _ in range(2):
        dbos.crash()
        dbos.advance(hours=1)
        app.redrive_events([str(sent.workflow_id)])
        dbos.run_until_idle()
    assert len(seen) == 3
    assert seen[0] == seen[1] == seen[2]
    assert seen[0][:3] == ("d-1", "push", {"tenant": "acme"})


def test_the_time_of_a_test_is_that_of_signatures(
    app: App, hooks: WebhookReceiver, dbos_test_app: MakeTestApp
) -> None:
    @hooks.webhook("/stripe", provider=stripe())
    def on_charge(event: WebhookEvent) -> None: ...

    dbos = dbos_test_app(app)
    client = WebhookClient(hooks, dbos)
    request = client.sign("/stripe", charge())
    dbos.advance(seconds=301)
    assert client.send_request(request).status == 401
    now = dbos.clock.now_ms()
    assert client.send("/stripe", charge()).status == 200
    assert dbos.clock.now_ms() == now
    assert timedelta(milliseconds=now) > timedelta(seconds=301)


def test_two_handlers_of_one_name_are_refused(hooks: WebhookReceiver) -> None:
    def declare(path: str) -> None:
        @hooks.webhook(path, provider=stripe(), name="same")
        def handler(event: WebhookEvent) -> None: ...

    declare("/a")
    with pytest.raises(RegistrationError, match="same"):
        declare("/b")


def test_an_endpoint_is_declared_before_the_launch(
    app: App, hooks: WebhookReceiver, dbos_test_app: MakeTestApp
) -> None:
    dbos_test_app(app)
    with pytest.raises(DBOSInitializationError, match="after launch"):

        @hooks.webhook("/stripe", provider=stripe())
        def on_charge(event: WebhookEvent) -> None: ...

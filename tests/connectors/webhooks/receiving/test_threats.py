"""What an attacker, or a broken sender, may send to an endpoint, and what comes of it: never an event, never a 5xx.

What verification alone decides is shown bit by bit in the tests beside this folder; here it is shown that nothing of it
is lost between the request and the inbox.
"""

from __future__ import annotations

import asyncio
import gzip
import json
import logging
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from dbos_events.errors import ConfigurationError, UndecodablePayload
from dbos_events_webhooks import (
    Body,
    Header,
    Limits,
    Secret,
    WebhookEvent,
    WebhookReceiver,
    WebhookRequest,
    providers,
)
from dbos_events_webhooks.testing import Delivery, WebhookClient
from tests.connectors.webhooks.receiving.fakes import MemoryInbox, Reply, Wire, receiver

WHSEC = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
EVENT = b'{"id":"evt_1","type":"a"}'


class Scene:
    """One endpoint, its sender, and its inbox."""

    def __init__(self, provider: Any, limits: Limits | None = None, **options: Any) -> None:
        self.hooks = receiver(limits)

        @self.hooks.webhook("/in", provider=provider, **options)
        def on_event(event: WebhookEvent) -> None: ...

        self.client = WebhookClient(self.hooks)
        self.inbox: MemoryInbox = self.hooks.app.launch()

    def sign(self, payload: object = EVENT, **more: Any) -> WebhookRequest:
        return self.client.sign("/in", payload, **more)

    def send(self, request: WebhookRequest) -> Delivery:
        return self.client.send_request(request)

    def wire(self, request: WebhookRequest | None = None, **more: Any) -> Reply | None:
        return asyncio.run(Wire(self.hooks, self.sign() if request is None else request, **more).go())

    def refuses(self, request: WebhookRequest, status: int = 401) -> Delivery:
        before = len(self.inbox.taken)
        sent = self.send(request)
        assert (sent.status, len(self.inbox.taken)) == (status, before)
        assert b"exp" not in sent.body.replace(b"expected", b"exp")  # nothing says what was expected
        return sent


def stripe(**limits: Any) -> Scene:
    return Scene(providers.stripe(secret="whsec_test"), Limits(**limits))


def github(**options: Any) -> Scene:
    return Scene(providers.github(secret="s3cret"), **options)


def standard() -> Scene:
    return Scene(providers.svix(secret=WHSEC))


def without(request: WebhookRequest, *names: str) -> WebhookRequest:
    return replace(request, headers=tuple(pair for pair in request.headers if pair[0] not in names))


def with_header(request: WebhookRequest, name: str, value: bytes) -> WebhookRequest:
    return replace(without(request, name), headers=(*without(request, name).headers, (name, value)))


# T1
@pytest.mark.parametrize("name", ["svix-signature", "svix-timestamp", "svix-id"])
@pytest.mark.parametrize("value", [None, b"", b"   "])
def test_a_signature_that_is_missing_or_empty_is_unauthorized(name: str, value: bytes | None) -> None:
    scene = standard()
    request = scene.sign()
    scene.refuses(without(request, name) if value is None else with_header(request, name, value))


# T2
@pytest.mark.parametrize("secret", ["", "  ", None, f"v1,{WHSEC}", "whpk_abc", "whsk_abc", "my-secret!"])
def test_a_secret_that_cannot_be_one_is_refused_when_the_program_starts(secret: Any) -> None:
    with pytest.raises(ConfigurationError):
        providers.standard_webhooks(secret=secret)


def test_verifying_nothing_has_to_be_said_and_is_warned_of(caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(ConfigurationError):
        providers.unverified(insecure_no_verify=False)
    with caplog.at_level(logging.WARNING, "dbos_events"):
        providers.unverified(insecure_no_verify=True)
    assert "verifies nothing" in caplog.text


# T3
def test_a_replay_under_another_unsigned_id_starts_nothing_and_is_answered_with_success() -> None:
    scene = github()
    request = scene.sign(id="11-22")
    first, replay = scene.send(request), scene.send(with_header(request, "x-github-delivery", b"99-99"))
    assert (first.json["status"], replay.status, replay.json["status"]) == ("accepted", 200, "duplicate")
    assert [event.id for event in scene.inbox.events] == ["11-22"]


def test_a_replay_without_its_unsigned_id_starts_nothing() -> None:
    scene = github()
    request = scene.sign(id="11-22")
    scene.send(request)
    assert scene.send(without(request, "x-github-delivery")).json["status"] == "duplicate"


def test_a_captured_body_cannot_use_up_the_unsigned_id_of_an_event_to_come() -> None:
    scene = github()
    captured = scene.sign({"n": 1}, id="11-22")
    scene.send(captured)
    scene.send(with_header(captured, "x-github-delivery", b"33-44"))
    assert scene.send(scene.sign({"n": 2}, id="33-44")).json["status"] == "accepted"


def test_equal_bodies_are_events_of_their_own_where_that_is_said() -> None:
    scene = Scene(providers.github(secret="s", replay_guard=False))
    assert [scene.send(scene.sign(id=each)).json["status"] for each in "121"] == [
        "accepted",
        "accepted",
        "duplicate",
    ]


def test_a_retry_that_is_signed_anew_is_the_same_event_although_its_id_is_not_signed() -> None:
    provider = providers.hmac(
        secret="k",
        header="x-sig",
        signed="{timestamp}.{body}",
        timestamp=Header("x-ts", "s"),
        key=Header("x-id"),
    )
    scene = Scene(provider)
    now = datetime.now(UTC)
    first = scene.sign(id="1", signed_at=now - timedelta(seconds=60))
    second = scene.sign(id="1", signed_at=now)
    assert [scene.send(each).json["status"] for each in (first, second)] == ["accepted", "duplicate"]
    assert scene.send(with_header(second, "x-id", b"2")).json["status"] == "duplicate"


# T4
def test_a_replay_of_the_same_id_is_a_duplicate_within_the_window_and_unauthorized_after_it() -> None:
    scene = standard()
    request = scene.sign(signed_at=datetime.now(UTC) - timedelta(seconds=200))
    assert [scene.send(request).json["status"] for _ in range(2)] == ["accepted", "duplicate"]
    scene.refuses(scene.sign(signed_at=datetime.now(UTC) - timedelta(seconds=400)))


# T5
def test_the_same_id_with_another_signed_body_keeps_the_first_and_is_counted() -> None:
    scene = stripe()
    assert scene.send(scene.sign(EVENT)).json["status"] == "accepted"
    other = scene.send(scene.sign(b'{"id":"evt_1","type":"b"}'))
    assert (other.status, other.json["status"]) == (200, "duplicate")
    assert [event.type for event in scene.inbox.events] == ["a"]
    assert scene.hooks.counts()["/in"] == {"accepted": 1, "conflicting-duplicate": 1}


# T6
@pytest.mark.parametrize(
    "stamp",
    [
        b"nan",
        b"1e400",
        b"+1",
        b"1_0",
        b" 1",
        "\uff11\uff17".encode(),
        b"1" * 20,
        b"-1",
        b"99999999999",
        b"0x1",
        b"1.5",
    ],
)
def test_a_timestamp_that_is_not_plain_digits_or_not_now_is_unauthorized(stamp: bytes) -> None:
    scene = standard()
    scene.refuses(with_header(scene.sign(), "svix-timestamp", stamp))


def test_a_signature_from_the_future_is_unauthorized() -> None:
    scene = standard()
    scene.refuses(scene.sign(signed_at=datetime.now(UTC) + timedelta(seconds=400)))


# T7, T8
@pytest.mark.parametrize(
    "signature",
    [
        b"sha1=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17",
        b"v0=aa", b"v2,aa", b"sha256=", b"sha256=zz", b"sha256=7571", b"sha256=" + b"\xff" * 64, b"sha256=" + b"7 " * 32,
        b"sha256=" + b"A" * 4000, b",".join([b"sha256=aa"] * 300),
    ],
)  # fmt: skip
def test_another_algorithm_or_a_broken_signature_is_unauthorized(signature: bytes) -> None:
    scene = github()
    scene.refuses(with_header(scene.sign(), "x-hub-signature-256", signature))


def test_an_older_signature_is_not_looked_at() -> None:
    scene = github()
    request = scene.sign()
    scene.refuses(
        with_header(without(request, "x-hub-signature-256"), "x-hub-signature", b"sha1=" + b"a" * 40)
    )


def test_headers_larger_than_any_sender_s_are_refused() -> None:
    scene = github()
    scene.refuses(with_header(scene.sign(), "x-hub-signature-256", b"sha256=" + b"a" * 5000), 400)
    many = replace(scene.sign(), headers=(*scene.sign().headers, *((f"x-{n}", b"v") for n in range(300))))
    scene.refuses(many, 400)


# T9
@pytest.mark.parametrize(
    "name", ["svix-signature", "svix-timestamp", "svix-id", "content-type", "content-length"]
)
def test_a_header_that_counts_and_was_sent_twice_is_malformed(name: str) -> None:
    scene = standard()
    request = scene.sign()
    value = next((value for key, value in request.headers if key == name), b"25")
    twice = replace(
        without(request, name), headers=(*without(request, name).headers, (name, value), (name, value))
    )
    scene.refuses(twice, 400)


# T10
def test_headers_of_two_families_never_make_one_signature() -> None:
    scene = standard()
    request = scene.sign()
    mixed = tuple(
        (name.replace("svix-", "webhook-") if name == "svix-signature" else name, value)
        for name, value in request.headers
    )
    scene.refuses(replace(request, headers=mixed))


# T11
def test_a_dot_in_an_id_cannot_shift_what_was_signed() -> None:
    scene = standard()
    request = scene.sign(id="a")
    stamp = next(value for name, value in request.headers if name == "svix-timestamp")
    moved = with_header(
        with_header(request, "svix-id", b"a." + stamp[:5]), "svix-timestamp", stamp[5:] or b"1"
    )
    scene.refuses(moved)


# T12
def test_ids_that_look_alike_are_different_and_none_breaks_the_store() -> None:
    scene = stripe()
    odd = [
        "a",
        "A",
        "\u00e9",
        "e\u0301",
        "a\u0000",
        "\ud800",
        "\u202ea",
        "a/b",
        "a:b",
        "a|b",
        " a",
        "a ",
        "x" * 300,
        7,
    ]
    for each in odd:
        assert scene.send(scene.sign(json.dumps({"id": each}).encode())).json["status"] == "accepted"
    ids = [event.event_id for event in scene.inbox.taken]
    assert len(set(ids)) == len(odd)
    assert all(each.isascii() and each.isprintable() and len(each) <= 255 for each in ids)


@pytest.mark.parametrize("odd", ["{}", "[]", "1.5", "null", "true", '""'])
def test_what_cannot_be_an_id_makes_the_content_the_id(odd: str) -> None:
    scene = stripe()
    assert scene.send(scene.sign(f'{{"id":{odd}}}'.encode())).json["status"] == "accepted"
    assert scene.inbox.taken[0].event_id.startswith("sha256:")


# T13
def test_endpoints_and_tenants_never_share_an_id() -> None:
    hooks = receiver()
    for path, name in (("/a", "one"), ("/b", "two")):
        hooks.webhook(path, provider=providers.stripe(secret="whsec_test"), name=name)(_handler)
    hooks.webhook("/t/{x}/{y}", provider=providers.stripe(secret="whsec_test"), name="three")(_handler)
    client, inbox = WebhookClient(hooks), hooks.app.launch()
    for path in ("/a", "/b", "/t/p/q", "/t/q/p", "/t/p%7Cq/r", "/t/p/q%7Cr"):
        assert (
            client.send_request(replace(client.sign("/a", EVENT), path=path)).json["status"] == "accepted"
        ), path
    assert len({(each.consumer, each.event_id) for each in inbox.taken}) == 6


def _handler(event: WebhookEvent) -> None: ...


# T14
def test_a_body_that_says_it_is_too_large_is_refused_unread() -> None:
    scene = stripe()
    wire = Wire(scene.hooks, with_header(scene.sign(), "content-length", b"9999999"))
    reply = wire.reply()
    assert (reply.status, reply.headers["connection"], wire.received) == (413, "close", 0)


@pytest.mark.parametrize("length", [None, b"10"])
def test_a_body_that_is_larger_than_it_says_is_refused_while_it_is_read(length: bytes | None) -> None:
    scene = Scene(providers.stripe(secret="whsec_test"), max_body=1000)
    request = scene.sign() if length is None else with_header(scene.sign(), "content-length", length)
    wire = Wire(scene.hooks, request, pieces=[b"x" * 400] * 10)
    reply = wire.reply()
    assert (reply.status, reply.headers["connection"], wire.received) == (413, "close", 3)


@pytest.mark.parametrize("length", [b"-1", b"1e3", b"+5", "\uff11".encode(), b"", b"5, 5", b"9" * 400])
def test_a_length_that_is_not_a_number_is_malformed(length: bytes) -> None:
    scene = stripe()
    scene.refuses(with_header(scene.sign(), "content-length", length), 400)


def test_a_large_body_is_judged_beside_other_requests() -> None:
    scene = github()
    large = scene.sign({"pad": "x" * 3_000_000, "list": list(range(100_000))}, id="large")
    small = scene.sign({"n": 1}, id="small")
    order: list[str] = []

    async def both() -> None:
        async def one(name: str, request: WebhookRequest) -> None:
            assert (await scene.client.send_request_async(request)).status == 200
            order.append(name)

        await asyncio.gather(one("large", large), one("small", small))

    asyncio.run(both())
    assert order == ["small", "large"]


# T15
def test_a_body_that_does_not_come_in_time_is_given_up() -> None:
    scene = stripe(body_seconds=0.05)
    reply = scene.wire(pieces=[b"{", b'"id"'], hangs=True)
    assert reply is not None
    assert (reply.status, reply.headers["connection"]) == (408, "close")
    assert scene.hooks.requests == 0


def test_requests_beyond_the_most_at_once_are_told_to_come_later() -> None:
    scene = stripe(requests=2, body_seconds=30.0)
    request = scene.sign()

    async def go() -> list[int]:
        waiting = [
            asyncio.ensure_future(Wire(scene.hooks, request, pieces=[b"{"], hangs=True).go())
            for _ in range(2)
        ]
        await asyncio.sleep(0)
        answer = await Wire(scene.hooks, request).go()
        assert answer is not None
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)
        later = await Wire(scene.hooks, request).go()
        assert later is not None
        return [answer.status, int(answer.headers["retry-after"]), later.status]

    assert asyncio.run(go()) == [429, 5, 200]


def test_bodies_together_never_take_more_memory_than_said() -> None:
    scene = Scene(providers.github(secret="s"), Limits(buffered_bytes=1000))
    reply = scene.wire(pieces=[b"x" * 600, b"y" * 600])
    assert reply is not None
    assert reply.status == 429
    assert scene.hooks._service.load.bytes == 0


# T16
@pytest.mark.parametrize("coding", [b"gzip", b"br", b"deflate", b"identity, gzip"])
def test_a_compressed_body_is_refused_unread(coding: bytes) -> None:
    scene = github()
    bomb = gzip.compress(b"\0" * 10_000_000)
    wire = Wire(scene.hooks, with_header(scene.sign(bomb), "content-encoding", coding))
    assert (wire.reply().status, wire.received) == (415, 0)


# T17
@pytest.mark.parametrize(
    "body",
    [
        b"[" * 200_000, b'{"id":' + b"9" * 5000 + b"}", b'{"id":NaN}', b"{", b"", b'{"id":"a"}'.decode().encode("utf-16"),
        b'{"id":"a","id":"b"}', b"\xff\xfe", b'{"id":1e999}',
    ],
)  # fmt: skip
def test_genuine_content_that_cannot_be_read_is_kept_and_answered_with_success(body: bytes) -> None:
    scene = stripe()
    sent = scene.send(scene.sign(body))
    assert (sent.status, sent.json["status"]) == (200, "accepted")
    (event,) = scene.inbox.events
    assert event.raw == body
    with pytest.raises(UndecodablePayload):
        _ = event.data


def test_a_byte_order_mark_is_allowed() -> None:
    scene = stripe()
    scene.send(scene.sign(b"\xef\xbb\xbf" + EVENT))
    assert scene.inbox.events[0].id == "evt_1"


# T18
@pytest.mark.parametrize(
    "kind",
    [
        b"text/plain",
        b"multipart/form-data; boundary=x",
        b"application/json; charset=utf-16",
        b"application/xml",
        b";;",
    ],
)
def test_a_content_type_that_the_provider_does_not_send_is_refused(kind: bytes) -> None:
    scene = stripe()
    scene.refuses(with_header(scene.sign(), "content-type", kind), 415)


def test_a_form_with_too_many_fields_is_kept_without_being_taken_apart() -> None:
    scene = Scene(providers.slack(signing_secret="s"))
    form = {"content-type": "application/x-www-form-urlencoded"}
    sent = scene.send(scene.sign("&".join(f"a{n}=1" for n in range(5000)), headers=form))
    assert sent.status == 200
    with pytest.raises(UndecodablePayload, match="1000 fields"):
        _ = scene.inbox.events[0].data


# T19
def test_all_failures_of_authentication_look_the_same() -> None:
    expired = Secret("old", expires_at=datetime.now(UTC) - timedelta(days=1))
    scene = Scene(providers.hmac(secret=["new", expired], header="x-sig"))
    request = scene.sign()
    failures = [
        without(request, "x-sig"),
        with_header(request, "x-sig", b"zz"),
        with_header(request, "x-sig", b"0" * 64),
        scene.sign(signing_key="old"),
    ]
    answers = [scene.refuses(each) for each in failures]
    assert len({(each.status, each.body, each.headers["content-type"]) for each in answers}) == 1


# T20
def test_a_question_never_gives_a_signature_over_an_event() -> None:
    scene = Scene(providers.x(consumer_secret="s"))
    forged = json.dumps({"user_id": 1}).encode()
    question = WebhookRequest.of(b"", method="GET", path="/in", query=b"crc_token=%7B%22user_id%22%3A1%7D")
    scene.refuses(question)
    token = WebhookRequest.of(b"", method="GET", path="/in", query=b"crc_token=abc")
    answer = scene.send(token)
    assert answer.status == 200
    signature = answer.json["response_token"].encode()
    for body in (b"abc", forged):
        scene.refuses(WebhookRequest.of(body, {"x-twitter-webhooks-signature": signature}, path="/in"))


def test_a_signed_challenge_is_answered_and_starts_nothing() -> None:
    scene = Scene(providers.slack(signing_secret="s"))
    challenge = scene.sign({"type": "url_verification", "challenge": "3eZbrw"})
    sent = scene.send(challenge)
    assert (sent.status, sent.body, scene.inbox.calls) == (200, b"3eZbrw", [])
    scene.refuses(with_header(challenge, "x-slack-signature", b"v0=" + b"0" * 64))


# T21
def test_an_echoed_token_is_plain_text_and_bounded() -> None:
    scene = Scene(providers.ms_graph(client_state="s"))
    script = WebhookRequest.of(b"", path="/in", query=b"validationToken=%3Cscript%3E")
    sent = scene.send(script)
    assert (sent.status, sent.body) == (200, b"<script>")
    assert sent.headers["content-type"] == "text/plain; charset=utf-8"
    assert sent.headers["x-content-type-options"] == "nosniff"
    scene.refuses(WebhookRequest.of(b"", path="/in", query=b"validationToken=" + b"x" * 5000))


def test_a_token_is_echoed_only_where_the_provider_asks_so() -> None:
    scene = github()
    scene.refuses(WebhookRequest.of(b"", path="/in", query=b"validationToken=abc"))


# T22
@pytest.mark.filterwarnings("ignore:Parsed a serial number")  # of this machine's authorities
def test_no_address_that_stands_in_a_request_is_called() -> None:
    fetched: list[str] = []
    provider = providers.paypal(webhook_id="WH-1", certificate=lambda url: fetched.append(url) or b"")
    scene = Scene(provider)
    headers = {
        "paypal-transmission-sig": "AAAA",
        "paypal-transmission-id": "1",
        "paypal-transmission-time": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "paypal-auth-algo": "SHA256withRSA",
        "content-type": "application/json",
    }
    for url in (
        "http://169.254.169.254/x",
        "https://evil.example/c",
        "https://api.paypal.com.evil.example/c",
    ):
        scene.refuses(WebhookRequest.of(b"{}", {**headers, "paypal-cert-url": url}, path="/in"))
    assert fetched == []


# T23
def test_the_host_that_a_request_names_is_not_believed() -> None:
    scene = Scene(providers.square(signature_key="k", public_url="https://shop.example/in"))
    request = scene.sign(b'{"event_id":"e1"}')
    other = replace(
        request, headers=(*request.headers, ("host", b"evil.example"), ("x-forwarded-host", b"evil.example"))
    )
    assert scene.send(other).status == 200


# T24
def test_a_type_that_is_not_signed_is_marked() -> None:
    scene = github()
    scene.send(scene.sign(type="push"))
    assert (scene.inbox.events[0].type, scene.inbox.events[0].type_trusted) == ("push", False)


# T25, T26
def test_no_secret_signature_or_content_is_stored_logged_or_shown(caplog: pytest.LogCaptureFixture) -> None:
    scene = github()
    request = scene.sign(b'{"card":"4111-secret-number"}')
    signature = next(value for name, value in request.headers if name == "x-hub-signature-256").decode()
    with caplog.at_level(logging.DEBUG):
        scene.send(request)
        scene.refuses(with_header(request, "x-hub-signature-256", b"sha256=" + b"0" * 64))
    shown = f"{caplog.text}{scene.inbox.events!r}{scene.inbox.taken!r}{scene.hooks.endpoints!r}"
    for secret in ("s3cret", signature, "4111-secret-number"):
        assert secret not in shown
    assert b"s3cret" not in repr(scene.inbox.taken[0].headers).encode()
    assert signature not in repr(scene.inbox.taken[0].headers)


def test_a_defect_tells_the_sender_nothing_and_the_log_where(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    scene = stripe()

    async def broken(*_: object, **__: object) -> None:
        raise ZeroDivisionError("a secret detail")

    monkeypatch.setattr(scene.inbox, "accept_async", broken)
    sent = scene.send(scene.sign())
    assert (sent.status, sent.json) == (500, {"error": "internal error"})
    assert "ZeroDivisionError" in caplog.text
    assert scene.hooks.counts()["/in"]["errors"] == 1


# T27
@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "FOO"])
def test_only_post_starts_anything(method: str) -> None:
    scene = github()
    request = with_header(replace(scene.sign(), method=method), "x-http-method-override", b"POST")
    assert scene.refuses(request, 405).headers["allow"] == "POST"


def test_options_is_answered_for_senders_of_cloud_events_on_the_list() -> None:
    scene = Scene(providers.cloudevents(token="t", allowed_origins=["sender.example"]))
    for origin, status in (("sender.example", 200), ("evil.example", 401)):
        request = WebhookRequest.of(b"", {"webhook-request-origin": origin}, method="OPTIONS", path="/in")
        assert scene.send(request).status == status


# T28
def test_a_slash_at_the_end_makes_no_redirect() -> None:
    scene = stripe()
    assert scene.send(replace(scene.sign(), path="/in/")).status == 200


# T29
def test_nothing_is_asked_of_the_database_before_a_request_is_genuine() -> None:
    scene = github()
    for number in range(50):
        scene.refuses(with_header(scene.sign({"n": number}), "x-hub-signature-256", b"sha256=" + b"0" * 64))
    assert scene.inbox.calls == []
    assert scene.hooks.counts()["/in"] == {"refused:wrong-signature": 50}


# T30
def test_a_sender_that_hangs_up_in_the_middle_leaves_no_event() -> None:
    scene = stripe()
    assert scene.wire(pieces=[EVENT[:5]], disconnects=True) is None
    assert (scene.inbox.calls, scene.hooks.requests) == ([], 0)


def test_a_sender_that_hangs_up_while_its_event_is_stored_does_not_undo_it() -> None:
    scene = stripe()
    scene.inbox.delay = 0.05
    request = scene.sign()

    async def go() -> None:
        task = asyncio.ensure_future(Wire(scene.hooks, request).go())
        while not scene.inbox.calls:  # noqa: ASYNC110
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        while not scene.inbox.taken:  # noqa: ASYNC110
            await asyncio.sleep(0.005)

    asyncio.run(go())
    assert scene.send(request).json["status"] == "duplicate"


# T31
def test_how_far_clocks_may_differ_is_bounded() -> None:
    for seconds in (0, -1, 3601):
        with pytest.raises(ConfigurationError, match="tolerance"):
            providers.stripe(secret="whsec_t", tolerance_seconds=seconds)


# T32
def test_an_old_secret_works_until_its_end_and_tells_when_it_was_used_last() -> None:
    now = datetime.now(UTC)
    old = Secret("old", name="2029", expires_at=now + timedelta(hours=1))
    scene = Scene(providers.hmac(secret=[Secret("new", name="2030"), old], header="x-sig"))
    assert scene.send(scene.sign({"n": 1}, signing_key="old")).status == 200
    (endpoint,) = scene.hooks.endpoints
    assert set(endpoint.provider.uses.last_used_ms()) == {"2029"}
    late = Secret("old", name="2029", expires_at=now - timedelta(hours=1))
    scene = Scene(providers.hmac(secret=[Secret("new", name="2030"), late], header="x-sig"))
    scene.refuses(scene.sign({"n": 1}, signing_key="old"))


# T33
def test_ids_are_remembered_for_long_unless_said_otherwise() -> None:
    assert stripe().inbox.consumers["on_event"].remembered_seconds >= 30 * 24 * 3600
    scene = Scene(providers.stripe(secret="whsec_t"), remembered_seconds=60.0)
    assert scene.inbox.consumers["on_event"].remembered_seconds == 60.0


# further
@pytest.mark.parametrize(
    "path", ["/", "/nothing", "/in/more", "//in", "/../in", "/in%00", "/" + "x" * 10_000, "/\udcff"]
)
def test_an_unknown_path_is_not_found(path: str) -> None:
    scene = stripe()
    reply = scene.wire(scope={"path": path})
    assert reply is not None
    assert (reply.status, scene.inbox.calls) == (404, [])


def test_an_endpoint_that_is_retired_says_so() -> None:
    scene = Scene(providers.stripe(secret="whsec_t"), retired=True)
    assert scene.send(scene.sign()).status == 410


def test_the_connection_is_not_named_where_http_has_none() -> None:
    scene = stripe()
    reply = scene.wire(with_header(scene.sign(), "content-length", b"9999999"), scope={"http_version": "2"})
    assert reply is not None
    assert (reply.status, "connection" in reply.headers) == (413, False)


def test_a_websocket_is_closed() -> None:
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    asyncio.run(stripe().hooks({"type": "websocket", "path": "/in"}, None, send))  # type: ignore[arg-type]
    assert sent == [{"type": "websocket.close", "code": 1000}]


def test_a_receiver_is_shared_by_several_loops() -> None:
    scene = stripe()
    request = scene.sign()
    assert [asyncio.run(scene.client.send_request_async(request)).status for _ in range(3)] == [200, 200, 200]


def test_a_key_function_that_fails_makes_an_event_that_waits_for_a_person() -> None:
    scene = Scene(providers.hmac(secret="k", header="x-sig", key=lambda content: content["missing"]))
    assert scene.send(scene.sign({"a": 1})).json["status"] == "accepted"
    with pytest.raises(UndecodablePayload, match="KeyError"):
        _ = scene.inbox.events[0].data


def test_endpoints_say_what_they_are_without_their_secrets() -> None:
    hooks: WebhookReceiver = github().hooks
    assert "s3cret" not in repr(hooks.endpoints)


def test_a_place_that_holds_no_key_makes_the_content_the_id() -> None:
    scene = Scene(providers.hmac(secret="k", header="x-sig", key=Body("a.b")))
    scene.send(scene.sign({"c": 1}))
    assert scene.inbox.taken[0].event_id.startswith("sha256:")

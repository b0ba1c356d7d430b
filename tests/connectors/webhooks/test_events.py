"""Which events a request holds: ids that are the sender's, or a digest; never random, never shared by two."""

import base64
import json
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dbos_events_webhooks import (
    Body,
    BodyHash,
    FirstOf,
    Header,
    Provider,
    Refused,
    Verified,
    VerifiedEvent,
    WebhookRequest,
    providers,
)
from dbos_events_webhooks.identity import tidy
from tests.connectors.webhooks.hostile import NOW, PRIVATE_P256, PUBLIC_P256, WHSEC, every_provider, signed
from tests.connectors.webhooks.vectors import FORM, clock

PROVIDERS = every_provider()


def events(provider: Provider, body: Any, **more: Any) -> tuple[VerifiedEvent, ...]:
    wire = body if isinstance(body, bytes) else json.dumps(body).encode()
    outcome = provider.verify(signed(provider, wire, **more))
    assert isinstance(outcome, Verified), outcome
    return outcome.events


def event(provider: Provider, body: Any, **more: Any) -> VerifiedEvent:
    (only,) = events(provider, body, **more)
    return only


AT = datetime(2023, 11, 14, 22, 13, 20, tzinfo=UTC)
ISO = "2023-11-14T22:13:20Z"
CASES: list[tuple[str, Any, dict[str, Any], tuple[str, str | None, datetime | None]]] = [
    ("standard_webhooks", {"type": "a.b", "timestamp": ISO}, {"id": "msg_1"}, ("msg_1", "a.b", AT)),
    ("svix", {"type": "a.b"}, {"id": "msg_1"}, ("msg_1", "a.b", None)),
    ("stripe", {"id": "evt_1", "type": "charge.paid", "created": NOW}, {}, ("evt_1", "charge.paid", AT)),
    ("github", {"zen": "x"}, {"id": "d-1", "type": "push"}, ("d-1", "push", None)),
    (
        "slack",
        {"event_id": "Ev1", "event_time": NOW, "type": "event_callback", "event": {"type": "message"}},
        {},
        ("Ev1", "message", AT),
    ),
    (
        "slack",
        b"command=%2Fgo&trigger_id=1.2.a",
        {"headers": {"content-type": FORM}},
        ("1.2.a", "/go", None),
    ),
    (
        "slack",
        b"payload=%7B%22type%22%3A%22block_actions%22%2C%22trigger_id%22%3A%223.4.b%22%7D",
        {"headers": {"content-type": FORM}},
        ("3.4.b", "block_actions", None),
    ),
    (
        "shopify",
        {"id": 1},
        {"id": "w-1", "type": "orders/create", "headers": {"X-Shopify-Triggered-At": ISO}},
        ("w-1", "orders/create", AT),
    ),
    ("gitlab", {"object_kind": "push"}, {"id": "g-1"}, ("g-1", "push", None)),
    ("gitlab_token", {"object_kind": "push"}, {"id": "g-1"}, ("g-1", "push", None)),
    (
        "square",
        {"event_id": "sq1", "type": "payment.updated", "created_at": ISO},
        {},
        ("sq1", "payment.updated", AT),
    ),
    ("discord", {"id": "123", "type": 2}, {}, ("123", "2", None)),
    ("sendgrid", [{"sg_event_id": "e1", "event": "open", "timestamp": NOW}], {}, ("e1", "open", AT)),
    ("twilio", b"MessageSid=SM1&MessageStatus=sent", {}, ("SM1|sent", "sent", None)),
    ("twilio", b"CallSid=CA1&CallStatus=ringing&SequenceNumber=2", {}, ("CA1|ringing|2", "ringing", None)),
]


@pytest.mark.parametrize(
    ("name", "body", "more", "expected"), CASES, ids=[f"{case[0]} {n}" for n, case in enumerate(CASES)]
)
def test_id_type_and_time_are_where_the_provider_has_them(
    name: str, body: Any, more: dict[str, Any], expected: tuple[str, str | None, datetime | None]
) -> None:
    found = event(PROVIDERS[name], body, **more)
    assert (found.id, found.type, found.occurred_at) == expected


@pytest.mark.parametrize(
    "name", ["zoom", "x", "hookdeck", "discord_events", "bearer", "basic", "api_key", "hmac"]
)
def test_an_event_without_an_id_is_named_by_a_digest_that_a_retry_does_not_change(name: str) -> None:
    provider = PROVIDERS[name]
    first = event(provider, {"event": "e", "n": 1})
    later = event(provider.at(clock(NOW + 3600)), {"event": "e", "n": 1})
    other = event(provider, {"event": "e", "n": 2})

    assert first.id == later.id == f"sha256:{first.fingerprint}"
    assert other.id != first.id
    assert first.replay_guard is None


@pytest.mark.parametrize("value", [None, "", True, 1.5, [], {}, ["a"], 10**120])
def test_what_is_no_id_is_as_good_as_none(value: object) -> None:
    found = event(PROVIDERS["stripe"], {"id": value})
    assert found.id == f"sha256:{found.fingerprint}"


@pytest.mark.parametrize("name", ["github", "shopify"])
def test_an_id_outside_of_the_signature_carries_a_guard_that_a_replay_cannot_change(name: str) -> None:
    provider = PROVIDERS[name]
    request = signed(provider, b'{"a":1}', id="first")
    replayed = replace(
        request,
        headers=tuple((key, b"second" if value == b"first" else value) for key, value in request.headers),
    )
    stripped = replace(request, headers=tuple(pair for pair in request.headers if pair[1] != b"first"))
    found = []
    for sent in (request, replayed, stripped):
        outcome = provider.verify(sent)
        assert isinstance(outcome, Verified)
        found.append((outcome, outcome.events[0]))

    (first_outcome, first), (_, second), (_, nameless) = found
    assert (first.id, second.id) == ("first", "second")
    assert (first.id_trusted, first.type_trusted) == (False, False)
    assert first.replay_guard is not None
    assert first.replay_guard == second.replay_guard == first_outcome.digest
    assert nameless.id == f"sha256:{nameless.fingerprint}"
    assert nameless.replay_guard == first.replay_guard
    assert event(provider, b'{"a":2}', id="first").replay_guard != first.replay_guard


def test_a_guard_can_be_turned_off() -> None:
    provider = providers.github(secret="s", replay_guard=False)
    assert event(provider, b"{}", id="a").replay_guard is None


def test_fields_of_twilio_whose_border_was_moved_have_the_guard_of_the_genuine_request() -> None:
    provider = PROVIDERS["twilio"]
    genuine = signed(provider, b"MessageSid=SM1&MessageStatus=sent")
    moved = replace(genuine, body=b"MessageSi=dSM1&MessageStatus=sent")
    outcomes = [provider.verify(request) for request in (genuine, moved)]
    assert all(isinstance(outcome, Verified) for outcome in outcomes)
    one, other = (outcome.events[0] for outcome in outcomes if isinstance(outcome, Verified))
    assert one.id != other.id
    assert one.replay_guard == outcomes[0].digest == outcomes[1].digest  # type: ignore[union-attr]
    assert other.id == f"sha256:{other.fingerprint}"
    assert other.replay_guard == one.replay_guard
    assert one.fingerprint == other.fingerprint


def test_equal_ids_with_other_content_have_other_fingerprints() -> None:
    one, other, same = (event(PROVIDERS["stripe"], {"id": "e", "n": n}) for n in (1, 2, 1))
    assert one.id == other.id == same.id
    assert one.fingerprint == same.fingerprint != other.fingerprint


def test_a_fingerprint_is_not_of_a_time_that_changes_when_the_sender_tries_again() -> None:
    provider = PROVIDERS["standard_webhooks"]
    one = event(provider, {"a": 1}, id="m")
    later = event(provider.at(clock(NOW + 7200)), {"a": 1}, id="m")
    assert (one.id, one.fingerprint) == (later.id, later.fingerprint)


# ---------------------------------------------------------------- several events of one request


def test_items_of_an_array_are_events_in_their_order() -> None:
    items = [{"sg_event_id": f"e{n}", "event": "open", "x": n} for n in range(3)]
    found = events(PROVIDERS["sendgrid"], items)
    assert [one.id for one in found] == ["e0", "e1", "e2"]
    assert [one.data for one in found] == items
    assert [json.loads(one.raw) for one in found] == items
    assert len({one.fingerprint for one in found}) == 3


def test_the_same_item_in_another_request_is_the_same_event() -> None:
    first = events(PROVIDERS["sendgrid"], b'[{"sg_event_id":"a","n":1},{"sg_event_id":"b","n":2}]')
    again = events(PROVIDERS["sendgrid"], b'[ {"n": 2, "sg_event_id": "b"} ]')
    assert (again[0].id, again[0].fingerprint) == (first[1].id, first[1].fingerprint)


@pytest.mark.parametrize("body", [b"{}", b'{"a":[1]}', b"7", b'"x"', b"null"])
def test_content_without_the_list_is_one_event(body: bytes) -> None:
    (only,) = events(PROVIDERS["sendgrid"], body)
    assert only.raw == body
    assert only.data == json.loads(body)


def test_an_empty_list_holds_no_events() -> None:
    assert events(PROVIDERS["sendgrid"], b"[]") == ()


def test_changes_and_messages_of_meta_are_events_and_nothing_is_left_out() -> None:
    body = {
        "object": "page",
        "entry": [
            {"id": "1", "time": 5, "changes": [{"field": "feed", "value": 1}, {"field": "feed", "value": 2}]},
            {"id": "2", "messaging": [{"m": 1}], "changes": [{"field": "x"}]},
            {"id": "3", "standby": [1]},
        ],
    }
    found = events(PROVIDERS["meta"], body)
    assert [one.data for one in found] == [
        {"field": "feed", "value": 1},
        {"field": "feed", "value": 2},
        {"field": "x"},
        {"m": 1},
        {"id": "3", "standby": [1]},
    ]
    assert found[0].context == ({"object": "page"}, {"id": "1", "time": 5})
    assert found[2].context == ({"object": "page"}, {"id": "2"})
    assert len({one.id for one in found}) == 5
    assert [one.type for one in found] == ["feed", "feed", "x", None, None]


def test_the_same_change_of_two_entries_is_two_events() -> None:
    entries = [{"id": n, "changes": [{"field": "f"}]} for n in ("1", "2")]
    one, other = events(PROVIDERS["meta"], {"entry": entries})
    (alone,) = events(PROVIDERS["meta"], {"entry": entries[1:]})
    assert one.id != other.id
    assert one.fingerprint != other.fingerprint
    assert alone.id == other.id


def test_equal_items_without_ids_are_several_events_each_time() -> None:
    body = {"entry": [{"id": "1", "changes": [{"field": "f"}, {"field": "f"}, {"field": "g"}]}]}
    first, again = events(PROVIDERS["meta"], body), events(PROVIDERS["meta"], body)
    assert len({one.id for one in first}) == 3
    assert [one.id for one in first] == [one.id for one in again]


def test_graph_joins_the_parts_of_its_ids() -> None:
    item = {"clientState": "graph-state", "subscriptionId": "s", "resource": "u/1", "changeType": "updated"}
    full = item | {"resourceData": {"@odata.etag": 'W/"x"'}}
    with_etag, without = events(PROVIDERS["ms_graph"], {"value": [full, item]})
    assert with_etag.id == "s|u%2F1|updated|W%2F%22x%22"
    assert without.id == f"sha256:{without.fingerprint}"
    assert with_etag.type == "updated"


@pytest.mark.parametrize(
    "other", [{}, {"clientState": ""}, {"clientState": "wrong"}, {"clientState": 1}, 7, None]
)
def test_every_item_of_graph_has_to_hold_the_state(other: object) -> None:
    provider = PROVIDERS["ms_graph"]
    good = {"clientState": "graph-state"}
    for value in ([other], [good, other], [other, good]):
        outcome = provider.verify(WebhookRequest.of(json.dumps({"value": value}).encode()))
        assert isinstance(outcome, Refused)
        assert outcome.status == 401


def test_an_endpoint_may_say_where_its_events_are() -> None:
    provider = providers.hmac(
        secret="s",
        header="X-Sig",
        prefix="sha256=",
        signed="{timestamp}.{body}",
        timestamp=Header("X-Ts", unit="s"),
        key=(Body("tenant"), Body("event.uuid")),
        type=Header("X-Kind"),
        time=Body("event.at", "ms"),
        split=Body("items"),
    )
    body = {"x": 1, "items": [{"tenant": "a/b", "event": {"uuid": 7, "at": NOW * 1000}}, {"tenant": "a"}]}
    one, other = events(provider, body, headers={"X-Kind": "made"})
    assert (one.id, one.type, one.occurred_at, one.id_trusted, one.type_trusted) == (
        "a%2Fb|7",
        "made",
        AT,
        True,
        False,
    )
    assert one.context == ({"x": 1},)
    assert other.id == f"sha256:{other.fingerprint}"


def test_items_that_share_the_id_of_a_header_have_ids_of_their_own() -> None:
    provider = providers.github(secret="s", split="items")
    one, other = events(provider, {"items": [1, 2]}, id="d")
    assert (one.id, other.id) == ("d|0", "d|1")
    assert one.replay_guard != other.replay_guard


def test_a_header_that_is_signed_is_trusted() -> None:
    provider = providers.hmac(
        secret="s",
        header="x-sig",
        signed="{header:x-event-id}.{body}",
        key=Header("X-Event-Id"),
        type=Header("X-Type"),
    )
    found = event(provider, b"{}", id="e-1", type="t")
    assert (found.id, found.id_trusted, found.type_trusted) == ("e-1", True, False)
    request = signed(provider, b"{}", id="e-1")
    other = replace(request, headers=tuple((k, b"e-2" if v == b"e-1" else v) for k, v in request.headers))
    assert isinstance(provider.verify(other), Refused)


def test_a_time_may_be_signed_inside_of_the_body() -> None:
    provider = providers.hmac(
        secret="s", header="linear-signature", timestamp=Body("webhookTimestamp", unit="ms"), clock=clock(NOW)
    )
    assert isinstance(provider.verify(provider.sign(b'{"webhookTimestamp": 1700000000000}')), Verified)
    for bad in (
        b"{}",
        b'{"webhookTimestamp": 1}',
        b'{"webhookTimestamp": "x"}',
        b'{"webhookTimestamp": true}',
        b"[]",
        b"x",
    ):
        outcome = provider.verify(provider.sign(bad))
        assert isinstance(outcome, Refused), bad
        assert outcome.status == 401


def test_a_function_may_name_an_event_and_its_mistakes_are_not_the_events() -> None:
    provider = providers.stripe(secret="s", key=lambda content: content["a"]["b"])
    assert event(provider, {"a": {"b": "named"}}).id == "named"
    failed = event(provider, {"a": 1})
    assert failed.problem == "The function that names the event raised TypeError."
    assert failed.id == f"sha256:{failed.fingerprint}"
    pair = providers.stripe(secret="s", key=lambda content: (content["x"], content["y"]))
    assert event(pair, {"x": "a/b", "y": "c"}).id == "a%2Fb|c"


def test_places_are_tried_in_their_order() -> None:
    provider = providers.stripe(secret="s", key=FirstOf(Body("a"), (Body("b"), Body("c")), BodyHash()))
    assert event(provider, {"a": "1", "b": "2", "c": "3"}).id == "1"
    assert event(provider, {"b": "2", "c": "3"}).id == "2|3"
    assert event(provider, {"b": "2"}).id.startswith("sha256:")
    assert event(providers.stripe(secret="s", key=Body("a.1.b")), {"a": [0, {"b": "x"}]}).id == "x"


@pytest.mark.parametrize("kind", ["a\x00b", "\ud800", "x" * 300, "a\nb", ""])
def test_a_type_that_no_database_keeps_is_left_out(kind: str) -> None:
    assert event(PROVIDERS["stripe"], {"id": "e", "type": kind}).type is None


@pytest.mark.parametrize("when", ["", "tomorrow", -1, 1e400, True, None, [], "2023-13-01T00:00:00Z", 10**14])
def test_a_time_that_is_none_is_left_out(when: object) -> None:
    assert event(PROVIDERS["stripe"], {"id": "e", "created": when}).occurred_at is None


# ---------------------------------------------------------------- ids


@given(st.lists(st.text(), min_size=1, max_size=3), st.lists(st.text(), min_size=1, max_size=3))
def test_two_different_ids_are_never_the_same(one: list[str], other: list[str]) -> None:
    assert (tidy(one) == tidy(other)) is (one == other)


@given(st.text())
def test_an_id_is_short_and_printable(text: str) -> None:
    made = tidy([text])
    assert 0 < len(made) <= 255
    assert all("!" <= letter <= "~" for letter in made)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (["ab", "c"], ["a", "bc"]),
        (["a|b"], ["a", "b"]),
        (["x" * 300 + "|b"], ["x" * 300, "b"]),
        (["A"], ["a"]),
        (["\u00e9"], ["e\u0301"]),
        (["h:" + "0" * 64], ["0"]),
        (["x" * 300], ["x" * 301]),
        (["sha256:" + "0" * 64], ["h:sha256"]),
    ],
)
def test_ids_that_look_alike_differ(one: list[str], other: list[str]) -> None:
    assert tidy(one) != tidy(other)


def test_nobody_can_send_an_id_that_is_made_here() -> None:
    digest = event(PROVIDERS["stripe"], {"n": 1}).id
    squatter = event(PROVIDERS["stripe"], {"id": digest})
    assert squatter.id != digest
    assert squatter.id.startswith("h:")
    hashed = event(PROVIDERS["stripe"], {"id": "é"}).id
    assert event(PROVIDERS["stripe"], {"id": hashed}).id != hashed


# ---------------------------------------------------------------- CloudEvents

CLOUD = {"specversion": "1.0", "id": "a b", "source": "/s", "type": "t", "time": ISO}


def cloud(body: bytes, headers: dict[str, str]) -> tuple[VerifiedEvent, ...]:
    return events(PROVIDERS["cloudevents"], body, headers=headers)


def test_the_three_modes_of_cloudevents_give_the_same_event() -> None:
    binary = {f"ce-{key}": value.replace(" ", "%20") for key, value in CLOUD.items()}
    envelope = CLOUD | {"data": {"x": 1}}
    (one,) = cloud(b'{"x":1}', {**binary, "content-type": "application/json"})
    (two,) = cloud(
        json.dumps(envelope).encode(), {"content-type": "application/cloudevents+json; charset=utf-8"}
    )
    three, four = cloud(
        json.dumps([envelope, CLOUD | {"id": "other"}]).encode(),
        {"content-type": "application/cloudevents-batch+json"},
    )
    assert one.id == two.id == three.id == "%2Fs|a%20b"
    assert {found.type for found in (one, two, three, four)} == {"t"}
    assert one.occurred_at == two.occurred_at == AT
    assert one.data == two.data == three.data == {"x": 1}
    assert four.id == "%2Fs|other"
    assert one.attributes["source"] == two.attributes["source"] == "/s"
    assert not one.id_trusted


def test_source_and_id_together_name_a_cloudevent() -> None:
    ids = set()
    for source, name in (("/a", "b"), ("/a/b", ""), ("/a", "b/"), ("/ab", "b"), ("/", "a/b")):
        (found,) = cloud(b"{}", {f"ce-{k}": v for k, v in (CLOUD | {"source": source, "id": name}).items()})
        ids.add(found.id)
    assert len(ids) == 5


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"id": ""}, "'id'"),
        ({"source": None}, "'source'"),
        ({"type": 7}, "'type'"),
        ({"specversion": "2.0"}, "specversion"),
        ({"data_base64": "!!"}, "base64"),
        ({"data_base64": 5}, "base64"),
    ],
)
def test_an_unsound_cloudevent_of_a_batch_does_not_stop_the_others(
    change: dict[str, Any], problem: str
) -> None:
    body = json.dumps([CLOUD, CLOUD | change, CLOUD | {"id": "z"}]).encode()
    good, bad, last = cloud(body, {"content-type": "application/cloudevents-batch+json"})
    assert problem in (bad.problem or "")
    assert good.problem is last.problem is None
    assert bad.id == f"sha256:{bad.fingerprint}"


def test_an_attribute_of_a_cloudevent_stands_once_and_its_name_fills_no_log() -> None:
    name = "a" * 5000
    body = b'{"specversion":"1.0","id":"1","source":"s","type":"t","%s":1,"%s":2}' % (
        name.encode(),
        name.encode(),
    )
    (found,) = cloud(body, {"content-type": "application/cloudevents+json"})
    assert "stands twice" in (found.problem or "")
    assert len(found.problem or "") < 200


def test_headers_of_cloudevents_are_decoded_once_and_strictly() -> None:
    sound = {f"ce-{key}": value for key, value in CLOUD.items()}
    (found,) = cloud(b"x", {**sound, "ce-id": "%2541", "content-type": "text/plain"})
    assert found.attributes["id"] == "%41"
    assert found.data == b"x"
    (quoted,) = cloud(b"x", {**sound, "ce-subject": '"a\\"b"', "content-type": "text/plain"})
    assert quoted.attributes["subject"] == 'a"b'
    for bad in ("%", "%zz", "%ff", "a%c3"):
        (broken,) = cloud(b"{}", {**sound, "ce-id": bad})
        assert broken.problem is not None


def test_binary_data_of_a_cloudevent_is_bytes() -> None:
    data = base64.b64encode(b"\x00\xff").decode()
    (found,) = cloud(
        json.dumps(CLOUD | {"data_base64": data}).encode(), {"content-type": "application/cloudevents+json"}
    )
    assert found.data == b"\x00\xff"


@pytest.mark.parametrize(
    "kind", ["application/cloudevents+json", "application/cloudevents-batch+json", "application/json"]
)
def test_what_is_no_cloudevent_is_one_event_with_a_problem(kind: str) -> None:
    for body in (b"{", b"7", b'{"a":1}'):
        (found,) = cloud(body, {"content-type": kind})
        assert found.problem
        assert found.raw == body


def test_split_items_of_sendgrid_are_those_that_were_signed() -> None:
    provider = providers.sendgrid(public_key=PUBLIC_P256, clock=clock(NOW))
    request = provider.sign(b'[{"sg_event_id":"a"}]\r\n', signing_key=PRIVATE_P256)
    assert isinstance(provider.verify(request), Verified)
    assert isinstance(provider.verify(replace(request, body=request.body.strip())), Refused)


def test_the_id_of_standard_webhooks_is_needed() -> None:
    provider = providers.standard_webhooks(secret=WHSEC)
    request = provider.sign(b"{}", id="m")
    bare = replace(request, headers=tuple(pair for pair in request.headers if pair[0] != "webhook-id"))
    assert isinstance(provider.verify(bare), Refused)

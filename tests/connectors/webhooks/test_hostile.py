"""No request makes verification raise, or is taken for genuine, whatever is in it."""

import asyncio
import json
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dbos_events_webhooks import Answer, Provider, Reason, Refused, Verified, WebhookRequest, providers
from tests.connectors.webhooks.hostile import (
    HEADER_NAMES,
    WHSEC,
    bodies,
    every_provider,
    requests,
    signed,
    values,
)
from tests.connectors.webhooks.vectors import clock

PROVIDERS = every_provider()
RIGHT = {name: signed(provider) for name, provider in PROVIDERS.items()}
each_provider = pytest.mark.parametrize("provider", PROVIDERS.values(), ids=lambda provider: provider.name)


def on_a_loop(provider: Provider, request: WebhookRequest) -> object:
    """What `verify_async` returns; functions that are not async are called on a thread."""
    return asyncio.run(provider.verify_async(request))


def refused(outcome: object, reason: Reason, status: int = 401) -> None:
    assert isinstance(outcome, Refused), outcome
    assert (outcome.reason, outcome.status) == (reason, status)


@each_provider
@settings(max_examples=40, deadline=None)
@given(request=requests())
def test_no_request_makes_it_raise_and_no_stranger_is_believed(
    provider: Provider, request: WebhookRequest
) -> None:
    outcome = provider.verify(request)

    assert isinstance(outcome, (Refused, Answer)), "a request that nobody signed was believed"
    assert on_a_loop(provider, request) == outcome
    if isinstance(outcome, Refused):
        assert 400 <= outcome.answer.status < 500
    head = provider.check_head(replace(request, body=b""))
    if head is not None:
        assert isinstance(outcome, Refused)


@each_provider
@settings(max_examples=30, deadline=None)
@given(body=bodies(), extra=st.lists(st.tuples(st.sampled_from(HEADER_NAMES), values()), max_size=3))
def test_whatever_a_sender_signs_has_an_outcome(
    provider: Provider, body: bytes, extra: list[tuple[str, bytes]]
) -> None:
    request = signed(provider, body) if provider.name != "twilio" else signed(provider)
    request = replace(request, body=body, headers=(*request.headers, *extra))

    outcome = provider.verify(request)

    assert isinstance(outcome, (Refused, Answer, Verified))
    if isinstance(outcome, Refused):
        assert 400 <= outcome.status < 500
    elif isinstance(outcome, Verified):
        for event in outcome.events:
            assert 0 < len(event.id) <= 255
            assert event.id.isascii()
            assert event.id.isprintable()
            assert " " not in event.id
        again = provider.verify(request)
        assert again == outcome, "the same request has other events when it comes again"


@each_provider
def test_what_is_signed_here_verifies(provider: Provider) -> None:
    outcome = provider.verify(signed(provider))

    assert isinstance(outcome, Verified), outcome
    assert len(outcome.events) == 1


@each_provider
@settings(max_examples=20, deadline=None)
@given(data=st.data())
def test_a_right_request_with_one_header_changed_never_raises(
    provider: Provider, data: st.DataObject
) -> None:
    request = RIGHT[provider.name]
    index = data.draw(st.integers(0, len(request.headers) - 1))
    name, value = request.headers[index]
    changed = data.draw(values().filter(lambda other: other != value))
    headers = (*request.headers[:index], (name, changed), *request.headers[index + 1 :])

    outcome = provider.verify(replace(request, headers=headers))

    if name in provider.row.scheme.single:
        assert isinstance(outcome, Refused), (name, changed)


@each_provider
def test_errors_answers_and_texts_hold_no_secret(provider: Provider) -> None:
    hidden = [
        "whsec_stripe",
        "github-secret",
        WHSEC.removeprefix("whsec_"),
        "bearer-token",
        "password",
        "api-key-value",
    ]
    request = signed(provider)
    outcomes = [
        provider.verify(request),
        provider.verify(replace(request, body=b"{}")),
        provider.verify(replace(request, headers=())),
    ]
    texts = [repr(provider), repr(provider.uses), repr(request), *(repr(each) for each in outcomes)]
    texts += [str(getattr(each, "answer", "")) for each in outcomes]
    for text in texts:
        assert not [secret for secret in hidden if secret in text]
        for name, value in request.headers:
            assert "signature" not in name or value.decode("latin-1") not in text


def test_all_failures_of_authentication_have_one_answer() -> None:
    provider = PROVIDERS["standard_webhooks"]
    request = signed(provider)
    outcomes = [
        provider.verify(replace(request, body=b"x")),
        provider.verify(replace(request, headers=())),
        provider.at(clock(1)).verify(request),
        provider.verify(
            replace(request, headers=tuple((k, b"v1,") for k, _ in request.headers if k != "content-type"))
        ),
    ]
    answers = {each.answer for each in outcomes if isinstance(each, Refused)}
    assert len({each.reason for each in outcomes if isinstance(each, Refused)}) >= 3
    assert answers == {Answer.json({"error": "unauthorized"}, 401)}


@pytest.mark.parametrize(
    "stamp",
    [
        *("", "nan", "1e400", "+1700000000", "1_700_000_000", " 1700000000", "1700000000 ", "-1700000000"),
        *("1700000000.0", "17000000000000000000", "٣", "0x6553f100", "1700000000\n", "1.7e9"),
    ],
)
def test_a_timestamp_is_digits(stamp: str) -> None:
    for name in ("standard_webhooks", "slack", "zoom", "sendgrid", "discord"):
        request = signed(PROVIDERS[name])
        headers = tuple((k, stamp.encode() if "timestamp" in k else v) for k, v in request.headers)
        outcome = PROVIDERS[name].verify(replace(request, headers=headers))
        assert isinstance(outcome, Refused)
        assert outcome.reason in (Reason.MALFORMED_TIMESTAMP, Reason.MISSING_TIMESTAMP)


def test_the_algorithm_is_not_chosen_by_the_request() -> None:
    import hashlib
    import hmac

    body = b"{}"
    weak = hmac.new(b"github-secret", body, hashlib.sha1).hexdigest()
    for headers in ({"x-hub-signature": f"sha1={weak}"}, {"x-hub-signature-256": f"sha1={weak}"}):
        assert isinstance(PROVIDERS["github"].verify(WebhookRequest.of(body, headers)), Refused)
    old = providers.twilio(auth_token="t", public_url="https://e.com/")
    new = providers.twilio(shared_key="t", public_url="https://e.com/")
    settings_header = {"x-twilio-webhooks-signature-settings": "key=k,algorithm=HMAC_SHA256"}
    assert isinstance(old.verify(new.sign(b"a=b", headers=settings_header)), Refused)
    assert isinstance(new.verify(old.sign(b"a=b")), Refused)


@pytest.mark.parametrize(
    "stamps", ["t=1700000000,t=1700000000", "t=1,t=1700000000", "t=1700000000,t=1", "T=1700000000"]
)
def test_a_signature_of_stripe_has_one_time(stamps: str) -> None:
    request = signed(PROVIDERS["stripe"])
    right = dict(request.headers)["stripe-signature"].decode()
    header = right.replace("t=1700000000", stamps)
    headers = tuple((k, header.encode() if k == "stripe-signature" else v) for k, v in request.headers)
    assert isinstance(PROVIDERS["stripe"].verify(replace(request, headers=headers)), Refused)


def test_headers_of_two_families_make_no_signature() -> None:
    provider = PROVIDERS["svix"]
    request = signed(provider)
    for moved in ("svix-id", "svix-timestamp", "svix-signature"):
        headers = tuple(
            (key.replace("svix", "webhook") if key == moved else key, value) for key, value in request.headers
        )
        assert isinstance(provider.verify(replace(request, headers=headers)), Refused)
    renamed = tuple((key.replace("svix", "webhook"), value) for key, value in request.headers)
    assert isinstance(provider.verify(replace(request, headers=renamed)), Verified)
    assert isinstance(PROVIDERS["standard_webhooks"].verify(request), Refused)


def test_the_border_between_id_and_timestamp_cannot_be_moved() -> None:
    provider = PROVIDERS["standard_webhooks"]
    request = provider.sign(b'{"a":1}', id="a")
    (_, at), (_, signature) = (
        pair for pair in request.headers if pair[0] in ("webhook-timestamp", "webhook-signature")
    )
    body = at.split(b".")[0] + b'.{"a":1}'
    moved = [("webhook-id", b"a.1"), ("webhook-timestamp", at), ("webhook-signature", signature)]
    refused(provider.verify(WebhookRequest(body, tuple(moved))), Reason.MALFORMED_HEADER)


def test_sizes_are_bounded_before_anything_is_computed() -> None:
    provider = PROVIDERS["github"]
    request = signed(provider)
    many = tuple((f"x-{index}", b"") for index in range(300))
    refused(
        provider.verify(replace(request, headers=(*request.headers, *many))), Reason.HEADERS_TOO_LARGE, 400
    )
    large = (("x-large", b"a" * 70_000),)
    refused(
        provider.verify(replace(request, headers=(*request.headers, *large))), Reason.HEADERS_TOO_LARGE, 400
    )
    refused(provider.verify(replace(request, query=b"a" * 9000)), Reason.HEADERS_TOO_LARGE, 400)
    long = (("x-hub-signature-256", b"sha256=" + b"0" * 5000),)
    refused(provider.verify(WebhookRequest(b"{}", long)), Reason.HEADERS_TOO_LARGE, 400)

    small = providers.github(secret="s", max_body=10)
    refused(small.verify(small.sign(b"x" * 11)), Reason.BODY_TOO_LARGE, 413)
    for length, reason, status in (
        (b"11", Reason.BODY_TOO_LARGE, 413),
        (b"-1", Reason.MALFORMED_LENGTH, 400),
        (b"1 1", Reason.MALFORMED_LENGTH, 400),
        (b"9" * 30, Reason.MALFORMED_LENGTH, 400),
    ):
        head = small.check_head(WebhookRequest(b"", (("content-length", length),)))
        refused(head, reason, status)


def test_a_body_is_plain_utf8_of_a_kind_that_the_provider_sends() -> None:
    provider = PROVIDERS["stripe"]
    for name, value, reason in (
        ("content-encoding", "gzip", Reason.CONTENT_ENCODING),
        ("content-type", "text/html", Reason.MEDIA_TYPE),
        ("content-type", "application/json; charset=utf-16", Reason.MEDIA_TYPE),
        ("content-type", "application/x-www-form-urlencoded", Reason.MEDIA_TYPE),
    ):
        refused(provider.verify(signed(provider, headers={name: value})), reason, 415)
    for good in ("application/json", "Application/JSON; charset=UTF-8", "application/vnd.x+json"):
        assert isinstance(provider.verify(signed(provider, headers={"content-type": good})), Verified)


def test_webhooks_come_by_post() -> None:
    for method in ("GET", "HEAD", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE"):
        outcome = PROVIDERS["github"].verify(replace(signed(PROVIDERS["github"]), method=method))
        refused(outcome, Reason.METHOD, 405)
        assert isinstance(outcome, Refused)
        assert ("allow", "POST") in outcome.answer.headers


@pytest.mark.parametrize(
    ("body", "problem"),
    [
        (b"", "not JSON"),
        (b"{", "not JSON"),
        (b'{"id": NaN}', "not JSON"),
        (b'{"id": -Infinity}', "not JSON"),
        (b'{"id": 1e999}', "not JSON"),
        (b"[" * 200_000, "nested too deeply"),
        (b'{"a": ' + b"1" * 5000 + b"}", "not JSON"),
        (b'{"id": "a", "id": "b"}', "stands twice"),
        ('{"id": "a"}'.encode("utf-16"), "not UTF-8"),
        (b"\xff\xfe", "not UTF-8"),
    ],
)
def test_genuine_content_that_cannot_be_read_is_one_event_with_a_problem(body: bytes, problem: str) -> None:
    from dbos_events.errors import UndecodablePayload

    outcome = PROVIDERS["stripe"].verify(signed(PROVIDERS["stripe"], body))

    assert isinstance(outcome, Verified)
    (event,) = outcome.events
    assert problem in (event.problem or "")
    assert event.raw == body
    assert event.id == f"sha256:{event.fingerprint}"
    with pytest.raises(UndecodablePayload, match=problem):
        _ = event.data


def test_a_body_that_was_parsed_before_is_a_mistake_of_the_program() -> None:
    for body in ("{}", {"a": 1}, None):
        with pytest.raises(TypeError, match="bytes as they arrived"):
            WebhookRequest.of(body)  # type: ignore[arg-type]


def test_requests_are_read_from_asgi_and_wsgi() -> None:
    provider = PROVIDERS["github"]
    request = signed(provider, type="push", id="d-1")
    scope = {
        "method": "POST",
        "path": "/h",
        "query_string": b"a=b",
        "headers": [(k.encode(), v) for k, v in request.headers],
    }
    environ = {"REQUEST_METHOD": "POST", "PATH_INFO": "/h", "QUERY_STRING": "a=b", "wsgi.version": (1, 0)} | {
        key.upper().replace("-", "_")
        if key == "content-type"
        else f"HTTP_{key.upper().replace('-', '_')}": value.decode()
        for key, value in request.headers
    }
    for made in (
        WebhookRequest.from_asgi(scope, request.body),
        WebhookRequest.from_wsgi(environ, request.body),
    ):
        assert (made.path, made.query, made.method) == ("/h", b"a=b", "POST")
        outcome = provider.verify(made)
        assert isinstance(outcome, Verified)
        assert (outcome.events[0].id, outcome.events[0].type) == ("d-1", "push")


def test_the_path_is_the_one_of_the_url() -> None:
    raw = WebhookRequest.from_asgi({"path": "/a b/é", "raw_path": b"/a%20b/%C3%A9"}, b"")
    decoded = WebhookRequest.from_asgi({"path": "/a b/é"}, b"")
    wsgi = WebhookRequest.from_wsgi(
        {"SCRIPT_NAME": "/a b", "PATH_INFO": "/é".encode().decode("latin-1")}, b""
    )
    assert raw.path == decoded.path == wsgi.path == "/a%20b/%C3%A9"

    provider = providers.twilio(auth_token="t", public_url="https://e.com")
    request = provider.sign(b"a=b", path="/a%20b/%C3%A9", query="c=d")
    assert isinstance(provider.verify(request), Verified)
    assert isinstance(provider.verify(replace(request, path="/other")), Refused)


def test_a_form_has_bounds() -> None:
    many = b"&".join(b"a%d=1" % index for index in range(1500))
    outcome = PROVIDERS["slack"].verify(
        signed(PROVIDERS["slack"], many, headers={"content-type": "application/x-www-form-urlencoded"})
    )
    assert isinstance(outcome, Verified)
    assert "1000 fields" in (outcome.events[0].problem or "")
    refused(
        PROVIDERS["twilio"].verify(WebhookRequest.of(many, {"x-twilio-signature": "A" * 27 + "="})),
        Reason.UNREADABLE,
    )


def test_a_verified_event_says_what_the_signature_covers() -> None:
    outcome = PROVIDERS["stripe"].verify(
        signed(PROVIDERS["stripe"], json.dumps({"id": "e", "type": "t"}).encode())
    )
    assert isinstance(outcome, Verified)
    assert (outcome.events[0].id_trusted, outcome.events[0].type_trusted, outcome.events[0].replay_guard) == (
        True,
        True,
        None,
    )

"""What providers ask before they send: answered, to whom it may be answered, and never with a signature for an event."""

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dbos_events_webhooks import Answer, Outcome, Reason, Refused, Verified, WebhookRequest, providers
from tests.connectors.webhooks.hostile import every_provider, signed

PROVIDERS = every_provider()


def ask(name: str, method: str = "GET", query: str = "", **headers: str) -> Outcome:
    named = {key.replace("_", "-"): value for key, value in headers.items()}
    return PROVIDERS[name].verify(WebhookRequest.of(b"", named, method=method, query=query))


def say(name: str, body: Any) -> Outcome:
    return PROVIDERS[name].verify(signed(PROVIDERS[name], json.dumps(body).encode()))


def header(answer: Answer, name: str) -> str | None:
    return dict(answer.headers).get(name)


def test_slack_gets_its_challenge_back_when_the_signature_is_right() -> None:
    body = {"type": "url_verification", "challenge": "3eZbrw1aBm2rZgRNFdxV2595E9CY3gmdALWMmHkvFXO7tYXAYM8P"}

    answer = say("slack", body)

    assert isinstance(answer, Answer)
    assert (answer.status, answer.body.decode()) == (200, body["challenge"])
    assert header(answer, "content-type") == "text/plain; charset=utf-8"
    assert header(answer, "x-content-type-options") == "nosniff"
    unsigned = WebhookRequest.of(json.dumps(body).encode())
    assert isinstance(PROVIDERS["slack"].verify(unsigned), Refused)


def test_zoom_gets_its_token_and_the_digest_of_it() -> None:
    provider = providers.zoom(secret_token="zoomsecret")
    body = {"event": "endpoint.url_validation", "payload": {"plainToken": "qgg8vlvZRS6UYooatFL8Aw"}}

    answer = provider.verify(provider.sign(json.dumps(body).encode()))

    assert isinstance(answer, Answer)
    assert json.loads(answer.body) == {
        "plainToken": "qgg8vlvZRS6UYooatFL8Aw",
        "encryptedToken": "83b2a60d4bbe49dc93763ed9e727a9a7690cbe4c1f8bb0adc0ffccd09ecb1384",
    }
    assert isinstance(provider.verify(WebhookRequest.of(json.dumps(body).encode())), Refused)


@pytest.mark.parametrize(
    "token", ["v0:1700000000:{}", '{"event":"x"}', "", "a" * 257, "a b", "é", 7, None, {}, "a\n"]
)
def test_zoom_is_given_no_digest_of_what_is_no_token(token: Any) -> None:
    answer = say("zoom", {"event": "endpoint.url_validation", "payload": {"plainToken": token}})
    assert isinstance(answer, Refused)
    assert answer.reason is Reason.HANDSHAKE


def test_x_gets_the_digest_of_its_token() -> None:
    import base64
    import hashlib
    import hmac

    answer = ask("x", query="crc_token=abc-DEF_123=&nonce=1")

    assert isinstance(answer, Answer)
    expected = base64.b64encode(hmac.new(b"x-secret", b"abc-DEF_123=", hashlib.sha256).digest()).decode()
    assert json.loads(answer.body) == {"response_token": f"sha256={expected}"}


@given(st.one_of(st.text(), st.sampled_from(["{}", "[]", '{"a":1}', "7", "true", "null", "a b", "%7B%7D"])))
def test_what_x_is_given_is_the_signature_of_no_event(token: str) -> None:
    from urllib.parse import urlencode

    answer = ask("x", query=urlencode({"crc_token": token}, errors="surrogatepass"))
    if isinstance(answer, Refused):
        return
    assert isinstance(answer, Answer)
    signature = json.loads(answer.body)["response_token"]
    forged = WebhookRequest.of(
        token.encode("utf-8", "surrogatepass"), {"x-twitter-webhooks-signature": signature}
    )
    assert isinstance(PROVIDERS["x"].verify(forged), Refused)


def test_a_number_that_x_was_asked_to_sign_is_no_event() -> None:
    answer = ask("x", query="crc_token=7")
    assert isinstance(answer, Answer)
    signature = json.loads(answer.body)["response_token"]
    for provider in (PROVIDERS["x"], providers.x(consumer_secret="x-secret")):
        assert isinstance(
            provider.verify(WebhookRequest.of(b"7", {"x-twitter-webhooks-signature": signature})), Refused
        )
    assert isinstance(say("x", {"tweet_create_events": []}), Verified)


@pytest.mark.parametrize(
    "query", ["", "crc_token=", "crc_token=a&crc_token=b", "crc_token=%ff", "crc_token=%7B%7D", "other=1"]
)
def test_x_is_given_nothing_without_a_token(query: str) -> None:
    assert isinstance(ask("x", query=query), Refused)


def test_meta_gets_its_challenge_back_when_it_knows_the_token() -> None:
    right = "hub.mode=subscribe&hub.verify_token=subscribe-me&hub.challenge=1158201444"
    answer = ask("meta", query=right)
    assert isinstance(answer, Answer)
    assert (answer.status, answer.body) == (200, b"1158201444")
    for wrong in (
        right.replace("subscribe-me", "other"),
        right.replace("subscribe-me", ""),
        right.replace("&hub.verify_token=subscribe-me", ""),
        right.replace("mode=subscribe", "mode=unsubscribe"),
        right.replace("&hub.challenge=1158201444", ""),
        right + "&hub.challenge=2",
        "",
    ):
        assert isinstance(ask("meta", query=wrong), Refused), wrong
    unset = providers.meta(app_secret="a")
    outcome = unset.verify(WebhookRequest.of(b"", method="GET", query=right))
    assert isinstance(outcome, Refused)
    assert outcome.status == 405


def test_several_tokens_of_meta_are_accepted_for_a_rotation() -> None:
    provider = providers.meta(app_secret="a", verify_token=["new", "old"])
    for token in ("new", "old"):
        query = f"hub.mode=subscribe&hub.verify_token={token}&hub.challenge=1"
        assert isinstance(provider.verify(WebhookRequest.of(b"", method="GET", query=query)), Answer)


def test_graph_gets_its_token_back_as_text_that_no_browser_runs() -> None:
    answer = ask(
        "ms_graph", "POST", "validationToken=Validation%3A%20%3Cscript%3E", content_type="text/plain"
    )
    assert isinstance(answer, Answer)
    assert (answer.status, answer.body.decode()) == (200, "Validation: <script>")
    assert header(answer, "content-type") == "text/plain; charset=utf-8"
    assert header(answer, "x-content-type-options") == "nosniff"


@pytest.mark.parametrize(
    "query",
    ["validationToken=", "validationToken=a&validationToken=b", "validationToken=%ff", "validationToken=%00"],
)
def test_graph_is_given_nothing_else(query: str) -> None:
    assert isinstance(ask("ms_graph", "POST", query), Refused)
    assert isinstance(ask("ms_graph", "POST", "validationToken=" + "a" * 5000), Refused)
    assert isinstance(ask("ms_graph", "GET", "validationToken=a"), Refused)


def test_no_other_provider_echoes_a_query() -> None:
    for name, provider in PROVIDERS.items():
        if name == "ms_graph":
            continue
        outcome = provider.verify(WebhookRequest.of(b"{}", query="validationToken=a&challenge=b"))
        assert not isinstance(outcome, Answer), name


@pytest.mark.parametrize(
    ("name", "kind", "status", "body"), [("discord", 1, 200, {"type": 1}), ("discord_events", 0, 204, None)]
)
def test_discord_gets_its_ping_answered_when_the_signature_is_right(
    name: str, kind: int, status: int, body: object
) -> None:
    answer = say(name, {"type": kind})
    assert isinstance(answer, Answer)
    assert answer.status == status
    assert (json.loads(answer.body) if answer.body else None) == body
    wrong = replace(signed(PROVIDERS[name], b'{"type":0}'), body=b'{"type":1}')
    assert isinstance(PROVIDERS[name].verify(wrong), Refused)
    for other in (True, False, "1", 2, None):
        assert isinstance(say(name, {"type": other, "id": "1"}), Verified), other


def test_a_webhook_event_of_discord_is_no_ping() -> None:
    assert isinstance(say("discord_events", {"type": 1, "event": {"type": "X"}}), Verified)


def test_cloudevents_allows_the_senders_on_the_list() -> None:
    answer = ask(
        "cloudevents", "OPTIONS", webhook_request_origin="Sender.example", webhook_request_rate="120"
    )
    assert isinstance(answer, Answer)
    assert header(answer, "webhook-allowed-origin") == "Sender.example"
    assert header(answer, "webhook-allowed-rate") == "*"
    assert header(answer, "allow") == "POST"
    for origin in ("other.example", "", "sender.example\r\nx: y", "*", "sender.example.evil", "a" * 300):
        outcome = ask("cloudevents", "OPTIONS", webhook_request_origin=origin)
        assert isinstance(outcome, Refused)
        assert outcome.status == 401
    assert isinstance(ask("cloudevents", "OPTIONS"), Refused)
    everyone = providers.cloudevents(token="t", allowed_origins=["*"], allowed_rate=60)
    request = WebhookRequest.of(b"", {"webhook-request-origin": "any.example"}, method="OPTIONS")
    allowed = everyone.verify(request)
    assert isinstance(allowed, Answer)
    assert header(allowed, "webhook-allowed-rate") == "60"
    nobody = providers.cloudevents(token="t").verify(request)
    assert isinstance(nobody, Refused)
    assert nobody.status == 405


@pytest.mark.parametrize("challenge", ["", "a" * 5000, 7, None, {"a": 1}, "a\x00b", "a\rb", "\ud800"])
def test_a_challenge_is_text_of_bounded_length(challenge: Any) -> None:
    answer = say("slack", {"type": "url_verification", "challenge": challenge})
    assert isinstance(answer, Refused)
    assert answer.reason is Reason.HANDSHAKE


def test_a_ping_of_github_is_an_event() -> None:
    provider = PROVIDERS["github"]
    outcome = provider.verify(signed(provider, b'{"zen":"x"}', type="ping"))
    assert isinstance(outcome, Verified)
    assert outcome.events[0].type == "ping"


def test_a_handshake_uses_no_secret_that_has_expired() -> None:
    from datetime import UTC, datetime

    from dbos_events_webhooks import Secret

    gone = Secret("old", expires_at=datetime(2020, 1, 1, tzinfo=UTC))
    question = WebhookRequest.of(b"", method="GET", query="crc_token=a")
    assert isinstance(providers.x(consumer_secret=[gone]).verify(question), Refused)
    new = providers.x(consumer_secret="new").verify(question)
    assert providers.x(consumer_secret=[gone, "new"]).verify(question) == new

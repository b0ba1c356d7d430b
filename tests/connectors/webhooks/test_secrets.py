"""Secrets: several at once, with an end; unfit ones are refused before the first request, and none is shown."""

import asyncio
from dataclasses import asdict, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis.vendor.pretty import pretty

from dbos_events.errors import ConfigurationError
from dbos_events.testing import ManualClock
from dbos_events_webhooks import Reason, Refused, Secret, Verified, WebhookRequest, generate_keys, providers
from dbos_events_webhooks.secret import MAX_SECRETS
from tests.connectors.webhooks.hostile import PUBLIC_ED25519, PUBLIC_WHPK, WHSEC

START = datetime(2030, 1, 1, tzinfo=UTC)
BODY = b'{"id":"evt_1"}'


def rotating(clock: ManualClock) -> Any:
    return providers.stripe(
        secret=[
            Secret("whsec_new", name="2030"),
            Secret("whsec_old", name="2029", expires_at=START + timedelta(hours=1)),
        ],
        clock=clock,
    )


def sent_with(secret: str, clock: ManualClock) -> WebhookRequest:
    return providers.stripe(secret=secret, clock=clock).sign(BODY)


def test_both_secrets_of_a_rotation_are_accepted_and_the_outcome_names_the_one_that_matched() -> None:
    clock = ManualClock(START)
    provider = rotating(clock)

    new, old = (provider.verify(sent_with(secret, clock)) for secret in ("whsec_new", "whsec_old"))

    assert isinstance(new, Verified)
    assert isinstance(old, Verified)
    assert new.secret is not None
    assert old.secret is not None
    assert (new.secret.name, new.secret.index, new.secret.expires_at) == ("2030", 0, None)
    assert (old.secret.name, old.secret.index) == ("2029", 1)
    assert old.secret.expires_at == START + timedelta(hours=1)


def test_a_secret_ends_when_it_expires() -> None:
    clock = ManualClock(START)
    provider = rotating(clock)
    clock.advance(timedelta(seconds=3599))
    assert isinstance(provider.verify(sent_with("whsec_old", clock)), Verified)
    clock.advance(timedelta(seconds=1))

    outcome = provider.verify(sent_with("whsec_old", clock))

    assert isinstance(outcome, Refused)
    assert (outcome.reason, outcome.status) == (Reason.EXPIRED_SECRET, 401)
    assert "2029" in outcome.detail
    assert isinstance(provider.verify(sent_with("whsec_new", clock)), Verified)


def test_the_provider_tells_when_each_secret_was_last_used() -> None:
    clock = ManualClock(START)
    provider = rotating(clock)
    assert provider.uses.last_used_ms() == {}
    provider.verify(sent_with("whsec_old", clock))
    first = clock.now_ms()
    clock.advance(timedelta(seconds=60))
    provider.verify(sent_with("whsec_new", clock))
    provider.verify(sent_with("whsec_wrong", clock))

    assert provider.uses.last_used_ms() == {"2029": first, "2030": clock.now_ms()}


def test_what_is_signed_here_is_signed_with_the_first_secret_that_is_valid() -> None:
    clock = ManualClock(START)
    provider = providers.stripe(
        secret=[Secret("whsec_gone", expires_at=START), Secret("whsec_now", name="now")], clock=clock
    )
    outcome = provider.verify(provider.sign(BODY))
    assert isinstance(outcome, Verified)
    assert outcome.secret is not None
    assert outcome.secret.name == "now"


def test_a_request_with_several_signatures_matches_any_secret() -> None:
    clock = ManualClock(START)
    old, new = (
        dict(sent_with(secret, clock).headers)["stripe-signature"] for secret in ("whsec_a", "whsec_b")
    )
    both = old + b"," + new.partition(b",")[2]
    for secret in ("whsec_a", "whsec_b"):
        provider = providers.stripe(secret=secret, clock=clock)
        assert isinstance(provider.verify(WebhookRequest.of(BODY, {"stripe-signature": both})), Verified)


def test_secrets_of_a_tenant_are_looked_up() -> None:
    tenants = {"a": ["whsec_a"], "b": [], "bad": ["sk_live_x"], "none": None}

    def lookup(request: WebhookRequest) -> Any:
        return tenants[request.path_params["tenant"]]

    clock = ManualClock(START)
    provider = providers.stripe(secret=lookup, clock=clock)
    request = sent_with("whsec_a", clock)

    def outcome(tenant: str) -> Any:
        return provider.verify(replace(request, path_params={"tenant": tenant}))

    assert isinstance(outcome("a"), Verified)
    for tenant in ("b", "none", "nobody"):
        assert (outcome(tenant).reason, outcome(tenant).status) == (Reason.NO_SECRET, 401)
    assert (outcome("bad").reason, outcome("bad").status) == (Reason.SECRETS_UNAVAILABLE, 503)


def test_a_lookup_that_fails_is_no_fault_of_the_request() -> None:
    def lookup(request: WebhookRequest) -> Any:
        raise TimeoutError("postgresql://user:password@host is away")

    clock = ManualClock(START)
    outcome = providers.stripe(secret=lookup, clock=clock).verify(sent_with("whsec_a", clock))

    assert isinstance(outcome, Refused)
    assert (outcome.reason, outcome.status) == (Reason.SECRETS_UNAVAILABLE, 503)
    assert ("retry-after", "5") in outcome.answer.headers
    assert "password" not in repr(outcome)


def test_a_lookup_may_be_async_on_a_loop_and_only_there() -> None:
    async def lookup(request: WebhookRequest) -> Any:
        await asyncio.sleep(0)
        if "broken" in request.path_params:
            raise TimeoutError
        return [Secret("whsec_a", name="of the tenant")]

    clock = ManualClock(START)
    provider = providers.stripe(secret=lookup, clock=clock)
    request = sent_with("whsec_a", clock)

    outcome = asyncio.run(provider.verify_async(request))
    assert isinstance(outcome, Verified)
    assert outcome.secret is not None
    assert outcome.secret.name == "of the tenant"
    broken = asyncio.run(provider.verify_async(replace(request, path_params={"broken": "1"})))
    assert isinstance(broken, Refused)
    assert broken.status == 503
    with pytest.raises(ConfigurationError, match="verify_async"):
        provider.verify(request)


UNFIT: list[tuple[Any, str]] = [
    (lambda: providers.github(secret=""), "empty"),
    (lambda: providers.github(secret="  \t"), "empty"),
    (lambda: providers.github(secret=b""), "empty"),
    (lambda: providers.github(secret=None), "None"),  # type: ignore[arg-type]
    (lambda: providers.github(secret=[]), "list is empty"),
    (lambda: providers.github(secret=["a", ""]), "empty"),
    (lambda: providers.github(secret=["a", None]), "NoneType"),  # type: ignore[list-item]
    (lambda: providers.github(secret="from-a-file\n"), "white space"),
    (lambda: providers.github(secret="x" * 9000), "characters"),
    (lambda: providers.github(secret=[f"s{n}" for n in range(MAX_SECRETS + 1)]), "16 are the most"),
    (lambda: providers.github(secret=[Secret("a", "n"), Secret("b", "n")]), "same name"),
    (lambda: Secret("a", expires_at=datetime(2030, 1, 1)), "time zone"),  # noqa: DTZ001
    (lambda: providers.github(secret="\ud800"), "lone surrogate"),
    (lambda: providers.standard_webhooks(secret=f"v1,{WHSEC}"), "Leave `v1,` out"),
    (lambda: providers.stripe(secret=f"v1,{WHSEC}"), "pasted with its version"),
    (lambda: providers.standard_webhooks(secret=PUBLIC_WHPK), "public_key="),
    (lambda: providers.standard_webhooks(secret="whsk_AAAA"), "public_key="),
    (lambda: providers.standard_webhooks(public_key="whsk_AAAA"), "private key"),
    (lambda: providers.standard_webhooks(public_key="whpk_AAAA"), "32 bytes"),
    (lambda: providers.github(secret=PUBLIC_WHPK), "public key"),
    (lambda: providers.standard_webhooks(secret="my-secret!"), "base64"),
    (lambda: providers.standard_webhooks(secret="whsec_AAAA"), "cut off"),
    (lambda: providers.standard_webhooks(secret="whsec_AAAAA"), "base64"),
    (providers.standard_webhooks, "secret=, or public_key="),
    (lambda: providers.standard_webhooks(secret=WHSEC, public_key=PUBLIC_WHPK), "not both"),
    (lambda: providers.stripe(secret="sk_live_abc"), "API key of Stripe"),
    (lambda: providers.discord(public_key="abc"), "64 hexadecimal"),
    (lambda: providers.sendgrid(public_key="abc!"), "base64"),
    (lambda: providers.sendgrid(public_key="AAAA"), "cannot be read"),
    (lambda: providers.basic(credentials="user"), "user:password"),
    (lambda: providers.twilio(public_url="https://e.com/x"), "auth_token=, or shared_key="),
    (lambda: providers.twilio(auth_token="a", public_url="/path"), "https://host/path"),
    (lambda: providers.twilio(auth_token="a", public_url="https://e.com/?a=b"), "without its query"),
    (lambda: providers.square(signature_key="a", public_url=""), "https://host/path"),
    (lambda: providers.stripe(secret="a", tolerance_seconds=0), "more than 0"),
    (lambda: providers.stripe(secret="a", tolerance_seconds=86400), "at most 3600"),
    (lambda: providers.github(secret="a", tolerance_seconds=5), "signs no time"),
    (lambda: providers.meta(app_secret="a", verify_token=""), "verify_token is empty"),
    (lambda: providers.hmac(secret="a", header="x y"), "name of a header"),
    (lambda: providers.hmac(secret="a", header="x", algorithm="md5"), "md5"),
    (lambda: providers.hmac(secret="a", header="x", signed="{timestamp}.{body}"), "nothing says where"),
    (lambda: providers.hmac(secret="a", header="x", signed="{id}.{body}"), "in which header"),
    (
        lambda: providers.hmac(secret="a", header="x", signed="{id}{body}", id_header="i"),
        "could be moved",
    ),
    (lambda: providers.hmac(secret="a", header="x", signed="{bodyy}"), "{bodyy}"),
    (lambda: providers.hmac(secret="a", header="x", signed="{timestamp}"), "does not hold the body"),
    (lambda: providers.custom(verify=None), "unverified"),  # type: ignore[arg-type]
    (lambda: providers.unverified(insecure_no_verify=False), "insecure_no_verify=True"),
]


@pytest.mark.parametrize(
    ("make", "advice"), UNFIT, ids=[f"{number} {advice}" for number, (_, advice) in enumerate(UNFIT)]
)
def test_what_cannot_work_is_refused_when_the_program_starts(make: Any, advice: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        make()

    assert advice in str(caught.value)
    for secret in (WHSEC, PUBLIC_WHPK, "my-secret!", "sk_live_abc"):
        assert secret not in str(caught.value)


def test_white_space_that_is_meant_is_given_as_bytes() -> None:
    provider = providers.github(secret=b" spaced ")
    assert isinstance(provider.verify(provider.sign(b"{}")), Verified)
    assert isinstance(providers.github(secret="spaced").verify(provider.sign(b"{}")), Refused)


def test_neither_a_secret_nor_what_holds_it_is_shown() -> None:
    secret = Secret("whsec_hidden", name="shown")
    provider = providers.stripe(secret=[secret])
    for text in (repr(secret), str(secret), repr(provider), repr(provider.source), repr(provider.signing[0])):
        assert "hidden" not in text
    assert "shown" in repr(secret)
    assert "hidden" not in pretty(provider)
    with pytest.raises(TypeError):
        asdict(secret)  # type: ignore[call-overload]
    assert "hidden" not in repr(providers.meta(app_secret="a", verify_token="hidden"))


def test_an_unverified_endpoint_says_so(caplog: pytest.LogCaptureFixture) -> None:
    provider = providers.unverified(insecure_no_verify=True)
    assert "everybody can send it events" in caplog.text
    outcome = provider.verify(WebhookRequest.of(b'{"a":1}'))
    assert isinstance(outcome, Verified)
    assert outcome.secret is None
    assert outcome.events[0].data == {"a": 1}


def raising(request: WebhookRequest) -> bool:
    raise ValueError(request)


@pytest.mark.parametrize("verdict", [False, None, 1, "yes", object()])
def test_a_function_of_yours_accepts_with_true_alone(verdict: object) -> None:
    request = WebhookRequest.of(b"{}")
    assert isinstance(providers.custom(verify=lambda _: True).verify(request), Verified)
    for judge in (lambda _: verdict, raising):
        outcome = providers.custom(verify=judge).verify(request)
        assert isinstance(outcome, Refused)
        assert (outcome.reason, outcome.status) == (Reason.JUDGED_FALSE, 401)


def test_keys_for_tests_fit_together() -> None:
    private, public = generate_keys("ed25519-hex")
    provider = providers.discord(public_key=public)
    assert isinstance(provider.verify(provider.sign(b'{"id":"1","type":2}', signing_key=private)), Verified)
    wrong = provider.sign(b'{"id":"1","type":2}', signing_key=generate_keys("ed25519-hex")[0])
    assert isinstance(provider.verify(wrong), Refused)
    private, public = generate_keys("whpk")
    standard = providers.standard_webhooks(public_key=public)
    assert isinstance(standard.verify(standard.sign(b"{}", signing_key=private)), Verified)
    with pytest.raises(ConfigurationError, match="secret of both sides"):
        generate_keys("text")
    with pytest.raises(ConfigurationError, match="signing_key="):
        provider.sign(b"{}")
    with pytest.raises(ConfigurationError, match="private key"):
        provider.sign(b"{}", signing_key=PUBLIC_ED25519[:-1])

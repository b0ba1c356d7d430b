"""Beside the providers' own packages: both accept what either signs, and ours refuses wherever theirs does."""

from __future__ import annotations

import base64
import hashlib
import importlib
import json
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any
from urllib.parse import urlencode

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dbos_events_webhooks import Provider, Refused, Verified, WebhookRequest, generate_keys, providers
from tests.connectors.webhooks.hostile import bodies, values

WHSEC = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
URL = "https://example.com/hooks"
TEXTS = st.text(st.characters(codec="utf-8"), max_size=20)
JSON = st.dictionaries(
    TEXTS, st.one_of(TEXTS, st.integers(-(10**9), 10**9), st.booleans(), st.none()), max_size=4
)


def load(module: str) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return importlib.import_module(module)


def raises_nothing(function: Callable[..., Any], *arguments: Any) -> bool:
    function(*arguments)
    return True


def text(request: WebhookRequest) -> dict[str, str]:
    return {name: value.decode("latin-1") for name, value in request.headers}


@dataclass(frozen=True)
class Sdk:
    """`accepts` says what the package does with a request; whatever it raises is a refusal."""

    name: str
    provider: Provider
    accepts: Callable[[WebhookRequest], bool]
    signed: Callable[[bytes], WebhookRequest]
    key: str | None = None

    @cached_property
    def right(self) -> WebhookRequest:
        """One right request: signatures with random numbers in them differ each time."""
        return self.signed(b'{"id":"1"}')

    def takes(self, request: WebhookRequest) -> bool:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                return bool(self.accepts(request))
        except Exception:  # noqa: BLE001 - they raise many things
            return False

    def ours(self, body: bytes) -> WebhookRequest:
        return self.provider.sign(body, signing_key=self.key, query=_query(self.name, body))


def _query(name: str, body: bytes) -> str:
    return f"bodySHA256={hashlib.sha256(body).hexdigest()}" if name == "twilio json" else ""


def standardwebhooks() -> Sdk:
    webhook = load("standardwebhooks").Webhook(WHSEC)

    def signed(body: bytes) -> WebhookRequest:
        from datetime import UTC, datetime

        now = datetime.now(UTC)
        signature = webhook.sign("msg_1", now, body.decode())
        stamp = str(int(now.timestamp()))
        headers = {"webhook-id": "msg_1", "webhook-timestamp": stamp, "webhook-signature": signature}
        return WebhookRequest.of(body, headers)

    provider = providers.standard_webhooks(secret=WHSEC)
    return Sdk(
        "standardwebhooks", provider, lambda r: raises_nothing(webhook.verify, r.body, text(r)), signed
    )


def svix() -> Sdk:
    webhook = load("svix.webhooks").Webhook(WHSEC)
    plain = standardwebhooks()

    def signed(body: bytes) -> WebhookRequest:
        made = plain.signed(body)
        return replace(made, headers=tuple((k.replace("webhook", "svix"), v) for k, v in made.headers))

    provider = providers.svix(secret=WHSEC)
    return Sdk("svix", provider, lambda r: raises_nothing(webhook.verify, r.body, text(r)), signed)


def stripe() -> Sdk:
    module = load("stripe")

    def signed(body: bytes) -> WebhookRequest:
        now = int(time.time())
        content = f"{now}.{body.decode()}"
        signature = module.WebhookSignature._compute_signature(content, "whsec_x")
        return WebhookRequest.of(body, {"stripe-signature": f"t={now},v1={signature}"})

    def accepts(request: WebhookRequest) -> bool:
        header = text(request)["stripe-signature"]
        taken: bool = module.WebhookSignature.verify_header(request.body.decode(), header, "whsec_x", 300)
        return taken

    return Sdk("stripe", providers.stripe(secret="whsec_x"), accepts, signed)


def slack() -> Sdk:
    verifier = load("slack_sdk.signature").SignatureVerifier("slack-secret")

    def signed(body: bytes) -> WebhookRequest:
        now = str(int(time.time()))
        signature = verifier.generate_signature(timestamp=now, body=body)
        return WebhookRequest.of(body, {"x-slack-request-timestamp": now, "x-slack-signature": signature})

    return Sdk(
        "slack_sdk",
        providers.slack(signing_secret="slack-secret"),
        lambda r: verifier.is_valid_request(r.body, text(r)),
        signed,
    )


def twilio_form() -> Sdk:
    from urllib.parse import parse_qs

    validator = load("twilio.request_validator").RequestValidator("token")

    def fields(body: bytes) -> Any:
        class Many(dict[str, list[str]]):
            def getlist(self, name: str) -> list[str]:
                return self[name]

        return Many(parse_qs(body.decode(), keep_blank_values=True))

    def signed(body: bytes) -> WebhookRequest:
        form = urlencode(json.loads(body)).encode()
        return WebhookRequest.of(form, {"x-twilio-signature": validator.compute_signature(URL, fields(form))})

    def accepts(request: WebhookRequest) -> bool:
        header = text(request)["x-twilio-signature"]
        taken: bool = validator.validate(URL, fields(request.body), header)
        return taken

    return Sdk("twilio form", providers.twilio(auth_token="token", public_url=URL), accepts, signed)


def twilio_json() -> Sdk:
    validator = load("twilio.request_validator").RequestValidator("token")

    def signed(body: bytes) -> WebhookRequest:
        query = _query("twilio json", body)
        signature = validator.compute_signature(f"{URL}?{query}", {})
        headers = {"x-twilio-signature": signature, "content-type": "application/json"}
        return WebhookRequest.of(body, headers, query=query)

    def accepts(request: WebhookRequest) -> bool:
        header = text(request)["x-twilio-signature"]
        taken: bool = validator.validate(f"{URL}?{request.query.decode()}", request.body.decode(), header)
        return taken

    return Sdk("twilio json", providers.twilio(auth_token="token", public_url=URL), accepts, signed)


def sendgrid() -> Sdk:
    private, public = generate_keys("p256-spki")
    webhook = load("sendgrid").EventWebhook(public)
    prefix = "x-twilio-email-event-webhook-"
    provider = providers.sendgrid(public_key=public)

    def signed(body: bytes) -> WebhookRequest:
        from cryptography.hazmat.primitives import hashes, serialization
        from cryptography.hazmat.primitives.asymmetric import ec

        key = serialization.load_pem_private_key(private.encode(), None)
        assert isinstance(key, ec.EllipticCurvePrivateKey)
        now = str(int(time.time()))
        signature = base64.b64encode(key.sign(now.encode() + body, ec.ECDSA(hashes.SHA256()))).decode()
        return WebhookRequest.of(body, {f"{prefix}signature": signature, f"{prefix}timestamp": now})

    def accepts(request: WebhookRequest) -> bool:
        headers = text(request)
        taken: bool = webhook.verify_signature(
            request.body.decode(), headers[f"{prefix}signature"], headers[f"{prefix}timestamp"]
        )
        return taken

    return Sdk("sendgrid", provider, accepts, signed, private)


def square() -> Sdk:
    helper = load("square.utils.webhooks_helper")

    def accepts(request: WebhookRequest) -> bool:
        taken: bool = helper.verify_signature(
            request_body=request.body.decode(),
            signature_header=text(request)["x-square-hmacsha256-signature"],
            signature_key="square-key",
            notification_url=URL,
        )
        return taken

    provider = providers.square(signature_key="square-key", public_url=URL)
    return Sdk("square", provider, accepts, provider.sign)


def discord() -> Sdk:
    signing = load("nacl.signing")
    private, public = generate_keys("ed25519-hex")
    key, verifying = signing.SigningKey(bytes.fromhex(private)), signing.VerifyKey(bytes.fromhex(public))

    def signed(body: bytes) -> WebhookRequest:
        now = str(int(time.time()))
        signature = key.sign(now.encode() + body).signature.hex()
        return WebhookRequest.of(body, {"x-signature-ed25519": signature, "x-signature-timestamp": now})

    def accepts(request: WebhookRequest) -> bool:
        headers = text(request)
        content = headers["x-signature-timestamp"].encode() + request.body
        return verifying.verify(content, bytes.fromhex(headers["x-signature-ed25519"])) is not None

    return Sdk("nacl", providers.discord(public_key=public), accepts, signed, private)


PACKAGES = {
    make.__name__: make
    for make in (standardwebhooks, svix, stripe, slack, twilio_form, twilio_json, sendgrid, square, discord)
}


@pytest.fixture(params=PACKAGES.values(), ids=PACKAGES.keys(), scope="module")
def sdk(request: pytest.FixtureRequest) -> Sdk:
    made: Sdk = request.param()
    return made


@settings(max_examples=30, deadline=None)
@given(content=JSON)
def test_ours_accepts_what_the_package_signs(sdk: Sdk, content: Any) -> None:
    request = sdk.signed(json.dumps(content | {"id": "1"}).encode())

    assert sdk.takes(request)
    outcome = sdk.provider.verify(request)
    assert isinstance(outcome, Verified), outcome


@settings(max_examples=30, deadline=None)
@given(content=JSON)
def test_the_package_accepts_what_ours_signs(sdk: Sdk, content: Any) -> None:
    body = json.dumps(content | {"id": "1"}).encode()
    request = sdk.ours(urlencode(json.loads(body)).encode() if sdk.name == "twilio form" else body)

    assert isinstance(sdk.provider.verify(with_type(request, sdk)), Verified)
    assert sdk.takes(request)


def with_type(request: WebhookRequest, sdk: Sdk) -> WebhookRequest:
    kind = b"application/json" if sdk.name == "twilio json" else None
    headers = tuple((k, kind or v if k == "content-type" else v) for k, v in request.headers)
    return replace(request, headers=headers)


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_ours_refuses_what_the_package_refuses_and_never_raises(sdk: Sdk, data: st.DataObject) -> None:
    request = sdk.right
    if data.draw(st.booleans(), label="another body"):
        request = replace(request, body=data.draw(bodies()))
    headers = [
        (name, data.draw(st.one_of(st.just(value), values(), changed(value)), label=name))
        for name, value in request.headers
    ]
    request = replace(request, headers=tuple(headers))

    outcome = sdk.provider.verify(request)

    assert isinstance(outcome, (Refused, Verified))
    if isinstance(outcome, Verified):
        assert sdk.takes(request), "only ours accepts this"


def changed(value: bytes) -> st.SearchStrategy[bytes]:
    """A right value with something cut off, put in, or in another case."""
    places = st.integers(0, len(value))
    return st.one_of(
        places.map(lambda place: value[:place]),
        st.tuples(places, st.sampled_from([b" ", b"=", b",", b"0", b"\n", b"\xe9"])).map(
            lambda pair: value[: pair[0]] + pair[1] + value[pair[0] :]
        ),
        st.just(value.upper()),
    )

"""What providers have published verifies; with one bit flipped, wherever it is, it does not."""

import hashlib
from collections.abc import Iterator
from dataclasses import replace
from urllib.parse import parse_qsl

import pytest

from dbos_events.errors import ConfigurationError
from dbos_events_webhooks import Reason, Refused, Verified, WebhookRequest, providers
from tests.connectors.webhooks.vectors import (
    FORM,
    SENDGRID_BODY,
    STANDARD,
    VECTORS,
    Vector,
    clock,
    standard,
)

each_vector = pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: vector.name)


def flips(value: bytes) -> Iterator[bytes]:
    for index in range(len(value)):
        for bit in range(8):
            yield value[:index] + bytes([value[index] ^ 1 << bit]) + value[index + 1 :]


def with_header(request: WebhookRequest, name: str, value: bytes) -> WebhookRequest:
    assert any(key == name for key, _ in request.headers)
    return replace(request, headers=tuple((k, value if k == name else v) for k, v in request.headers))


def header(request: WebhookRequest, name: str) -> bytes:
    return next(value for key, value in request.headers if key == name)


def test_the_body_of_sendgrid_is_the_published_one() -> None:
    assert hashlib.sha256(SENDGRID_BODY).hexdigest() == (
        "ef3e4606385ea6adbc55fceb6117cf2784040cf145a010e5ef4afc2bc7c70452"
    )


@each_vector
def test_a_published_request_verifies(vector: Vector) -> None:
    outcome = vector.provider().verify(vector.request)

    assert isinstance(outcome, Verified), outcome
    assert outcome.secret is not None
    assert outcome.secret.index == 0
    assert len(outcome.events) == 1


@each_vector
def test_no_bit_of_the_body_can_be_flipped(vector: Vector) -> None:
    provider = vector.provider()
    form = header(vector.request, "content-type") if vector.request.has("content-type") else b""
    # Of a form Twilio signs what it says, so that `%2B` and `%2b` are the same.
    signs_fields = vector.name.startswith("twilio") and form == FORM.encode()
    same = set(parse_qsl(vector.request.body.decode())) if signs_fields else None
    for body in flips(vector.request.body):
        if (
            same is not None
            and body.isascii()
            and set(parse_qsl(body.decode(), keep_blank_values=True)) == same
        ):
            continue
        assert isinstance(provider.verify(replace(vector.request, body=body)), Refused), body


@each_vector
def test_no_bit_of_a_signed_header_can_be_flipped(vector: Vector) -> None:
    provider = vector.provider()
    for name in vector.signed:
        for value in flips(header(vector.request, name)):
            assert isinstance(provider.verify(with_header(vector.request, name, value)), Refused), (
                name,
                value,
            )


@each_vector
def test_no_bit_of_a_signed_query_can_be_flipped(vector: Vector) -> None:
    provider = vector.provider()
    for query in flips(vector.request.query):
        assert isinstance(provider.verify(replace(vector.request, query=query)), Refused), query


@each_vector
def test_no_bit_of_the_secret_can_be_flipped(vector: Vector) -> None:
    refused = 0
    # The last character of base64 with padding has bits that say nothing.
    padded = vector.secret.endswith("=")
    for flipped in flips(vector.secret.rstrip("=")[:-1].encode() if padded else vector.secret.encode()):
        secret = flipped.decode("latin-1") + vector.secret[len(flipped) :]
        try:
            outcome = vector.provider(secret).verify(vector.request)
        except ConfigurationError as error:
            outcome, told = None, str(error)
        else:
            told = repr(outcome)
        assert outcome is None or isinstance(outcome, Refused), secret
        assert secret not in told
        refused += 1
    assert refused >= 8 * (len(vector.secret) - 3)


@each_vector
def test_a_signature_that_is_cut_off_or_doubled_is_refused(vector: Vector) -> None:
    provider = vector.provider()
    name = vector.signed[0] if "id" not in vector.signed[0] else vector.signed[-1]
    value = header(vector.request, name)
    for length in range(len(value)):
        assert isinstance(provider.verify(with_header(vector.request, name, value[:length])), Refused)
    for changed in (value + b"=", value + b"A", value.upper(), value[1:], b"\0" + value, value + b"\n"):
        assert isinstance(provider.verify(with_header(vector.request, name, changed)), Refused), changed


@each_vector
def test_a_signed_header_that_is_missing_or_sent_twice_is_refused(vector: Vector) -> None:
    provider = vector.provider()
    for name in vector.signed:
        without = replace(
            vector.request, headers=tuple((k, v) for k, v in vector.request.headers if k != name)
        )
        twice = replace(
            vector.request, headers=(*vector.request.headers, (name, header(vector.request, name)))
        )
        missing, repeated = provider.verify(without), provider.verify(twice)
        assert isinstance(missing, Refused)
        assert missing.status == 401
        assert isinstance(repeated, Refused)
        assert (repeated.reason, repeated.status) == (Reason.REPEATED_HEADER, 400)


@each_vector
def test_a_request_is_refused_outside_of_the_tolerance_on_both_sides(vector: Vector) -> None:
    stamped = isinstance(vector.provider().verify(vector.request), Verified) and any(
        "timestamp" in name or name == "stripe-signature" for name in vector.signed
    )
    for seconds, reason in ((301, Reason.TOO_OLD), (-301, Reason.TOO_NEW)):
        outcome = vector.provider(at=vector.at + seconds).verify(vector.request)
        if stamped:
            assert isinstance(outcome, Refused)
            assert outcome.reason is reason
        else:
            assert isinstance(outcome, Verified)
    assert isinstance(vector.provider(at=vector.at + 300).verify(vector.request), Verified)
    assert isinstance(vector.provider(at=vector.at - 300).verify(vector.request), Verified)


@pytest.mark.parametrize(
    "secret", ["MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"]
)
def test_a_secret_of_standard_webhooks_is_taken_with_and_without_its_prefix(secret: str) -> None:
    vector = VECTORS[0]
    assert isinstance(vector.provider(secret).verify(vector.request), Verified)


@pytest.mark.parametrize("secret", ["MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaS", "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSwBr"])
def test_a_secret_of_standard_webhooks_is_taken_without_its_padding(secret: str) -> None:
    provider = providers.standard_webhooks(secret=secret, clock=clock(1))
    assert isinstance(provider.verify(provider.sign(b"{}")), Verified)


@pytest.mark.parametrize(
    "signature",
    [
        *("v1,", "v1", "", ",", "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OA=", "v2,g0hM9SsE"),
        *("v2,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=", "g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="),
        *(
            "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OF=",
            "v1a,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
        ),
        "V1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
        " ".join(["v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="] * 17),
    ],
)
def test_near_misses_of_standard_webhooks_are_refused(signature: str) -> None:
    vector = standard("near", VECTORS[0].secret, *STANDARD, signature, "webhook")
    assert isinstance(vector.provider().verify(vector.request), Refused)


@pytest.mark.parametrize(
    "before", ["v2,abc ", "v1a,xyz ", "v1,AAAA ", "v1,1111111111111111111111111111111111111111111= "]
)
def test_other_signatures_beside_the_right_one_change_nothing(before: str) -> None:
    right = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
    for signature in (before + right, f"{right} {before.strip()}"):
        vector = standard("several", VECTORS[0].secret, *STANDARD, signature, "webhook")
        assert isinstance(vector.provider().verify(vector.request), Verified)


def test_generic_hmac_agrees_with_what_others_have_published() -> None:
    for encoding, start, end in (("hex", "83306382f5361d35", "fee2d"), ("base64", "gzBjgvU2HTU1", "R/uLQ==")):
        provider = providers.hmac(
            secret="Convoy",
            header="X-Convoy-Signature",
            algorithm="sha512",
            encoding=encoding,  # type: ignore[arg-type]
        )
        request = provider.sign(b"Test Payload Body")
        signature = header(request, "x-convoy-signature").decode()
        assert signature.startswith(start)
        assert signature.endswith(end)
        assert isinstance(provider.verify(request), Verified)

"""PayPal's signatures: offline, with a certificate that an authority vouches for, from fixed hosts alone."""

import asyncio
import zlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from dbos_events.errors import ConfigurationError
from dbos_events.testing import ManualClock
from dbos_events_webhooks import Provider, Reason, Refused, Verified, WebhookRequest, providers
from dbos_events_webhooks.certificates import NEW_PER_MINUTE
from tests.connectors.webhooks.test_vectors import flips, with_header

START = datetime(2030, 1, 1, tzinfo=UTC)
BODY = b'{"id":"WH-1","event_type":"PAYMENT.SALE.COMPLETED","create_time":"2030-01-01T00:00:00.5Z"}'
URL = "https://api.paypal.com/v1/notifications/certs/CERT-test"


@dataclass(frozen=True)
class Certified:
    """A certificate with its key, and the authority that vouches for it."""

    pem: bytes
    key: bytes
    roots: bytes


def named(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])


def authority() -> tuple[rsa.RSAPrivateKey, x509.Certificate]:
    key = rsa.generate_private_key(65537, 2048)
    usage = x509.KeyUsage(False, False, False, False, False, True, True, False, False)
    made = (
        x509.CertificateBuilder()
        .subject_name(named("authority"))
        .issuer_name(named("authority"))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(START - timedelta(days=100))
        .not_valid_after(START + timedelta(days=1000))
        .add_extension(x509.BasicConstraints(True, 0), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    return key, made


def certified(host: str = "messageverificationcerts.paypal.com", bits: int = 2048) -> Certified:
    root_key, root = authority()
    key = rsa.generate_private_key(65537, bits)
    made = (
        x509.CertificateBuilder()
        .subject_name(named(host))
        .issuer_name(root.subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(START - timedelta(days=1))
        .not_valid_after(START + timedelta(days=90))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(host)]), critical=False)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(root_key.public_key()), critical=False
        )
        .sign(root_key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    private = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    return Certified(made.public_bytes(pem), private, root.public_bytes(pem))


@pytest.fixture(scope="module")
def paypals() -> Certified:
    return certified()


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(START)


def provider(
    owner: Certified, clock: ManualClock, fetch: Callable[[str], Any] | None = None, **more: Any
) -> Provider:
    return providers.paypal(
        webhook_id="5DE12345AB",
        certificate=fetch or (lambda _: owner.pem),
        roots=more.pop("roots", owner.roots),
        clock=clock,
        **more,
    )


def refused(outcome: object, reason: Reason, status: int = 401) -> None:
    assert isinstance(outcome, Refused), outcome
    assert (outcome.reason, outcome.status) == (reason, status), outcome


def test_the_checksum_is_an_unsigned_decimal_number() -> None:
    assert zlib.crc32(b"{}") == 2745614147


def test_a_signed_event_verifies_and_the_certificate_is_fetched_once(
    paypals: Certified, clock: ManualClock
) -> None:
    asked: list[str] = []

    def fetch(url: str) -> bytes:
        asked.append(url)
        return paypals.pem

    endpoint = provider(paypals, clock, fetch)
    for number in range(3):
        outcome = endpoint.verify(endpoint.sign(BODY, id=f"t-{number}", signing_key=paypals.key))
        assert isinstance(outcome, Verified), outcome
        (event,) = outcome.events
        assert (event.id, event.type) == ("WH-1", "PAYMENT.SALE.COMPLETED")
        assert event.occurred_at == START + timedelta(milliseconds=500)
    assert asked == [URL]


def test_no_bit_can_be_flipped(paypals: Certified, clock: ManualClock) -> None:
    endpoint = provider(paypals, clock)
    request = endpoint.sign(BODY, signing_key=paypals.key)
    assert isinstance(endpoint.verify(request), Verified)
    for body in flips(request.body):
        assert isinstance(endpoint.verify(replace(request, body=body)), Refused)
    for name, value in request.headers:
        if name == "content-type":
            continue
        for changed in flips(value):
            outcome = endpoint.verify(with_header(request, name, changed))
            # Another certificate of PayPal's may be named; here all of them are the same.
            assert isinstance(outcome, Refused) or name == "paypal-cert-url", (name, changed)
    other = replace(endpoint.row.scheme, constants={"webhook_id": "5DE12345AC"})  # type: ignore[type-var]
    assert isinstance(replace(endpoint, row=replace(endpoint.row, scheme=other)).verify(request), Refused)


def test_a_body_with_the_same_checksum_carries_the_guard_of_the_genuine_one(
    paypals: Certified, clock: ManualClock
) -> None:
    endpoint = provider(paypals, clock)
    request = endpoint.sign(BODY, id="t-1", signing_key=paypals.key)
    forged = replace(request, body=with_checksum(b'{"id":"WH-2","x":"', zlib.crc32(BODY)))

    genuine, other = endpoint.verify(request), endpoint.verify(forged)

    assert isinstance(genuine, Verified)
    assert isinstance(other, Verified), "the limit of this scheme is gone: say so in the docs"
    assert not genuine.events[0].id_trusted
    assert genuine.events[0].replay_guard == other.events[0].replay_guard == genuine.digest
    again = endpoint.verify(endpoint.sign(BODY, id="t-2", signing_key=paypals.key))
    assert isinstance(again, Verified)
    assert again.events[0].id == genuine.events[0].id
    assert again.events[0].replay_guard != genuine.events[0].replay_guard


def with_checksum(start: bytes, wanted: int) -> bytes:
    """Bytes that begin so and have this CRC-32: the checksum is linear, so 32 bits are solved for."""
    import itertools

    base = zlib.crc32(start + b"\0" * 4)
    columns = [zlib.crc32(start + (1 << bit).to_bytes(4, "little")) ^ base for bit in range(32)]
    rows = [(column, 1 << bit) for bit, column in enumerate(columns)]
    target, chosen = wanted ^ base, 0
    for bit in itertools.islice(range(31, -1, -1), 32):
        pivot = next(row for row in rows if row[0] >> bit & 1)
        rows = [
            (a ^ pivot[0], b ^ pivot[1]) if a >> bit & 1 and (a, b) != pivot else (a, b)
            for a, b in rows
            if (a, b) != pivot
        ]
        if target >> bit & 1:
            target, chosen = target ^ pivot[0], chosen ^ pivot[1]
    made = start + chosen.to_bytes(4, "little")
    assert zlib.crc32(made) == wanted
    return made


@pytest.mark.parametrize(
    "url",
    [
        *(
            "http://api.paypal.com/v1/notifications/certs/CERT-test",
            "https://evil.com/v1/notifications/certs/CERT-test",
        ),
        *(
            "https://api.paypal.com.evil.com/v1/notifications/certs/C",
            "https://api.paypal.com@evil.com/v1/notifications/certs/C",
        ),
        *(
            "https://api.paypal.com:8443/v1/notifications/certs/C",
            "https://api.paypal.com/other/C",
            "https://api.paypal.com",
        ),
        *(
            "https://api.paypal.com/v1/notifications/certs/../../x",
            "https://api.paypal.com/v1/notifications/certs/C?u=http://e",
        ),
        *(
            "https://api.sandbox.paypal.com/v1/notifications/certs/C",
            "https://api.paypal.com/v1/notifications/certs/C#f",
        ),
        *(
            "HTTPS://API.PAYPAL.COM/v1/notifications/certs/C",
            "https://api.paypal.com\\@evil.com/v1/notifications/certs/C",
        ),
        *("file:///etc/passwd", "", "https://169.254.169.254/v1/notifications/certs/C"),
        "https://api.paypal.com/v1/notifications/certs/",
        "https://api.paypal.com/v1/notifications/certs/" + "a" * 200,
        "https://api.paypal.com/v1/notifications/certs/C\n",
    ],
)
def test_no_address_but_paypals_is_ever_fetched(paypals: Certified, clock: ManualClock, url: str) -> None:
    def fetch(url: str) -> bytes:
        raise AssertionError(f"{url} was fetched")

    endpoint = provider(paypals, clock, fetch)
    request = with_header(endpoint.sign(BODY, signing_key=paypals.key), "paypal-cert-url", url.encode())
    refused(endpoint.verify(request), Reason.UNTRUSTED_CERTIFICATE)


def test_nothing_is_fetched_for_a_request_that_is_wrong_already(
    paypals: Certified, clock: ManualClock
) -> None:
    def fetch(url: str) -> bytes:
        raise AssertionError(f"{url} was fetched")

    endpoint = provider(paypals, clock, fetch)
    request = endpoint.sign(BODY, signing_key=paypals.key)
    for name, value in (
        ("paypal-auth-algo", b"SHA1withRSA"),
        ("paypal-transmission-time", b"2029-12-31T00:00:00Z"),
        ("paypal-transmission-time", b"1893456000"),
        ("paypal-transmission-id", b"a|b"),
        ("paypal-transmission-sig", b"AAAA"),
    ):
        assert isinstance(endpoint.verify(with_header(request, name, value)), Refused)


def test_a_certificate_has_to_be_vouched_for_and_paypals_and_valid(
    paypals: Certified, clock: ManualClock
) -> None:
    foreign = certified()
    for owner, roots in (
        (foreign, paypals.roots),
        (certified("paypal.com.evil.com"), None),
        (certified("evilpaypal.com"), None),
        (replace(paypals, pem=b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----"), None),
        (replace(paypals, pem=b""), None),
        (replace(paypals, pem=paypals.roots), None),
    ):
        endpoint = provider(owner, clock, roots=roots or owner.roots)
        request = endpoint.sign(BODY, signing_key=owner.key)
        refused(endpoint.verify(request), Reason.UNTRUSTED_CERTIFICATE)
    weak = certified(bits=1024)
    endpoint = provider(weak, clock)
    signed = provider(paypals, clock).sign(BODY, signing_key=paypals.key)
    refused(endpoint.verify(signed), Reason.UNTRUSTED_CERTIFICATE)


def test_a_certificate_that_has_run_out_is_fetched_anew(paypals: Certified, clock: ManualClock) -> None:
    asked: list[str] = []

    def fetch(url: str) -> bytes:
        asked.append(url)
        return paypals.pem

    endpoint = provider(paypals, clock, fetch)
    assert isinstance(endpoint.verify(endpoint.sign(BODY, signing_key=paypals.key)), Verified)
    clock.advance(timedelta(days=91))
    refused(endpoint.verify(endpoint.sign(BODY, signing_key=paypals.key)), Reason.UNTRUSTED_CERTIFICATE)
    assert len(asked) == 2


@pytest.mark.parametrize(
    "given", [OSError("down"), None, b"x" * 100_000, 7], ids=["raised", "none", "large", "number"]
)
def test_a_certificate_that_cannot_be_had_is_no_fault_of_the_event(
    paypals: Certified, clock: ManualClock, given: Any
) -> None:
    def fetch(url: str) -> Any:
        if isinstance(given, Exception):
            raise given
        return given

    endpoint = provider(paypals, clock, fetch)
    request = endpoint.sign(BODY, signing_key=paypals.key)
    refused(endpoint.verify(request), Reason.CERTIFICATE_UNAVAILABLE, 503)


def test_strangers_cannot_have_certificates_fetched_without_end(
    paypals: Certified, clock: ManualClock
) -> None:
    asked: list[str] = []

    def fetch(url: str) -> bytes:
        asked.append(url)
        return b"nothing"

    endpoint = provider(paypals, clock, fetch)
    request = endpoint.sign(BODY, signing_key=paypals.key)
    for number in range(50):
        endpoint.verify(with_header(request, "paypal-cert-url", f"{URL}{number}".encode()))
    assert len(asked) == NEW_PER_MINUTE
    clock.advance(timedelta(seconds=61))
    endpoint.verify(request)
    assert len(asked) == NEW_PER_MINUTE + 1


def test_a_certificate_may_be_fetched_on_the_loop(paypals: Certified, clock: ManualClock) -> None:
    async def fetch(url: str) -> str:
        await asyncio.sleep(0)
        return paypals.pem.decode()

    endpoint = provider(paypals, clock, fetch)
    request = endpoint.sign(BODY, signing_key=paypals.key)
    assert isinstance(asyncio.run(endpoint.verify_async(request)), Verified)
    # It is known now, so that nothing has to be awaited.
    assert isinstance(endpoint.verify(request), Verified)


def test_the_sandbox_is_another_endpoint(paypals: Certified, clock: ManualClock) -> None:
    sandbox = provider(paypals, clock, sandbox=True)
    request = sandbox.sign(BODY, signing_key=paypals.key)
    assert isinstance(sandbox.verify(request), Verified)
    assert isinstance(provider(paypals, clock).verify(request), Refused)


def test_what_cannot_work_is_refused_at_the_start(paypals: Certified, clock: ManualClock) -> None:
    for arguments, advice in (
        ({"webhook_id": ""}, "webhook_id is empty"),
        ({"certificate": None}, "certificate= is a function"),
        ({"roots": b"nothing"}, "roots="),
    ):
        given: dict[str, Any] = {"webhook_id": "a", "certificate": print, "roots": paypals.roots} | arguments
        with pytest.raises(ConfigurationError, match=advice):
            providers.paypal(**given)


def test_a_request_without_any_of_its_headers_is_refused(paypals: Certified, clock: ManualClock) -> None:
    endpoint = provider(paypals, clock)
    request = endpoint.sign(BODY, signing_key=paypals.key)
    for name, _ in request.headers:
        if name != "content-type":
            less = tuple(pair for pair in request.headers if pair[0] != name)
            assert isinstance(endpoint.verify(replace(request, headers=less)), Refused), name
    assert isinstance(endpoint.verify(WebhookRequest.of(BODY)), Refused)

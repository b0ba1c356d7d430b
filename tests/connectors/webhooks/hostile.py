"""What a stranger may send: headers and bodies by chance, near to right ones and far from them."""

from __future__ import annotations

from hypothesis import strategies as st

from dbos_events_webhooks import Provider, WebhookRequest, generate_keys, providers
from tests.connectors.webhooks.vectors import clock

NOW = 1_700_000_000
WHSEC = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
URL = "https://example.com/hooks"
PRIVATE_ED25519, PUBLIC_ED25519 = generate_keys("ed25519-hex")
PRIVATE_P256, PUBLIC_P256 = generate_keys("p256-spki")
PRIVATE_WHSK, PUBLIC_WHPK = generate_keys("whpk")


def every_provider() -> dict[str, Provider]:
    """One of each row that needs no certificate, by its name."""
    at = {"clock": clock(NOW)}
    made = [
        providers.standard_webhooks(secret=WHSEC, **at),
        providers.svix(secret=WHSEC, **at),
        providers.stripe(secret="whsec_stripe", **at),
        providers.github(secret="github-secret", **at),
        providers.meta(app_secret="meta-secret", verify_token="subscribe-me", **at),
        providers.slack(signing_secret="slack-secret", **at),
        providers.shopify(secret="shopify-secret", **at),
        providers.gitlab(signing_token=WHSEC, **at),
        providers.gitlab_token(token="gitlab-token", **at),
        providers.square(signature_key="square-key", public_url=URL, **at),
        providers.zoom(secret_token="zoom-secret", **at),
        providers.sendgrid(public_key=PUBLIC_P256, **at),
        providers.discord(public_key=PUBLIC_ED25519, **at),
        providers.discord_events(public_key=PUBLIC_ED25519, **at),
        providers.ms_graph(client_state="graph-state", **at),
        providers.twilio(auth_token="twilio-token", public_url=URL, **at),
        providers.x(consumer_secret="x-secret", **at),
        providers.hookdeck(secret="hookdeck-secret", **at),
        providers.cloudevents(token="ce-token", allowed_origins=["sender.example"], **at),
        providers.bearer(token="bearer-token", **at),
        providers.basic(credentials="user:password", **at),
        providers.api_key(key_value="api-key", **at),
        providers.hmac(secret="generic-secret", header="x-signature", **at),
        providers.custom(verify=lambda request: request.one("x-mine") == "yes", **at),
    ]
    return {provider.name: provider for provider in made}


SIGNING_KEYS = {"sendgrid": PRIVATE_P256, "discord": PRIVATE_ED25519, "discord_events": PRIVATE_ED25519}
BODIES = {
    "sendgrid": b'[{"sg_event_id":"e1","event":"open","timestamp":1700000000}]',
    "ms_graph": b'{"value":[{"clientState":"graph-state","subscriptionId":"s","changeType":"created"}]}',
    "twilio": b"MessageSid=SM1&MessageStatus=sent",
}


def body_of(name: str) -> bytes:
    return BODIES.get(name, b'{"id":"e1","type":"a.b","event":"e"}')


def signed(provider: Provider, body: bytes | None = None, **more: object) -> WebhookRequest:
    """A right request of this provider."""
    if provider.name == "custom":
        more["headers"] = {"x-mine": "yes", **dict(more.get("headers", {}))}  # type: ignore[call-overload]
    if provider.name == "cloudevents" and "headers" not in more:
        more["headers"] = {"ce-id": "e1", "ce-source": "/s", "ce-type": "t", "ce-specversion": "1.0"}
    return provider.sign(
        body_of(provider.name) if body is None else body,
        signing_key=SIGNING_KEYS.get(provider.name),
        **more,  # type: ignore[arg-type]
    )


HEADER_NAMES = sorted(
    {
        *(name for provider in every_provider().values() for name, _ in signed(provider).headers),
        *(
            "webhook-request-origin",
            "ce-id",
            "ce-source",
            "ce-type",
            "ce-time",
            "x-github-event",
            "content-encoding",
        ),
        *(
            "content-length",
            "x-shopify-triggered-at",
            "svix-id",
            "webhook-signature",
            "x-hookdeck-signature-2",
        ),
        *("paypal-cert-url", "paypal-transmission-id", "idempotency-key", "x-gitlab-event-uuid"),
    }
)
NASTY = [
    *(b"", b" ", b"\x00", b"\xff\xfe", b"nan", b"1e400", b"+1", b"1_0", b" 1", b"-1", b"\xd9\xa1", b"9" * 20),
    *(b"9" * 12, b"1700000000", b"v1,", b"v0=", b"sha256=", b"t=1,v1=", b"t=1700000000,v1=" + b"0" * 64),
    *(
        b"v1," + b"A" * 43 + b"=",
        b"sha256=" + b"0" * 64,
        b"sha1=" + b"0" * 40,
        b"Bearer ",
        b"Basic ====",
        b"Bearer x",
    ),
    *(
        b"text/plain;charset=utf-16",
        b"application/json; charset=latin-1",
        b"application/cloudevents-batch+json",
    ),
    *(
        b"application/cloudevents+json",
        b"application/json",
        b"gzip",
        b"a" * 5000,
        b"%",
        b"%ff",
        b'"\\',
        b"x" * 64,
    ),
    b"application/x-www-form-urlencoded",
]
NASTY_BODIES = [
    *(
        b"",
        b"null",
        b"[]",
        b"{}",
        b"0",
        b'"x"',
        b"NaN",
        b"[Infinity]",
        b"9" * 5000,
        b"[" * 100_000,
        b'{"a":' * 50_000,
    ),
    *(
        b"\xef\xbb\xbf{}",
        '{"id":"é"}'.encode("utf-16"),
        b'{"id":1,"id":2}',
        b'{"id":"\\ud800"}',
        b'{"id":"\\u0000"}',
    ),
    *(b'{"type":"url_verification","challenge":{}}', b'{"event":"endpoint.url_validation","payload":[]}'),
    *(
        b'{"type":1}',
        b'{"type":true}',
        b'{"type":1e999}',
        b'{"value":[{}]}',
        b'{"value":{"clientState":"x"}}',
    ),
    *(
        b'{"entry":[1,{"changes":[[]]},{"messaging":7}]}',
        b'[{"sg_event_id":{}},1,null,[]]',
        b"a=1&a=2&payload=%7B",
    ),
    *(b"payload=%00&%ff=%", b"&&&==", b"a" * 2000, b'{"id":1e400}', b'{"id":' + b"9" * 200 + b"}", b"\xff"),
    *(
        b'{"specversion":"1.0","id":"a","source":"b","type":"c","data_base64":"!"}',
        b'[{"id":1}]',
        b'{"created":1e308}',
    ),
]


def bodies() -> st.SearchStrategy[bytes]:
    return st.one_of(st.sampled_from(NASTY_BODIES), st.binary(max_size=200))


def values() -> st.SearchStrategy[bytes]:
    return st.one_of(st.sampled_from(NASTY), st.binary(max_size=40))


def requests() -> st.SearchStrategy[WebhookRequest]:
    """Anything at all."""
    return st.builds(
        WebhookRequest,
        body=bodies(),
        headers=st.lists(st.tuples(st.sampled_from(HEADER_NAMES), values()), max_size=8).map(tuple),
        method=st.sampled_from(["POST", "GET", "OPTIONS", "HEAD", "PUT", "TRACE", ""]),
        path=st.text(max_size=10),
        query=st.one_of(
            st.binary(max_size=40),
            st.sampled_from(
                [
                    *(
                        b"crc_token=abc",
                        b"crc_token=%7B%7D",
                        b"crc_token",
                        b"crc_token=a&crc_token=b",
                        b"crc_token=%ff",
                    ),
                    *(
                        b"validationToken=%3Cb%3E",
                        b"validationToken=",
                        b"validationToken=%ff",
                        b"bodySHA256=00",
                    ),
                    *(
                        b"hub.mode=subscribe&hub.verify_token=subscribe-me&hub.challenge=1",
                        b"hub.mode=subscribe",
                    ),
                ]
            ),
        ),
    )

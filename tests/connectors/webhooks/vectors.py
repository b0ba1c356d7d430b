"""Requests that providers have published, with their secrets, and those derived from their official algorithms."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from dbos_events.testing import ManualClock
from dbos_events_webhooks import Provider, WebhookRequest, providers

FORM = "application/x-www-form-urlencoded"
Make = Callable[..., Provider]


def clock(seconds: float) -> ManualClock:
    return ManualClock(datetime.fromtimestamp(seconds, UTC))


@dataclass(frozen=True)
class Vector:
    """`signed` are the headers whose every bit matters; `make` takes a secret and a clock."""

    name: str
    make: Make
    secret: str
    request: WebhookRequest
    signed: tuple[str, ...]
    at: float = 1_700_000_000

    def provider(self, secret: Any = None, at: float | None = None) -> Provider:
        return self.make(
            self.secret if secret is None else secret, clock=clock(self.at if at is None else at)
        )


def plain(function: Callable[..., Provider], argument: str, **more: Any) -> Make:
    return lambda secret, **options: function(**{argument: secret}, **more, **options)


def standard(
    name: str, secret: str, event: str, at: int, body: bytes, signature: str, prefix: str, **kw: Any
) -> Vector:
    function = providers.svix if prefix == "svix" else providers.standard_webhooks
    headers = {f"{prefix}-id": event, f"{prefix}-timestamp": str(at), f"{prefix}-signature": signature}
    make = plain(function, kw.get("argument", "secret"))
    return Vector(name, make, secret, WebhookRequest.of(body, headers), tuple(headers), at)


def hub(
    name: str, function: Callable[..., Provider], argument: str, secret: str, body: bytes, signature: str
) -> Vector:
    headers = {
        "X-Hub-Signature-256": f"sha256={signature}",
        "X-GitHub-Delivery": "d-1",
        "X-GitHub-Event": "ping",
    }
    return Vector(
        name, plain(function, argument), secret, WebhookRequest.of(body, headers), ("x-hub-signature-256",)
    )


SLACK_BODY = (
    b"token=xyzz0WbapA4vBCDEFasx0q6G&team_id=T1DC2JH3J&team_domain=testteamnow&channel_id=G8PSS9T3V"
    b"&channel_name=foobar&user_id=U2CERLKJA&user_name=roadrunner&command=%2Fwebhook-collect&text="
    b"&response_url=https%3A%2F%2Fhooks.slack.com%2Fcommands%2FT1DC2JH3J%2F397700885554%2F96rGlfmibIGlgcZRskXaIFfN"
    b"&trigger_id=398738663015.47445629121.803a0bc887a14d10d2c447fce8b6703c"
)
SQUARE_BODY = (
    b'{"merchant_id":"MLEFBHHSJGVHD","type":"webhooks.test_notification",'
    b'"event_id":"ac3ac95b-f97d-458c-a6e6-18981597e05f","created_at":"2022-07-13T20:30:59.037339943Z",'
    b'"data":{"type":"webhooks","id":"bc368e64-01aa-407e-b46e-3231809b1129"}}'
)
SENDGRID_BODY = (
    json.dumps(
        [
            {
                "email": "hello@world.com",
                "event": "dropped",
                "reason": "Bounced Address",
                "sg_event_id": "ZHJvcC0xMDk5NDkxOS1MUnpYbF9OSFN0T0doUTRrb2ZTbV9BLTA",
                "sg_message_id": "LRzXl_NHStOGhQ4kofSm_A.filterdrecv-p3mdw1-756b745b58-kmzbl-18-5F5FC76C-9.0",
                "smtp-id": "<LRzXl_NHStOGhQ4kofSm_A@ismtpd0039p1iad1.sendgrid.net>",
                "timestamp": 1600112492,
            }
        ],
        sort_keys=True,
        separators=(",", ":"),
    )
    + "\r\n"
).encode()
SENDGRID_KEY = (
    "MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAE83T4O/n84iotIvIW4mdBgQ/7dAfSmpqIM8kF9mN1flpVKS3GRqe62gw+2fNNRaINXvVpiglSI8eN"
    "Ec6wEA3F+g=="
)
SENDGRID_SIGNATURE = (
    "MEUCIGHQVtGj+Y3LkG9fLcxf3qfI10QysgDWmMOVmxG0u6ZUAiEAyBiXDWzM+uOe5W0JuG+luQAbPIqHh89M15TluLtEZtM="
)
TWILIO_FORM = (
    b"CallSid=CA1234567890ABCDE&Caller=%2B14158675309&Digits=1234&From=%2B14158675309&To=%2B18005551212"
)
TWILIO_TWICE = b"Sid=CA123&SidAccount=AC123&Digits=5678&Digits=1234&Digits=1234"
TWILIO_JSON = b'{"property": "value", "boolean": true}'
TWILIO_JSON_DIGEST = "0a1ff7634d9ab3b95db5c9a2dfe9416e41502b283a80c7cf19632632f96e6620"


def twilio(
    name: str,
    signature: str,
    *,
    url: str = "https://mycompany.com/myapp.php",
    body: bytes = TWILIO_FORM,
    query: str = "foo=1&bar=2",
    kind: str = FORM,
    argument: str = "auth_token",
) -> Vector:
    headers = {"X-Twilio-Signature": signature, "Content-Type": kind}
    return Vector(
        f"twilio {name}",
        plain(providers.twilio, argument, public_url=url),
        "12345",
        WebhookRequest.of(body, headers, query=query),
        ("x-twilio-signature",),
    )


def square(name: str, key: str, url: str, body: bytes, signature: str) -> Vector:
    headers = {"x-square-hmacsha256-signature": signature}
    make = plain(providers.square, "signature_key", public_url=url)
    return Vector(name, make, key, WebhookRequest.of(body, headers), tuple(headers))


def vector(
    name: str,
    make: Make,
    secret: str,
    body: bytes,
    signed: dict[str, str],
    at: float = 1_700_000_000,
    **more: Any,
) -> Vector:
    kind = more.pop("kind", "application/json")
    request = WebhookRequest.of(body, {**signed, "content-type": kind})
    return Vector(name, make, secret, request, tuple(key.lower() for key in signed), at, **more)


STANDARD = ("msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, b'{"test": 2432232314}')

VECTORS = [
    standard(
        "standard webhooks",
        "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
        *STANDARD,
        "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
        "webhook",
    ),
    standard(
        "standard webhooks, ed25519",
        "whpk_A6EHv/POEL4dcN0Y50vAmWfk1jCbpQ1fHdyGZBJVMbg=",
        *STANDARD,
        "v1a,yoUrgEkc12aGqm0n4Sydmdz55xJfTz4AsAgieHFjmkR7LJtqVCZOQYzvvHjI5kAey+r4iaBGxTFRrl2iBQxtDQ==",
        "webhook",
        argument="public_key",
    ),
    standard(
        "svix",
        "whsec_plJ3nmyCDGBKInavdOK15jsl",
        "msg_loFOjxBNrRLzqYUf",
        1731705121,
        b'{"event_type":"ping","data":{"success":true}}',
        "v1,rAvfW3dJ/X/qxhsaXPOyyCGmRKsaKWcsNccKXlIktD0=",
        "svix",
    ),
    hub(
        "github",
        providers.github,
        "secret",
        "It's a Secret to Everybody",
        b"Hello, World!",
        "757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17",
    ),
    hub(
        "octokit",
        providers.github,
        "secret",
        "mysecret",
        b'{"foo":"bar"}',
        "4864d2759938a15468b5df9ade20bf161da9b4f737ea61794142f3484236bda3",
    ),
    hub(
        "meta",
        providers.meta,
        "app_secret",
        "mysecret",
        b'{"foo":"bar"}',
        "4864d2759938a15468b5df9ade20bf161da9b4f737ea61794142f3484236bda3",
    ),
    vector(
        "slack",
        plain(providers.slack, "signing_secret"),
        "8f742231b10e8888abcd99yyyzzz85a5",
        SLACK_BODY,
        {
            "X-Slack-Signature": "v0=a2114d57b48eac39b9ad189dd8316235a7b4a8d21a10bd27519666489c69b503",
            "X-Slack-Request-Timestamp": "1531420618",
        },
        1531420618,
        kind=FORM,
    ),
    vector(
        "stripe",
        plain(providers.stripe, "secret"),
        "whsec_test_secret",
        b'{"id":"evt_1","object":"event"}',
        {
            "Stripe-Signature": "t=1700000000,"
            "v1=0c8670ed117751cc551a20e35839447075c42800ea3cf3e8a2fbda99cd1e6edd"
        },
    ),
    vector(
        "shopify",
        plain(providers.shopify, "secret"),
        "hush",
        b'{"id":820982911946154508}',
        {"X-Shopify-Hmac-SHA256": "qBvrsZF7RfB1iS6BX6IHqJTp5L911P7intnPeTPsH0I="},
    ),
    vector(
        "zoom",
        plain(providers.zoom, "secret_token"),
        "zoomsecret",
        b'{"event":"meeting.started"}',
        {
            "x-zm-signature": "v0=37fabdea8e4d1e7734f676bedeb9a0c18dee9af13e5cf9b95606a452c0b52749",
            "x-zm-request-timestamp": "1700000000",
        },
    ),
    square(
        "square",
        "Ibxx_5AKakO-3qeNVR61Dw",
        "https://webhook.site/679a4f3a-dcfa-49ee-bac5-9d0edad886b9",
        SQUARE_BODY,
        "GF4YkrJgGBDZ9NIYbNXBnMzqb2HoL4RW/S6vkZ9/2N4=",
    ),
    square(
        "square, a body to escape",
        "signature-key",
        "https://webhook.site/webhooks",
        b'{"data":{"type":"webhooks","id":">id<"}}',
        "Cxt7+aTi4rKgcA0bC4g9EHdVtLSDWdqccmL5MvihU4U=",
    ),
    vector(
        "sendgrid",
        plain(providers.sendgrid, "public_key"),
        SENDGRID_KEY,
        SENDGRID_BODY,
        {
            "X-Twilio-Email-Event-Webhook-Signature": SENDGRID_SIGNATURE,
            "X-Twilio-Email-Event-Webhook-Timestamp": "1600112502",
        },
        1600112502,
    ),
    twilio("form", "RSOYDt4T1cUTdK1PDd93/VVr8B8="),
    twilio("signed with the port", "kvajT1Ptam85bY51eRf/AJRuM3w="),
    twilio(
        "configured with the port", "RSOYDt4T1cUTdK1PDd93/VVr8B8=", url="https://mycompany.com:443/myapp.php"
    ),
    twilio("http and a port", "Zmvh+3yNM1Phv2jhDCwEM3q5ebU=", url="http://mycompany.com:1234/myapp.php"),
    twilio("http and port 80", "0ZXoZLH/DfblKGATFgpif+LLRf4=", url="http://mycompany.com/myapp.php"),
    twilio("values sent twice", "IK+Dwps556ElfBT0I3Rgjkr1wJU=", body=TWILIO_TWICE),
    twilio(
        "json",
        "a9nBmqA0ju/hNViExpshrM61xv4=",
        body=TWILIO_JSON,
        query=f"foo=1&bar=2&bodySHA256={TWILIO_JSON_DIGEST}",
        kind="application/json",
    ),
    twilio("sha-256", "033hgUJA9M/hXIZsYjwkerEP/DBm35nEri5FhCYjA5s=", argument="shared_key"),
]

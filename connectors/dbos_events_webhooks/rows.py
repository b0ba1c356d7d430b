"""The providers, a row each. A row is data; `providers` gives it secrets."""

from __future__ import annotations

from typing import Any

from dbos_events.model.dataclass import dataclass
from dbos_events_webhooks.decompressing import Decompress
from dbos_events_webhooks.handshakes import (
    AllowOrigin,
    EchoChallenge,
    EchoQuery,
    Handshake,
    Ping,
    SignQuery,
    SignToken,
    Subscribe,
)
from dbos_events_webhooks.payload import MediaKind
from dbos_events_webhooks.places import Body, FirstOf, Header
from dbos_events_webhooks.reading import Reading
from dbos_events_webhooks.schemes import ItemSecretScheme, OpenScheme, Scheme, TokenScheme
from dbos_events_webhooks.signature import SignatureScheme, Stamp

MEGABYTE = 1024 * 1024


@dataclass(frozen=True, kw_only=True)
class Row:
    """One provider: how it signs, where its events have their ids, and what it asks and wants to hear.

    Args:
        name: The name of its function in `providers`.
        title: Its name as people know it.
        scheme: How a request proves where it comes from.
        reading: Where id, type and time of its events stand, and where one request holds several.
        handshakes: What it asks an endpoint.
        media: Kinds of content that it sends; the first where a request does not say.
        max_body: The largest body in bytes.
        accepted_status: What it wants to hear.
        decompress: Which compressed bodies are taken; None: those are 415.
        sent: Headers that a test event needs beside those of its signature.
    """

    name: str
    title: str
    scheme: Scheme
    reading: Reading
    handshakes: tuple[Handshake, ...] = ()
    media: tuple[MediaKind, ...] = ("json",)
    max_body: int = MEGABYTE
    accepted_status: int = 200
    sent: tuple[tuple[str, str], ...] = ()
    decompress: Decompress | None = None


STANDARD = SignatureScheme(
    algorithm="hmac-sha256",
    headers=("*-signature",),
    style="list",
    mark="v1,",
    encoding="base64",
    content="{id}.{timestamp}.{body}",
    timestamp=Stamp(header="*-timestamp"),
    id_header="*-id",
    families=("webhook",),
    key_form="whsec",
)
STANDARD_ED25519 = SignatureScheme(
    algorithm="ed25519",
    headers=("*-signature",),
    style="list",
    mark="v1a,",
    encoding="base64",
    content="{id}.{timestamp}.{body}",
    timestamp=Stamp(header="*-timestamp"),
    id_header="*-id",
    families=("webhook",),
    key_form="whpk",
)
STANDARD_READING = Reading(key=Header("*-id"), type=Body("type"), time=Body("timestamp"))


def _hub(**changes: Any) -> SignatureScheme:
    """`X-Hub-Signature-256`; the older header with SHA-1 is not looked at."""
    return SignatureScheme(
        algorithm="hmac-sha256", headers=("x-hub-signature-256",), mark="sha256=", **changes
    )


def _base64(header: str, *more: str, **changes: Any) -> SignatureScheme:
    return SignatureScheme(algorithm="hmac-sha256", headers=(header, *more), encoding="base64", **changes)


def _dated(algorithm: Any, header: str, stamp: str, content: str, **changes: Any) -> SignatureScheme:
    return SignatureScheme(
        algorithm=algorithm, headers=(header,), content=content, timestamp=Stamp(header=stamp), **changes
    )


def x_type(content: Any) -> str | None:
    """The kind of an activity of X: the key that ends in `_events`."""
    names = content if isinstance(content, dict) else {}
    return next((name for name in names if name.endswith("_events")), None)


ALL = (
    Row(
        name="standard_webhooks",
        title="Standard Webhooks",
        scheme=STANDARD,
        reading=STANDARD_READING,
        media=("json", "form", "other"),
    ),
    Row(
        name="svix",
        title="Svix",
        scheme=SignatureScheme(**{**STANDARD.__dict__, "families": ("svix", "webhook")}),
        reading=STANDARD_READING,
        media=("json", "form", "other"),
    ),
    Row(
        name="stripe",
        title="Stripe",
        scheme=SignatureScheme(
            algorithm="hmac-sha256",
            headers=("stripe-signature",),
            style="pairs",
            mark="v1",
            content="{timestamp}.{body}",
            timestamp=Stamp(pair="t"),
            key_form="stripe",
        ),
        reading=Reading(key=Body("id"), type=Body("type"), time=Body("created", "s")),
    ),
    Row(
        name="github",
        title="GitHub",
        scheme=_hub(),
        reading=Reading(key=Header("x-github-delivery"), type=Header("x-github-event"), form_json="payload"),
        media=("json", "form"),
        max_body=25 * MEGABYTE,
    ),
    Row(
        name="meta",
        title="Meta (Facebook, Instagram, WhatsApp)",
        scheme=_hub(),
        reading=Reading(type=Body("field"), split=("entry[].changes[]", "entry[].messaging[]")),
        handshakes=(Subscribe(),),
    ),
    Row(
        name="slack",
        title="Slack",
        scheme=_dated(
            "hmac-sha256",
            "x-slack-signature",
            "x-slack-request-timestamp",
            "v0:{timestamp}:{body}",
            mark="v0=",
        ),
        reading=Reading(
            key=FirstOf(Body("event_id"), Body("trigger_id")),
            type=FirstOf(Body("event.type"), Body("type"), Body("command")),
            time=Body("event_time", "s"),
            form_json="payload",
        ),
        handshakes=(EchoChallenge(("type",), "url_verification", ("challenge",)),),
        media=("json", "form"),
    ),
    Row(
        name="shopify",
        title="Shopify",
        scheme=_base64("x-shopify-hmac-sha256"),
        reading=Reading(
            key=Header("x-shopify-webhook-id"),
            type=Header("x-shopify-topic"),
            time=Header("x-shopify-triggered-at"),
        ),
        media=("json", "other"),
    ),
    Row(
        name="gitlab",
        title="GitLab (signing token)",
        scheme=STANDARD,
        reading=Reading(key=Header("*-id"), type=Body("object_kind")),
    ),
    Row(
        name="gitlab_token",
        title="GitLab (secret token)",
        scheme=TokenScheme("x-gitlab-token"),
        reading=Reading(
            key=FirstOf(Header("idempotency-key"), Header("x-gitlab-event-uuid")), type=Body("object_kind")
        ),
    ),
    Row(
        name="square",
        title="Square",
        scheme=_base64("x-square-hmacsha256-signature", content="{url}{body}"),
        reading=Reading(key=Body("event_id"), type=Body("type"), time=Body("created_at")),
    ),
    Row(
        name="zoom",
        title="Zoom",
        scheme=_dated(
            "hmac-sha256",
            "x-zm-signature",
            "x-zm-request-timestamp",
            "v0:{timestamp}:{body}",
            mark="v0=",
        ),
        reading=Reading(type=Body("event"), time=Body("event_ts", "ms")),
        handshakes=(SignToken(("event",), "endpoint.url_validation", ("payload", "plainToken")),),
    ),
    Row(
        name="sendgrid",
        title="SendGrid",
        scheme=_dated(
            "ecdsa-p256-sha256",
            "x-twilio-email-event-webhook-signature",
            "x-twilio-email-event-webhook-timestamp",
            "{timestamp}{body}",
            encoding="base64",
            key_form="p256-spki",
        ),
        reading=Reading(
            key=Body("sg_event_id"), type=Body("event"), time=Body("timestamp", "s"), split=("[]",)
        ),
    ),
    Row(
        name="discord",
        title="Discord (interactions)",
        scheme=_dated(
            "ed25519",
            "x-signature-ed25519",
            "x-signature-timestamp",
            "{timestamp}{body}",
            key_form="ed25519-hex",
        ),
        reading=Reading(key=Body("id"), type=Body("type")),
        handshakes=(Ping(("type",), 1, {"type": 1}),),
    ),
    Row(
        name="discord_events",
        title="Discord (webhook events)",
        scheme=_dated(
            "ed25519",
            "x-signature-ed25519",
            "x-signature-timestamp",
            "{timestamp}{body}",
            key_form="ed25519-hex",
        ),
        reading=Reading(type=Body("event.type"), time=Body("event.timestamp")),
        handshakes=(Ping(("type",), 0),),
    ),
    Row(
        name="ms_graph",
        title="Microsoft Graph",
        scheme=ItemSecretScheme(("value[]",), "clientState"),
        reading=Reading(
            key=(
                Body("subscriptionId"),
                Body("resource"),
                Body("changeType"),
                Body(("resourceData", "@odata.etag")),
            ),
            type=FirstOf(Body("changeType"), Body("lifecycleEvent")),
            split=("value[]",),
        ),
        handshakes=(EchoQuery("validationToken"),),
        media=("json", "other"),
        accepted_status=202,
    ),
    Row(
        name="twilio",
        title="Twilio",
        scheme=SignatureScheme(
            algorithm="hmac-sha1",
            headers=("x-twilio-signature",),
            content="{url}{form}",
            encoding="base64",
            ports=True,
        ),
        reading=Reading(
            key=FirstOf(
                (Body("MessageSid"), Body("MessageStatus")),
                (Body("MessageSid"), Body("SmsStatus")),
                (Body("CallSid"), Body("CallStatus"), Body("SequenceNumber")),
            ),
            type=FirstOf(Body("MessageStatus"), Body("SmsStatus"), Body("CallStatus")),
        ),
        media=("form", "json"),
    ),
    Row(
        name="paypal",
        title="PayPal",
        scheme=SignatureScheme(
            algorithm="rsa-sha256",
            headers=("paypal-transmission-sig",),
            content="{id}|{timestamp}|{constant:webhook_id}|{crc32}",
            encoding="base64",
            timestamp=Stamp(header="paypal-transmission-time", unit="iso"),
            id_header="paypal-transmission-id",
            required=(("paypal-auth-algo", "SHA256withRSA"),),
            key_form="rsa",
        ),
        reading=Reading(key=Body("id"), type=Body("event_type"), time=Body("create_time")),
        sent=(("paypal-cert-url", "https://api.sandbox.paypal.com/v1/notifications/certs/CERT-test"),),
    ),
    Row(
        name="x",
        title="X",
        scheme=_base64("x-twitter-webhooks-signature", mark="sha256="),
        reading=Reading(type=x_type),
        handshakes=(SignQuery("crc_token"),),
    ),
    Row(
        name="hookdeck",
        title="Hookdeck",
        scheme=_base64("x-hookdeck-signature", "x-hookdeck-signature-2"),
        reading=Reading(),
        media=("json", "form", "other"),
    ),
    Row(
        name="cloudevents",
        title="CloudEvents",
        scheme=TokenScheme("authorization", "Bearer"),
        reading=Reading(cloudevents=True),
        handshakes=(AllowOrigin(),),
        media=("json", "form", "other"),
        accepted_status=202,
    ),
    Row(
        name="bearer",
        title="Bearer token",
        scheme=TokenScheme("authorization", "Bearer"),
        reading=Reading(),
        media=("json", "form", "other"),
    ),
    Row(
        name="basic",
        title="Basic authentication",
        scheme=TokenScheme("authorization", "Basic", "basic"),
        reading=Reading(),
        media=("json", "form", "other"),
    ),
    Row(
        name="api_key",
        title="Key in a header",
        scheme=TokenScheme("x-api-key"),
        reading=Reading(),
        media=("json", "form", "other"),
    ),
    Row(
        name="hmac",
        title="HMAC in a header",
        scheme=SignatureScheme(algorithm="hmac-sha256", headers=("x-signature",)),
        reading=Reading(),
        media=("json", "form", "other"),
    ),
    Row(
        name="custom",
        title="A function of yours",
        scheme=OpenScheme(),
        reading=Reading(),
        media=("json", "form", "other"),
    ),
    Row(
        name="unverified",
        title="Nothing",
        scheme=OpenScheme(),
        reading=Reading(),
        media=("json", "form", "other"),
    ),
)

ROWS = {row.name: row for row in ALL}
"""Every provider by its name."""

"""Providers with secrets: `providers.stripe(secret=...)`. Each function is one row of `rows.py` with its arguments.

Every secret may be one text, several (`Secret(value, name, expires_at)` where one is going), or a function of the
request that returns them, sync or async. An empty or unfit secret is refused here, before the first request.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, Unpack

from dbos_events.connect import Clock, SystemClock, logger
from dbos_events.errors import ConfigurationError
from dbos_events_webhooks.algorithms import Encoding
from dbos_events_webhooks.certificates import Certificates
from dbos_events_webhooks.changes import Options, changed_row, changed_scheme
from dbos_events_webhooks.handshakes import AllowOrigin, Subscribe, verify_tokens
from dbos_events_webhooks.judging import Judge
from dbos_events_webhooks.places import Body, Header
from dbos_events_webhooks.provider import Provider
from dbos_events_webhooks.rows import ROWS, STANDARD_ED25519, Row
from dbos_events_webhooks.schemes import TokenScheme
from dbos_events_webhooks.secret import NoSecret, Secrets, key_source, listed
from dbos_events_webhooks.signature import SignatureScheme, Stamp, Style

PAYPAL_HOSTS = ("api.paypal.com",)
PAYPAL_SANDBOX_HOSTS = ("api.sandbox.paypal.com",)
PAYPAL_OWNER = "paypal.com"


def standard_webhooks(
    *, secret: Secrets | None = None, public_key: Secrets | None = None, **options: Unpack[Options]
) -> Provider:
    """Standard Webhooks: `webhook-id`, `webhook-timestamp`, `webhook-signature`.

    Args:
        secret: `whsec_...`, for signatures `v1`.
        public_key: `whpk_...`, for signatures `v1a` (Ed25519) instead.
    """
    if (secret is None) == (public_key is None):
        raise ConfigurationError("Standard Webhooks needs secret=, or public_key=, and not both.")
    row = ROWS["standard_webhooks"]
    if public_key is None:
        return _provider(row, secret, options)
    return _provider(replace(row, scheme=STANDARD_ED25519), public_key, options)


def svix(*, secret: Secrets, **options: Unpack[Options]) -> Provider:
    """Svix, and who sends through it: `svix-*`, or `webhook-*`, and never some of each."""
    return _provider(ROWS["svix"], secret, options)


def stripe(*, secret: Secrets, **options: Unpack[Options]) -> Provider:
    """Stripe: `secret` is that of the endpoint, `whsec_...`."""
    return _provider(ROWS["stripe"], secret, options)


def github(*, secret: Secrets, **options: Unpack[Options]) -> Provider:
    """GitHub: the id of a delivery is outside the signature, so its events carry a `replay_guard`."""
    return _provider(ROWS["github"], secret, options)


def meta(
    *, app_secret: Secrets, verify_token: str | Sequence[str] | None = None, **options: Unpack[Options]
) -> Provider:
    """Meta: every change of every entry is an event.

    Args:
        app_secret: Of the app, in its basic settings.
        verify_token: What you enter where you subscribe. Without one, no subscription is confirmed.
    """
    tokens = () if verify_token is None else verify_tokens(verify_token)
    row = replace(ROWS["meta"], handshakes=(Subscribe(tokens),) if tokens else ())
    return _provider(row, app_secret, options)


def slack(*, signing_secret: Secrets, **options: Unpack[Options]) -> Provider:
    """Slack: events, commands and interactions. `url_verification` is answered once its signature is right."""
    return _provider(ROWS["slack"], signing_secret, options)


def shopify(*, secret: Secrets, **options: Unpack[Options]) -> Provider:
    """Shopify: `secret` is the client secret of the app. Ids and topics are outside the signature."""
    return _provider(ROWS["shopify"], secret, options)


def gitlab(*, signing_token: Secrets, **options: Unpack[Options]) -> Provider:
    """GitLab with a signing token, `whsec_...`."""
    return _provider(ROWS["gitlab"], signing_token, options)


def gitlab_token(*, token: Secrets, **options: Unpack[Options]) -> Provider:
    """GitLab with a secret token, which stands in a header. Nothing is signed; prefer a signing token."""
    return _provider(ROWS["gitlab_token"], token, options)


def square(*, signature_key: Secrets, public_url: str, **options: Unpack[Options]) -> Provider:
    """Square: `public_url` is the notification URL as it is registered there."""
    return _provider(_at_url(ROWS["square"], public_url), signature_key, options)


def zoom(*, secret_token: Secrets, **options: Unpack[Options]) -> Provider:
    """Zoom: `endpoint.url_validation` is answered once its signature is right."""
    return _provider(ROWS["zoom"], secret_token, options)


def sendgrid(*, public_key: Secrets, **options: Unpack[Options]) -> Provider:
    """SendGrid: every item of the array is an event."""
    return _provider(ROWS["sendgrid"], public_key, options)


def discord(*, public_key: Secrets, **options: Unpack[Options]) -> Provider:
    """Discord's interactions: a PING is answered once its signature is right."""
    return _provider(ROWS["discord"], public_key, options)


def discord_events(*, public_key: Secrets, **options: Unpack[Options]) -> Provider:
    """Discord's webhook events: a PING is answered once its signature is right."""
    return _provider(ROWS["discord_events"], public_key, options)


def ms_graph(*, client_state: Secrets, **options: Unpack[Options]) -> Provider:
    """Microsoft Graph: every notification holds the `clientState` of its subscription. Nothing is signed.

    The tokens of rich notifications (`validationTokens`) are not looked at.
    """
    return _provider(ROWS["ms_graph"], client_state, options)


def twilio(
    *,
    public_url: str,
    auth_token: Secrets | None = None,
    shared_key: Secrets | None = None,
    **options: Unpack[Options],
) -> Provider:
    """Twilio: the URL and the fields of the form are signed.

    Args:
        public_url: The URL that Twilio calls, without its query; `https://host` where the path is the request's.
        auth_token: Of the account, for signatures with SHA-1.
        shared_key: For signatures with SHA-256 instead. The choice is made here, never by a header.
    """
    if (auth_token is None) == (shared_key is None):
        raise ConfigurationError("Twilio needs auth_token=, or shared_key=, and not both.")
    row = _at_url(ROWS["twilio"], public_url)
    if shared_key is not None:
        row = changed_scheme(row, algorithm="hmac-sha256")
    return _provider(row, auth_token if shared_key is None else shared_key, options)


def paypal(
    *,
    webhook_id: str,
    certificate: Callable[[str], Any],
    roots: bytes | None = None,
    sandbox: bool = False,
    **options: Unpack[Options],
) -> Provider:
    """PayPal: signed with the key of a certificate whose address the request names.

    The signature covers a checksum (CRC-32) of the body only, so events carry a `replay_guard`, and the id of the
    transmission is part of it.

    Args:
        webhook_id: The id of the webhook in the developer dashboard.
        certificate: A function (sync or async) that gets a URL at api.paypal.com and returns PEM. It is called for
            a certificate that is not known yet; it follows no redirect, and bounds time and size.
        roots: The authorities that may vouch for the certificate, as PEM; by default those of this machine.
        sandbox: Take events of the sandbox instead.
    """
    if not str(webhook_id or "").strip():
        raise ConfigurationError("webhook_id is empty. The developer dashboard shows it with the webhook.")
    hosts = PAYPAL_SANDBOX_HOSTS if sandbox else PAYPAL_HOSTS
    address = f"https://{hosts[0]}/v1/notifications/certs/CERT-test"
    row = changed_scheme(ROWS["paypal"], constants={"webhook_id": webhook_id})
    row = changed_row(replace(row, sent=(("paypal-cert-url", address),)), options)
    source = Certificates(certificate, "paypal-cert-url", hosts, PAYPAL_OWNER, roots)
    return Provider(row, source, clock=_clock(options))


def x(*, consumer_secret: Secrets, **options: Unpack[Options]) -> Provider:
    """X: a `crc_token` is answered when it is one, and nothing that it could be is taken for an event."""
    return _provider(ROWS["x"], consumer_secret, options)


def hookdeck(*, secret: Secrets, **options: Unpack[Options]) -> Provider:
    """Hookdeck, which forwards what others send and signs it anew; give `key=` the place of the sender's id."""
    return _provider(ROWS["hookdeck"], secret, options)


def cloudevents(
    *,
    token: Secrets,
    allowed_origins: Sequence[str] = (),
    allowed_rate: int | None = None,
    **options: Unpack[Options],
) -> Provider:
    """CloudEvents in binary, structured and batch mode, from a sender with a bearer token.

    Args:
        token: What the sender puts into `Authorization: Bearer`.
        allowed_origins: Senders whose OPTIONS request is answered; `*` is every one. A callback URL is not called.
        allowed_rate: Requests a minute that a sender is allowed; without one, it is not limited.
    """
    origins = tuple(origin.lower() for origin in allowed_origins)
    row = replace(ROWS["cloudevents"], handshakes=(AllowOrigin(origins, allowed_rate),) if origins else ())
    return _provider(row, token, options)


def bearer(*, token: Secrets, **options: Unpack[Options]) -> Provider:
    """A token in `Authorization: Bearer`. Nothing is signed."""
    return _provider(ROWS["bearer"], token, options)


def basic(*, credentials: Secrets, **options: Unpack[Options]) -> Provider:
    """User and password, `user:password`, in `Authorization: Basic`. Nothing is signed."""
    return _provider(ROWS["basic"], credentials, options)


def api_key(*, key_value: Secrets, header: str = "x-api-key", **options: Unpack[Options]) -> Provider:
    """A key in a header of its own. Nothing is signed."""
    row = replace(ROWS["api_key"], scheme=TokenScheme(_header(header)))
    return _provider(row, key_value, options)


def hmac(  # noqa: PLR0913 - what differs between senders that sign
    *,
    secret: Secrets,
    header: str | Sequence[str],
    algorithm: str = "sha256",
    encoding: Encoding = "hex",
    prefix: str = "",
    signed: str = "{body}",
    timestamp: Header | Body | Stamp | None = None,
    id_header: str | None = None,
    style: Style = "plain",
    public_url: str | None = None,
    **options: Unpack[Options],
) -> Provider:
    """Any sender that signs with HMAC.

    Args:
        secret: What both sides have.
        header: The header of the signature, or several of which one is enough.
        algorithm: sha1, sha256, sha384 or sha512.
        encoding: hex, base64 or base64url.
        prefix: What stands before the signature, as `sha256=`; with style `pairs` the name of its pair.
        signed: What is signed, as `{timestamp}.{body}`; also `{id}`, `{url}`, `{method}`, `{header:name}`.
        timestamp: Where the time of the signature stands; `Stamp(pair="t")` is in the signature's own header.
        id_header: The header of `{id}`.
        style: `plain`; `list` for several signatures parted by spaces; `pairs` for `t=..,v1=..`.
        public_url: What stands for `{url}`: the URL that the sender calls, without its query.
    """
    if algorithm not in ("sha1", "sha256", "sha384", "sha512"):
        raise ConfigurationError(f"The algorithm {algorithm!r} is not sha1, sha256, sha384 or sha512.")
    scheme = SignatureScheme(
        algorithm=f"hmac-{algorithm}",  # type: ignore[arg-type]
        headers=tuple(_header(each) for each in ([header] if isinstance(header, str) else header)),
        content=signed,
        style=style,
        mark=prefix,
        encoding=encoding,
        timestamp=_stamp(timestamp),
        id_header=None if id_header is None else _header(id_header),
        public_url=public_url,
    )
    return _provider(replace(ROWS["hmac"], scheme=scheme), secret, options)


def custom(*, verify: Judge, **options: Unpack[Options]) -> Provider:
    """A function of yours (sync or async) judges: True accepts a request. All else, also what it raises, refuses it."""
    if not callable(verify):
        raise ConfigurationError(
            "verify= is a function of the request that returns True. To take in what everybody sends, use "
            "unverified(insecure_no_verify=True)."
        )
    row = changed_row(ROWS["custom"], options)
    return Provider(row, NoSecret(), judge=verify, clock=_clock(options))


def unverified(*, insecure_no_verify: bool, **options: Unpack[Options]) -> Provider:
    """Takes everything in, from everybody. For networks that nobody else reaches; a warning says so."""
    if insecure_no_verify is not True:
        raise ConfigurationError(
            "Without verification everybody can send events. Say insecure_no_verify=True."
        )
    logger.warning(
        "A webhook endpoint verifies nothing (insecure_no_verify=True): everybody can send it events."
    )
    return Provider(changed_row(ROWS["unverified"], options), NoSecret(), clock=_clock(options))


# ---------------------------------------------------------------- rows with arguments


def _provider(row: Row, secrets: Secrets | None, options: Options) -> Provider:
    if secrets is None:
        raise ConfigurationError(
            f"{row.title}: the secret is None. Is the environment variable set that it comes from?"
        )
    changed = changed_row(row, options)
    source = key_source(secrets, changed.scheme.key_form)
    signing = () if callable(secrets) else tuple(listed(secrets))
    return Provider(changed, source, signing, clock=_clock(options))


def _clock(options: Options) -> Clock:
    return options.get("clock") or SystemClock()


def _at_url(row: Row, public_url: str) -> Row:
    return changed_scheme(row, public_url=public_url)


def _header(name: str) -> str:
    if not name or not name.isascii() or not name.replace("-", "").replace("_", "").isalnum():
        raise ConfigurationError(f"{name!r} cannot be the name of a header.")
    return name.lower()


def _stamp(given: Header | Body | Stamp | None) -> Stamp | None:
    if isinstance(given, Header):
        return Stamp(header=_header(given.name), unit=given.unit)
    if isinstance(given, Body):
        return Stamp(body=".".join(given.names), unit=given.unit)
    return given

"""Keys that come as a certificate whose address stands in the request, as PayPal's do."""

from __future__ import annotations

import re
import threading
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

from dbos_events.errors import ConfigurationError
from dbos_events_webhooks import asymmetric
from dbos_events_webhooks.outcome import Reason, SecretUse, refuse
from dbos_events_webhooks.request import WebhookRequest
from dbos_events_webhooks.secret import Ask, Asking, Key

MAX_CERTIFICATE_BYTES = 64 * 1024
MAX_KEPT = 16
NEW_PER_MINUTE = 10
"""Whoever makes addresses up can make us ask for few of them; those that are kept are not asked for."""

_PATH = re.compile(r"/v1/notifications/certs/[A-Za-z0-9_\-]{1,128}")


class Certificates:
    """Certificates of one owner, from fixed hosts only. No address from a request is ever called but there.

    `fetch` (sync or async) gets the address and returns the certificate, and those that vouch for it, as PEM.
    It follows no redirect, and bounds time and size.
    """

    def __init__(
        self,
        fetch: Callable[[str], Any],
        header: str,
        hosts: tuple[str, ...],
        owner: str,
        roots: bytes | None,
    ) -> None:
        if not callable(fetch):
            raise ConfigurationError(
                "certificate= is a function that gets a URL and returns a certificate as PEM."
            )
        self._fetch = fetch
        self._header = header
        self._hosts = hosts
        self._owner = owner
        self._store = asymmetric.roots_store(asymmetric.system_roots() if roots is None else roots)
        self._kept: OrderedDict[str, tuple[Any, int]] = OrderedDict()
        self._asked: list[int] = []
        self._lock = threading.Lock()

    def keys(self, request: WebhookRequest, now_ms: int) -> Asking:
        """The key of the certificate that the request names."""
        url = self._address(request)
        known = self._known(url, now_ms)
        if known is None:
            self._count(now_ms)
            pem = yield from self._fetched(url)
            try:
                known = asymmetric.certified_rsa(pem, self._store, self._owner, now_ms)
            except asymmetric.Untrusted as error:
                raise refuse(Reason.UNTRUSTED_CERTIFICATE, str(error)) from None
            self._keep(url, known)
        return [Key(known[0], SecretUse(url.rpartition("/")[2], 0))]

    def _address(self, request: WebhookRequest) -> str:
        url = request.one(self._header) or ""
        for host in self._hosts:
            prefix = f"https://{host}"
            if url.startswith(f"{prefix}/") and _PATH.fullmatch(url.removeprefix(prefix)):
                return url
        raise refuse(
            Reason.UNTRUSTED_CERTIFICATE,
            f"The header {self._header!r} is not the address of a certificate at {' or '.join(self._hosts)}.",
        )

    def _known(self, url: str, now_ms: int) -> tuple[Any, int] | None:
        with self._lock:
            known = self._kept.get(url)
            if known is None or known[1] <= now_ms:
                self._kept.pop(url, None)
                return None
            self._kept.move_to_end(url)
            return known

    def _keep(self, url: str, known: tuple[Any, int]) -> None:
        with self._lock:
            self._kept[url] = known
            while len(self._kept) > MAX_KEPT:
                self._kept.popitem(last=False)

    def _count(self, now_ms: int) -> None:
        with self._lock:
            self._asked = [at for at in self._asked if abs(now_ms - at) < 60_000]
            if len(self._asked) >= NEW_PER_MINUTE:
                raise refuse(
                    Reason.CERTIFICATE_UNAVAILABLE,
                    f"Requests have named over {NEW_PER_MINUTE} new certificates within a minute.",
                )
            self._asked.append(now_ms)

    def _fetched(self, url: str) -> Any:
        try:
            pem = yield Ask(self._fetch, url)
        except Exception as error:
            raise refuse(
                Reason.CERTIFICATE_UNAVAILABLE, f"Fetching the certificate raised {type(error).__name__}."
            ) from error
        if isinstance(pem, str):
            pem = pem.encode("utf-8", "replace")
        if not isinstance(pem, bytes) or len(pem) > MAX_CERTIFICATE_BYTES:
            raise refuse(Reason.CERTIFICATE_UNAVAILABLE, "What was fetched is not PEM, or too large for it.")
        return pem

    def __repr__(self) -> str:
        return f"Certificates(from {' or '.join(self._hosts)})"

"""One path: whose requests come there, and which handlers their events start."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence

from dbos_events.connect import PushedEvent, Recurring
from dbos_events.errors import RegistrationError
from dbos_events.model.dataclass import dataclass, field
from dbos_events_webhooks.identity import DIGEST, tidy
from dbos_events_webhooks.outcome import Refused, SecretUse, Verified, VerifiedEvent
from dbos_events_webhooks.provider import Provider
from dbos_events_webhooks.receiving.rates import RateLimit, Rates
from dbos_events_webhooks.receiving.replies import Reply
from dbos_events_webhooks.request import WebhookRequest
from dbos_events_webhooks.stored import ABOUT, Pairs, about, form_of, kept_headers

_PLAIN = re.compile(r"[\x20-\x7e]{1,255}")
"""A content type that can be kept as text; another one has been read already, and says nothing to anybody."""

MOST_SAID = 200
"""Things that the log is told of one endpoint."""


@dataclass(eq=False)
class Endpoint:
    """A path with its provider (`given` before it was changed for this path) and its consumers.

    `counts` has what became of requests (`refused:REASON`, `answered`) and events (`accepted`, `duplicate`, ...) in
    this process.
    """

    path: str
    provider: Provider
    given: Provider
    retired: bool = False
    reply: Reply = None
    rates: Rates | None = None
    rejecting: frozenset[str] = frozenset()
    """Consumers whose content has to fit before it is taken in."""
    consumers: list[str] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)
    _refusals: dict[str, Recurring] = field(default_factory=dict)

    def pushed(self, request: WebhookRequest, verified: Verified) -> list[PushedEvent]:
        """One event for each consumer and each event that the request holds, all for one transaction."""
        if verified.plain is not None:
            request = request.with_body(verified.plain)
        row = self.provider.row
        received = self.provider.clock.now_ms()
        kept = kept_headers(request, row.scheme.single)
        content_type = request.one("content-type") or ""
        made: list[PushedEvent] = []
        for event in verified.events:
            said = about(
                event,
                endpoint=self.path,
                provider=row.name,
                path_params=request.path_params,
                form=form_of(event, request, row.media[0], row.reading.form_json),
            )
            headers: Pairs = (*kept, (ABOUT, said))
            name = self._name(event, request.path_params)
            made += [
                PushedEvent(
                    consumer=consumer,
                    event_id=name,
                    payload=event.raw,
                    fingerprint=bytes.fromhex(event.fingerprint),
                    received_at=received,
                    headers=headers,
                    content_type=content_type if _PLAIN.fullmatch(content_type) else None,
                )
                for consumer in self.consumers
            ]
        return made

    def say(self, reply: Reply, rate: RateLimit | None) -> None:
        """What one handler of the path says of all of it.

        Raises:
            RegistrationError: Another one has said it already.
        """
        if (reply is not None and self.reply is not None) or (rate is not None and self.rates is not None):
            raise RegistrationError(
                f"Two handlers of {self.path} have a reply= or a rate=, which belong to the path. Say them once."
            )
        if rate is not None and not isinstance(rate, RateLimit):
            raise RegistrationError(f"rate of {self.path} is a RateLimit, and not {type(rate).__name__}.")
        if reply is not None:
            self.reply = reply
        if rate is not None:
            self.rates = Rates(rate)

    def _name(self, event: VerifiedEvent, path_params: Mapping[str, str]) -> str:
        """What tells the event from all others: with the parameters of the path, so that tenants share no ids."""
        own = identity_of(event, stamped=getattr(self.provider.row.scheme, "timestamp", None) is not None)
        if not path_params:
            return own
        return tidy([*(path_params[name] for name in sorted(path_params)), own])

    def refused(self, refused: Refused) -> None:
        """Count it, and say it in the log, once and then at growing intervals."""
        self.counts[f"refused:{refused.reason}"] += 1
        said = self._refusals.setdefault(refused.reason, Recurring(first_pause=60.0))
        said.say("A request to %s was refused: %s (%s)", self.path, refused.reason, refused.detail)

    def used(self, secret: SecretUse | None) -> None:
        """Say when a secret other than the first is still used: whoever replaces one wants to know."""
        if secret is None or secret.index == 0:
            return
        self.counts["older-secret"] += 1
        if len(self._refusals) >= MOST_SAID and f"older:{secret.name}" not in self._refusals:
            return  # a secret for each of many tenants; `uses` of the provider knows more
        said = self._refusals.setdefault(
            f"older:{secret.name}", Recurring(first_pause=3600.0, longest_pause=86400.0)
        )
        said.say("Requests to %s are still signed with the older secret %r.", self.path, secret.name)

    def count(self, kinds: Sequence[str]) -> None:
        """Count what became of events."""
        self.counts.update(kinds)


def identity_of(event: VerifiedEvent, *, stamped: bool) -> str:
    """The id that deduplicates.

    The sender's id counts where it is signed. Where it is not, whoever has captured one request could send it again
    under another id, or use up the id of a request to come; there the digest of what was signed tells events apart.
    A signature with a time changes with each retry; the digest of the content does not.
    """
    if event.id_trusted or event.replay_guard is None:
        return event.id
    if not stamped:
        return f"{DIGEST}{event.replay_guard}"
    item = event.replay_guard.partition("/")[2]
    return f"{DIGEST}{event.fingerprint}" + (f"/{item}" if item else "")

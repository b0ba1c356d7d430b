"""Secrets: several at once for a rotation, each with a name and an end, none of them in any text."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Sequence
from datetime import datetime
from typing import Any

from dbos_events.errors import ConfigurationError
from dbos_events.model.dataclass import dataclass, field
from dbos_events_webhooks.keys import KeyForm, parse_key
from dbos_events_webhooks.outcome import Reason, SecretUse, refuse
from dbos_events_webhooks.request import WebhookRequest

MAX_SECRETS = 16
MAX_REMEMBERED = 1024


class Secret:
    """One secret, with a name for logs and the time at which it stops being accepted.

    A rotation: put the new secret first and give the old one an `expires_at`. What is signed here is signed
    with the first secret that has not expired. Neither its `repr` nor any error shows the value; it is no dataclass,
    so that no printer of fields does.

    Raises:
        ConfigurationError: The value is neither text nor bytes, or `expires_at` has no time zone.
    """

    __slots__ = ("_value", "expires_at", "name")

    def __init__(self, value: str | bytes, name: str = "", expires_at: datetime | None = None) -> None:
        if not isinstance(value, (str, bytes)):
            raise ConfigurationError(
                f"A webhook secret is text or bytes, but this is {value.__class__.__name__}. "
                "Is the environment variable set that it comes from?"
            )
        if expires_at is not None and expires_at.tzinfo is None:
            raise ConfigurationError(
                f"The secret {name or 'without a name'!r} expires at a time without a time zone. "
                "Give one: datetime(2027, 1, 1, tzinfo=timezone.utc)."
            )
        self._value = value
        self.name = name
        self.expires_at = expires_at

    def reveal(self) -> str | bytes:
        """The value itself."""
        return self._value

    def expired(self, now_ms: int) -> bool:
        """Whether it is accepted no longer."""
        return self.expires_at is not None and self.expires_at.timestamp() * 1000 <= now_ms

    def __repr__(self) -> str:
        return f"Secret('***', name={self.name!r}, expires_at={self.expires_at!r})"


OneSecret = str | bytes | Secret
SecretLookup = Callable[[WebhookRequest], Any]
Secrets = OneSecret | Sequence[OneSecret] | SecretLookup
"""A secret, several, or a function (sync or async) of the request that returns them."""


@dataclass(frozen=True, slots=True)
class Key:
    """A secret in the form that its algorithm takes."""

    material: Any = field(repr=False)
    use: SecretUse
    expired: bool = False


@dataclass(frozen=True, slots=True)
class Ask:
    """Something that a caller's function is asked; on a loop it may be awaited."""

    function: Callable[..., Any]
    argument: Any


Asking = Generator[Ask, Any, list[Key]]


class Ring:
    """The secrets of an endpoint, parsed once, when the program starts."""

    def __init__(self, secrets: OneSecret | Iterable[OneSecret], form: KeyForm) -> None:
        self._keys = [(secret, parse_key(secret.reveal(), form)) for secret in listed(secrets)]

    def keys(self, request: WebhookRequest, now_ms: int) -> Asking:
        """Every key, those that have expired too: which of them matched is worth knowing."""
        yield from ()
        return [
            Key(material, SecretUse(name_of(secret, index), index, secret.expires_at), secret.expired(now_ms))
            for index, (secret, material) in enumerate(self._keys)
        ]

    def __repr__(self) -> str:
        return f"Ring({len(self._keys)} secrets)"


@dataclass(frozen=True, slots=True)
class Lookup:
    """Secrets that a function finds for a request, such as those of a tenant in its path."""

    function: SecretLookup
    form: KeyForm

    def keys(self, request: WebhookRequest, now_ms: int) -> Asking:
        """What the function finds; `LookupError` means that there is nobody of that name.

        Whatever else it raises is no fault of the request, which gets a 503 and comes again.
        """
        try:
            found = yield Ask(self.function, request)
            return (yield from Ring(found, self.form).keys(request, now_ms)) if found else []
        except LookupError:
            return []
        except ConfigurationError as error:
            raise refuse(Reason.SECRETS_UNAVAILABLE, f"The secrets that were found: {error}") from None
        except Exception as error:
            raise refuse(
                Reason.SECRETS_UNAVAILABLE,
                f"The function that looks secrets up raised {type(error).__name__}. It raises LookupError, or "
                "returns nothing, for what it does not know.",
            ) from error


class NoSecret:
    """For what has no secret of its own."""

    def keys(self, request: WebhookRequest, now_ms: int) -> Asking:
        yield from ()
        return [Key(None, SecretUse("none", 0))]


class SecretUses:
    """When each secret was last used, in this process: one that is no longer used may go."""

    def __init__(self) -> None:
        self._last: dict[str, int] = {}

    def note(self, use: SecretUse, now_ms: int) -> None:
        if use.name in self._last or len(self._last) < MAX_REMEMBERED:
            self._last[use.name] = now_ms

    def last_used_ms(self) -> dict[str, int]:
        """Milliseconds since 1970 by the secret's name; a secret that was not used is not in it."""
        return dict(self._last)

    def __repr__(self) -> str:
        return f"SecretUses({len(self._last)})"


def key_source(secrets: Secrets, form: KeyForm) -> Ring | Lookup:
    """Where an endpoint's keys come from.

    Raises:
        ConfigurationError: There is no secret, or one that cannot be one of this provider.
    """
    if callable(secrets):
        return Lookup(secrets, form)
    return Ring(secrets, form)


def listed(secrets: OneSecret | Iterable[OneSecret]) -> list[Secret]:
    """One or several secrets as a list."""
    if secrets is None:
        raise ConfigurationError(
            "The webhook secret is None. Is the environment variable set that it comes from?"
        )
    several = [secrets] if isinstance(secrets, (str, bytes, Secret)) else list(secrets)
    if not several:
        raise ConfigurationError("There is no webhook secret: the list is empty. Give at least one.")
    if len(several) > MAX_SECRETS:
        raise ConfigurationError(
            f"There are {len(several)} webhook secrets; {MAX_SECRETS} are the most. Remove those that are no "
            "longer used: `secret_uses` of the provider tells when each was."
        )
    made = [each if isinstance(each, Secret) else Secret(each) for each in several]
    names = [name_of(each, index) for index, each in enumerate(made)]
    if len(set(names)) < len(names):
        raise ConfigurationError(f"Two webhook secrets have the same name: {', '.join(names)}.")
    return made


def name_of(secret: Secret, index: int) -> str:
    """What a secret is called where its value must not be shown."""
    return secret.name or f"secret {index + 1}"

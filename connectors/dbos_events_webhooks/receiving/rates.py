"""How many requests an endpoint takes in, over all and for each key."""

from __future__ import annotations

import inspect
import threading
from collections import OrderedDict
from collections.abc import Callable

from dbos_events.connect import Clock, Recurring
from dbos_events.errors import ConfigurationError
from dbos_events.model.dataclass import dataclass
from dbos_events_webhooks.request import WebhookRequest

MOST_KEYS = 10_000
"""Keys whose allowance is remembered; the one that was asked for the longest time ago is forgotten first."""


@dataclass(frozen=True, slots=True)
class RateLimit:
    """So many requests in so many seconds are taken in by each process; the others get 429 with `Retry-After`.

    Genuine requests count only: nobody uses up the allowance of a sender without its secret. A pause lets so many
    come at once as `requests` says.

    Args:
        requests: How many.
        per_seconds: In which time.
        key: What has an allowance of its own, as a function of the request: `lambda r: r.path_params["tenant"]`. None:
            the endpoint has one. Requests for which it fails share that one.

    Raises:
        ConfigurationError: A number is not above 0, or the key is not a function, or async.
    """

    requests: int
    per_seconds: float = 1.0
    key: Callable[[WebhookRequest], str | bytes | int | None] | None = None

    def __post_init__(self) -> None:
        for name in ("requests", "per_seconds"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value < 1e9:
                raise ConfigurationError(f"RateLimit: {name} is {value!r}. It has to be a number above 0.")
        if self.requests < 1:
            raise ConfigurationError(f"RateLimit: requests is {self.requests!r}. It has to be at least 1.")
        if self.key is not None and not callable(self.key):
            raise ConfigurationError("RateLimit: key is a function of the request.")
        if inspect.iscoroutinefunction(self.key):
            raise ConfigurationError(
                "RateLimit: key is a function that is not async: it reads the request only."
            )


class Rates:
    """The allowances of one endpoint. Any number of threads and loops may ask."""

    def __init__(self, limit: RateLimit) -> None:
        self._limit = limit
        self._pace = limit.requests / limit.per_seconds
        self._lock = threading.Lock()
        self._left: OrderedDict[object, tuple[float, float]] = OrderedDict()
        self._trouble = Recurring()

    def seconds(self, request: WebhookRequest, clock: Clock) -> float:
        """Take one from the allowance: 0 where there was one, else after how long there will be."""
        key = self._key_of(request)
        now = clock.monotonic()
        with self._lock:
            left, at = self._left.pop(key, (float(self._limit.requests), now))
            left = min(float(self._limit.requests), left + max(0.0, now - at) * self._pace)
            wait = 0.0 if left >= 1.0 else (1.0 - left) / self._pace
            self._left[key] = (left if wait else left - 1.0, now)
            if len(self._left) > MOST_KEYS:
                self._left.popitem(last=False)
        return wait

    def _key_of(self, request: WebhookRequest) -> object:
        """What has the allowance. A function that fails turns no sender away, and lets none in without a limit."""
        if self._limit.key is None:
            return None
        try:
            key: object = self._limit.key(request)
            if inspect.iscoroutine(key):
                key.close()
            if key is not None and not isinstance(key, (str, bytes, int)):
                raise TypeError(f"It returned {type(key).__name__}, and not text.")  # noqa: TRY301
        except (Exception, SystemExit) as error:  # noqa: BLE001 - whatever the user's function raises
            self._trouble.say(
                "The key of a RateLimit failed; requests for which it fails share one allowance: %s: %s",
                type(error).__name__,
                error,
            )
            return None
        return key

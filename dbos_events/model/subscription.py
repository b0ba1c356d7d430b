"""What a consumer subscribes to: topics by name, and patterns, which begin with `^`."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterable


def is_pattern(subscription: str) -> bool:
    """Whether it stands for all topics that fit it."""
    return subscription.startswith("^")


def fits(subscription: str, topic: str) -> bool:
    """Whether the topic belongs to it. A pattern need not fit to the end of the name."""
    if not is_pattern(subscription):
        return subscription == topic
    return compiled(subscription).match(topic) is not None


def covers(subscriptions: Iterable[str], topic: str) -> bool:
    """Whether the topic belongs to any of them."""
    return any(fits(subscription, topic) for subscription in subscriptions)


def shared(one: Iterable[str], other: Iterable[str], known: Iterable[str]) -> list[str]:
    """What both subscribe to, among the names that they give, and the topics that are `known`."""
    one, other = tuple(one), tuple(other)
    names = {name for name in (*one, *other, *known) if not is_pattern(name)}
    both = {name for name in names if covers(one, name) and covers(other, name)}
    return sorted(both | {pattern for pattern in one if is_pattern(pattern) and pattern in other})


def compiled(pattern: str) -> re.Pattern[str]:
    """The pattern as Python reads it. Raises re.error."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # `[[:alpha:]]` means more to the broker's client than to us
        return re.compile(pattern)

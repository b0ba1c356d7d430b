"""The check of a consumer's `retries`."""

from __future__ import annotations

from dbos_events.errors import RegistrationError
from dbos_events.model.event import Retry


def check_retries(name: str, retries: Retry | None) -> None:
    """Raise `RegistrationError` for retries that could not be kept, with what to write instead."""
    if retries is None:
        return
    if not isinstance(retries, Retry):
        raise RegistrationError(f"Consumer {name!r}: retries must be a Retry(...), not {retries!r}.")
    wrong = {
        "max_attempts counts the first attempt too, so it is at least 1": retries.max_attempts < 1,
        "interval_seconds and max_interval_seconds cannot be negative": min(
            retries.interval_seconds, retries.max_interval_seconds
        )
        < 0,
        "backoff_rate is a factor of at least 1": retries.backoff_rate < 1,
        "jitter is a share of the pause, from 0 to 1": not 0 <= retries.jitter <= 1,
        "retry_on is a tuple of exception classes, such as (OSError, TimeoutError)": not _are_classes(
            retries.retry_on
        ),
    }
    for what, is_wrong in wrong.items():
        if is_wrong:
            raise RegistrationError(f"Consumer {name!r}: {what}; it got {retries}.")


def _are_classes(given: object) -> bool:
    return isinstance(given, tuple) and all(
        isinstance(one, type) and issubclass(one, BaseException) for one in given
    )

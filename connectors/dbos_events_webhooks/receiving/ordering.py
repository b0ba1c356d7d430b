"""What events are ordered by: a place in the request, or a function."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from dbos_events.errors import RegistrationError
from dbos_events_webhooks.event import WebhookEvent
from dbos_events_webhooks.identity import text_of, tidy
from dbos_events_webhooks.places import MISSING, Body, FirstOf, Header, Place, found


def ordering_of(path: str, place: Place) -> Callable[[Any], Any]:
    """A function of the event, whose answer is the lane; None is none.

    Raises:
        RegistrationError: The place cannot be one.
    """
    if isinstance(place, (Header, Body, FirstOf, tuple)):

        def lane(event: WebhookEvent[Any]) -> str | None:
            parts = _at(event, place)
            return None if parts is None else tidy(parts)

        return lane
    if not callable(place):
        raise RegistrationError(
            f"ordering_key of {path} is a place such as Body('data.account_id') or Header('x-account'), or a function "
            f"of the event, and not {type(place).__name__}."
        )
    return place


def _at(event: WebhookEvent[Any], place: Place) -> Sequence[str] | None:
    if isinstance(place, FirstOf):
        return next((parts for inner in place.places if (parts := _at(event, inner)) is not None), None)
    if isinstance(place, tuple):
        several = [_at(event, inner) for inner in place]
        return None if None in several else [text for parts in several if parts for text in parts]
    if isinstance(place, Header):
        text = event.headers.get(place.name.lower())
        return [text] if text else None
    if isinstance(place, Body):
        value = found(event.data, place)
        text = None if value is MISSING else text_of(value)
        return None if text is None else [text]
    return None

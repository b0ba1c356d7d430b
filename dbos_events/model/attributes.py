"""Attributes of workflows, as they are stored."""

from __future__ import annotations

import json
from collections.abc import Mapping

from dbos_events.errors import DBOSException


def attributes_text(attributes: object) -> str:
    """Attributes as they are stored.

    Raises:
        DBOSException: They are not a mapping by text, or JSON or the database cannot hold them.
    """
    if not isinstance(attributes, Mapping) or not all(isinstance(name, str) for name in attributes):
        raise DBOSException(f"Attributes are a mapping whose keys are text, not {attributes!r}.")
    try:
        text = json.dumps(dict(attributes), ensure_ascii=False, allow_nan=False)
        text.encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise DBOSException(f"Attributes hold what JSON can hold: {error}.") from error
    if "\\u0000" in text:
        raise DBOSException("Attributes cannot hold a NUL character.")
    return text

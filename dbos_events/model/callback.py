"""What somebody outside has answered a workflow by its callback."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

from dbos_events.errors import UndecodablePayload


@dataclass(frozen=True, slots=True)
class CallbackAnswer:
    """One answer; its `repr` shows no content."""

    body: bytes = field(repr=False)
    content_type: str | None = None

    @property
    def data(self) -> Any:
        """The body as JSON.

        Raises:
            UndecodablePayload: It is not JSON; `body` has the bytes.
        """
        try:
            return json.loads(self.body)
        except (ValueError, RecursionError):
            raise UndecodablePayload("The answer of a callback is not JSON.") from None

"""What somebody outside has answered a workflow by its callback."""

from __future__ import annotations

import json
from typing import Any

from dbos_events.errors import UndecodablePayload
from dbos_events.model.dataclass import dataclass, field


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

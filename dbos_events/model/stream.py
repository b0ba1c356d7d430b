"""What readers of streams get beside values."""

from __future__ import annotations

from typing import Literal, TypeAlias

from dbos_events.model.dataclass import dataclass

StreamMode: TypeAlias = Literal["all", "live", "committed"]
"""What a reader of a stream gets.

"all": every entry, in order, also of attempts of steps that failed, as DBOS Transact gives them. "live": the same, and a
`StreamReset` before the first entry of a new attempt. "committed": only entries of calls that have ended well, each once.
"""

MODES = ("all", "live", "committed")


@dataclass(frozen=True, slots=True)
class StreamReset:
    """A reader that is `live` gets it before the first entry of a new attempt of a call.

    What the call `step_id` has written at `offset` and later counts no more: drop it.
    """

    step_id: int
    offset: int

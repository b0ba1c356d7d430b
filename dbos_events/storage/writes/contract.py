"""What the committer asks of the storage."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from dbos_events.storage.line import Line
    from dbos_events.storage.writes.answers import Result
    from dbos_events.storage.writes.write import Write


class Batches(Protocol):
    """Writing batches (docs/protocol.md, rules 2 and 3)."""

    def write_batch(self, executor: int, writes: Sequence[Write]) -> list[Result]:
        """Write what runs have handed over in one transaction, fenced; answers in order.

        Safe to repeat after a lost commit answer: what is there already under the same token counts as written.
        Raises `ExecutorFenced` when the executor is dead, `BadWrite` when the database refuses a value (then nothing of
        the batch was written).
        """
        ...

    def open_line(self) -> Line | None:
        """A connection for `send_batch`; None where the database has none. Blocks until it stands.

        The caller owns it, closes it, and uses it from one thread at a time.
        """
        ...

    def send_batch(self, line: Line, executor: int, writes: Sequence[Write]) -> bool:
        """Begin what `write_batch` does, and do not wait; False for a batch that takes more than one call.

        `line.receive` tells when all of it is written. Where it raises instead, or this does, the batch must be written
        by `write_batch`, whatever has become of it: it may be written and its answer lost.
        """
        ...

"""Which records start a workflow: a consumer's `when`, asked while they are taken in.

What it says no to is counted in the transaction that moves the watermark. What it cannot judge is
taken in with the reason, so that no process calls its handler.
"""

from __future__ import annotations

from collections.abc import Callable
from contextvars import Context
from dataclasses import replace

from dbos_events.connect.source import Record
from dbos_events.errors import DBOSException, Quarantine, TryAgain, UndecodablePayload
from dbos_events.model.message_type import Message
from dbos_events.runtime.intake.batch import Formed, NamedRecord
from dbos_events.serialization import Codec, stored_error


def judged(
    formed: Formed,
    when: Callable[[Message], bool] | None,
    message_of: Callable[[Record], Message],
    codec: Codec,
    new_context: Callable[[], Context],
) -> Formed:
    """The batch without the records that `when` says no to, and with the reason for those that it fails on.

    Each record is judged in a context of its own: what `when` or a codec sets in it is not there for the next one.
    A record that the source could not read whole is refused without a question about it.
    """
    ranges = Ranges()
    kept: list[NamedRecord] = []
    refused: dict[str, DBOSException] = {}
    for accepted in formed.records:
        wanted = True
        try:
            if accepted.record.unreadable:
                raise _unread(accepted.record)
            if when is not None:
                wanted = new_context().run(when, message_of(accepted.record))
        except (Quarantine, TryAgain) as error:
            refused[accepted.workflow_id] = error
        if wanted:
            kept.append(accepted)
        else:
            ranges.add(accepted.record.partition, accepted.record.offset)
    notes = {id_: new_context().run(stored_error, codec, error) for id_, error in refused.items()}
    return replace(formed, records=kept, filtered=ranges.found, refused=refused, notes=notes)


def _unread(record: Record) -> UndecodablePayload:
    return UndecodablePayload(
        f"The record at {record.partition}/{record.offset} cannot be read from the client ({record.unreadable}). What "
        "could be read of it is stored; the fields that could not are missing."
    )


class Ranges:
    """Consecutive offsets of each partition, as (partition, first offset, next offset, how many)."""

    def __init__(self) -> None:
        self._last: dict[int, list[int]] = {}
        self._all: list[list[int]] = []

    def add(self, partition: int, offset: int) -> None:
        """One more record; those of a partition come in their order."""
        last = self._last.get(partition)
        if last is not None and last[2] == offset:
            last[2] += 1
            last[3] += 1
            return
        self._last[partition] = new = [partition, offset, offset + 1, 1]
        self._all.append(new)

    @property
    def found(self) -> tuple[tuple[int, int, int, int], ...]:
        """All of them."""
        return tuple((partition, first, following, count) for partition, first, following, count in self._all)

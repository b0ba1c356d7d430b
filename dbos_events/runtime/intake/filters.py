"""Which records start a workflow: a consumer's `when`, asked while they are taken in.

What it says no to is counted in the transaction that moves the watermark. What it cannot judge is
taken in with the reason, so that no process calls its handler.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from dbos_events.connect.source import Record
from dbos_events.engine.payload import Message
from dbos_events.errors import Quarantine
from dbos_events.runtime.intake.batch import Formed
from dbos_events.serialization.codecs import Codec


def judged(
    formed: Formed,
    when: Callable[[Message], bool],
    message_of: Callable[[Record], Message],
    codec: Codec,
) -> Formed:
    """The batch without the records that `when` says no to, and with the reason for those that it fails on."""
    ranges = _Ranges()
    kept: list[tuple[str, Record]] = []
    refused: dict[str, Quarantine] = {}
    for workflow_id, record in formed.records:
        try:
            wanted = when(message_of(record))
        except Quarantine as error:
            refused[workflow_id] = error
            wanted = True
        if wanted:
            kept.append((workflow_id, record))
        else:
            ranges.add(record.partition, record.offset)
    if len(kept) == len(formed.records) and not refused:
        return formed
    ids = {workflow_id for workflow_id, _ in kept}
    events = [event for event in formed.batch.events if event.workflow_id in ids]
    if refused:
        notes = {id_: (codec.name, codec.encode_error(error)) for id_, error in refused.items()}
        events = [replace(event, refusal=notes.get(event.workflow_id)) for event in events]
    batch = replace(formed.batch, events=tuple(events), filtered=ranges.found)
    return replace(formed, batch=batch, records=kept, refused=refused)


class _Ranges:
    """Consecutive offsets of each partition, as (partition, first offset, next offset, how many)."""

    def __init__(self) -> None:
        self._last: dict[int, list[int]] = {}
        self._all: list[list[int]] = []

    def add(self, partition: int, offset: int) -> None:
        last = self._last.get(partition)
        if last is not None and last[2] == offset:
            last[2] += 1
            last[3] += 1
            return
        self._last[partition] = new = [partition, offset, offset + 1, 1]
        self._all.append(new)

    @property
    def found(self) -> tuple[tuple[int, int, int, int], ...]:
        return tuple((partition, first, following, count) for partition, first, following, count in self._all)

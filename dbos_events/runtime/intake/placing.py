"""Where on its queue an event waits: priority, partition and delay by functions of its consumer."""

from __future__ import annotations

import math
from collections.abc import Callable
from contextvars import Context
from dataclasses import replace

from dbos_events.connect.source import Record
from dbos_events.engine.problems import problem_with
from dbos_events.engine.shapes import at_once
from dbos_events.errors import DBOSException, Quarantine, TryAgain
from dbos_events.model.event import Placing
from dbos_events.model.message_type import Message
from dbos_events.model.queue import HIGHEST_PRIORITY_NUMBER, LONGEST_DELAY_SECONDS
from dbos_events.runtime.intake.batch import Formed, NamedRecord
from dbos_events.serialization import Codec, stored_error
from dbos_events.serialization.raised import is_interrupt
from dbos_events.storage.subjects.intakerows import PlacedEvent


def placed(
    formed: Formed,
    placing: Placing,
    message_of: Callable[[Record], Message],
    codec: Codec,
    new_context: Callable[[], Context],
) -> tuple[Formed, tuple[PlacedEvent, ...]]:
    """The batch, and where on the queue each event waits; one for which a function fails is refused with the reason.

    Each event is asked about in a context of its own. A refused one waits, too, so that it is put aside in its turn.

    Raises:
        TryAgain: What a function needs does not answer now; nothing is taken in.
    """
    refused: dict[str, DBOSException] = {}
    found = []
    for accepted in formed.records:
        if accepted.workflow_id in formed.refused:
            found.append(_refused(accepted, placing))
            continue
        try:
            found.append(new_context().run(_place, accepted, placing, message_of))
        except TryAgain:
            raise
        except BaseException as error:
            if is_interrupt(error):
                raise
            refused[accepted.workflow_id] = error if isinstance(error, Quarantine) else _failure(error)
            found.append(_refused(accepted, placing))
    notes = {id_: new_context().run(stored_error, codec, error) for id_, error in refused.items()}
    formed = replace(formed, refused={**formed.refused, **refused}, notes={**formed.notes, **notes})
    return formed, tuple(found)


def _place(accepted: NamedRecord, placing: Placing, message_of: Callable[[Record], Message]) -> PlacedEvent:
    message = message_of(accepted.record)
    priority = None if placing.priority is None else at_once(placing.priority(message))
    partition = None if placing.partition is None else at_once(placing.partition(message))
    delay = None if placing.delay is None else at_once(placing.delay(message))
    return PlacedEvent(
        accepted.workflow_id,
        _priority(priority),
        None if placing.partition is None else _partition(partition),
        _delay_ms(delay),
    )


def _refused(accepted: NamedRecord, placing: Placing) -> PlacedEvent:
    """A queue with partitions takes nothing without one."""
    partition = None if placing.partition is None else str(accepted.record.partition)
    return PlacedEvent(accepted.workflow_id, 0, partition, None)


def _failure(error: BaseException) -> Quarantine:
    return Quarantine(f"Its place on the queue cannot be told: {problem_with(error)}")


def _priority(value: object) -> int:
    if value is None:
        return 0
    if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= HIGHEST_PRIORITY_NUMBER:
        raise ValueError(f"priority must give a whole number from 1 on, or None, not {value!r}")
    return value


def _partition(value: object) -> str:
    if isinstance(value, bytes):
        value = value.decode()
    text = str(value) if isinstance(value, (str, int)) else ""
    if not text.strip() or "\0" in text:
        raise ValueError(f"queue_partition_key must give a text that is not blank, not {value!r}")
    text.encode()
    return text


def _delay_ms(value: object) -> int | None:
    if value is None:
        return None
    if (
        not isinstance(value, (int, float))
        or isinstance(value, bool)
        or not math.isfinite(value)
        or not 0 <= value <= LONGEST_DELAY_SECONDS
    ):
        raise ValueError(f"delay_seconds must give a number of seconds from 0 on, or None, not {value!r}")
    return round(value * 1000) or None

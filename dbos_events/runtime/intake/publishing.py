"""What a consumer publishes of the records that it takes in: in the transaction that moves the watermark."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextvars import Context
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from dbos_events.connect.source import Record
from dbos_events.engine.operations.publications import (
    EXPIRY,
    LONGEST_TTL,
    Publishing,
    handler_named,
    new_publication,
    tell,
)
from dbos_events.errors import DBOSException, Quarantine, UndecodablePayload
from dbos_events.model.event import ConsumerOptions
from dbos_events.model.message_type import Message
from dbos_events.model.publication import NOT_GIVEN, Publication
from dbos_events.runtime.intake.batch import Formed, NamedRecord, PublishedRecord
from dbos_events.runtime.intake.filters import Ranges
from dbos_events.serialization import stored_error
from dbos_events.serialization.raised import is_interrupt, text_of
from dbos_events.storage.writes import NewPublication

if TYPE_CHECKING:
    from dbos_events.engine.core import Core

LONGEST = 500
"""Characters of a name or a key."""

Publishes = Callable[[Message], tuple[Any, Any]]
"""Gives what the user's function gave, and what it was asked with."""


def published(
    core: Core,
    options: ConsumerOptions,
    formed: Formed,
    message_of: Callable[[Record], Message],
    new_context: Callable[[], Context],
) -> Formed:
    """The batch with its publications. Where no handler is, records that were published start nothing.

    A record that `publishes` fails on is refused with the reason, as one that `when` cannot judge.
    """
    if options.publishes is None:
        return formed
    ranges = Ranges()
    kept: list[NamedRecord] = []
    refused: dict[str, DBOSException] = dict(formed.refused)
    publications: list[PublishedRecord] = []
    for accepted in formed.records:
        record = accepted.record
        if accepted.workflow_id not in refused:
            try:
                found = new_context().run(
                    _publication, core, options, accepted.workflow_id, message_of(record)
                )
            except Quarantine as error:
                refused[accepted.workflow_id] = error
            else:
                if found is not None:
                    publications.append(PublishedRecord(record.partition, record.offset, found))
                if not options.starts:
                    ranges.add(record.partition, record.offset)
                    continue
        kept.append(accepted)
    codec = core.codecs.default
    notes = {id_: new_context().run(stored_error, codec, error) for id_, error in refused.items()}
    return replace(
        formed,
        records=kept,
        refused=refused,
        notes=notes,
        publications=tuple(publications),
        published=ranges.found,
    )


def tell_of(core: Core, publications: Sequence[PublishedRecord]) -> None:
    """Wake who waits for what an intake has published."""
    if publications:
        tell(core, sorted({one.publication.anchor for one in publications}))
        core.hub.signal(EXPIRY)


def _publication(core: Core, options: ConsumerOptions, event: str, message: Message) -> NewPublication | None:
    """What is to be published of one record; None where `publishes` gave None.

    Raises:
        Quarantine: It failed, or gave something else than a name and a key.
    """
    assert options.publishes is not None  # noqa: S101
    what = f"`publishes` of the consumer {options.name}"
    try:
        given, value = options.publishes(message)
        if given is None:
            return None
        one = _checked(what, given, value, event)
        return new_publication(core, one, f"event:{event}", event)
    except Quarantine:
        raise
    except BaseException as error:
        if is_interrupt(error):
            raise
        raise UndecodablePayload(
            f"{what} cannot be asked: {type(error).__name__}: {text_of(error)}"
        ) from error


def _checked(what: str, given: object, asked: object, event: str) -> Publishing:
    """What is published of what was given."""
    if isinstance(given, tuple) and 2 <= len(given) <= 3:
        given = Publication(*given)
    if not isinstance(given, Publication):
        raise UndecodablePayload(
            f"{what} must give (name, key), (name, key, value) or a Publication, not {given!r}."
        )
    name: Any = given.name
    key: Any = given.key
    ttl: Any = given.ttl_seconds
    for text in (name, key):
        if not isinstance(text, str) or not text or "\0" in text or len(text) > LONGEST:
            raise UndecodablePayload(
                f"{what} gave {text!r}: names and keys are texts of 1 to {LONGEST} characters."
            )
    if ttl is not None and not (isinstance(ttl, int | float) and 0 < ttl < LONGEST_TTL):
        raise UndecodablePayload(f"{what} gave ttl_seconds={ttl!r}: it must be above 0, or None for ever.")
    value = asked if given.value is NOT_GIVEN else given.value
    return Publishing(name, key, value, event, ttl, handler_named(given.on_expired))

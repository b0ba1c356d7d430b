"""Events in quarantine as operators see them, and which of them are meant."""

from __future__ import annotations

from typing import Any

from dbos_events.model.dataclass import dataclass, field


@dataclass(frozen=True, slots=True)
class QuarantineFilter:
    """Which events are meant: those that fit all filters given; of one with several values, one must fit.

    `error_types` are names of classes, with or without their module; `error_text` is a part of the message.
    Times are milliseconds since 1970 and count when the event was put aside. `released` includes those that
    somebody has decided about already. `after` is the place (time, id) to go on behind.
    """

    workflow_ids: tuple[str, ...] = ()
    applications: tuple[str, ...] = ()
    consumers: tuple[str, ...] = ()
    topics: tuple[str, ...] = ()
    partitions: tuple[int, ...] = ()
    reasons: tuple[str, ...] = ()
    error_types: tuple[str, ...] = ()
    error_text: str | None = None
    first_offset: int | None = None
    last_offset: int | None = None
    quarantined_from: int | None = None
    quarantined_until: int | None = None
    released: bool = False
    after: tuple[int, str] | None = None
    limit: int | None = None

    @property
    def is_open(self) -> bool:
        """Whether nothing narrows it down."""
        texts = (
            self.workflow_ids,
            self.consumers,
            self.topics,
            self.partitions,
            self.reasons,
            self.error_types,
        )
        bounds = (self.first_offset, self.last_offset, self.quarantined_from, self.quarantined_until)
        return not any(texts) and self.error_text is None and all(bound is None for bound in bounds)


@dataclass(frozen=True, slots=True)
class QuarantinedEvent:
    """An event that was put aside, without its content.

    `released_as` says what was decided, None while it waits for that. `lane` is set where later events of
    its lane wait behind it.
    """

    workflow_id: str
    application: str
    consumer: str | None
    topic: str | None
    partition: int | None
    offset: int | None
    status: str
    generation: int
    attempts: int
    reason: str
    error_type: str | None
    error_message: str | None
    lane: str | None
    quarantined_at: int
    released_at: int | None
    released_as: str | None


@dataclass(frozen=True, slots=True)
class GenerationRecord:
    """One generation that has ended: how, and with which error.

    `ended_as` is `retry` or `redrive`; `next_at` when the next one might begin; `steps` are the checkpoints
    that stayed behind in it, as (number, name).
    """

    generation: int
    attempt: int
    ended_as: str
    reason: str | None
    error_type: str | None
    error_message: str | None
    ended_at: int
    next_at: int
    steps: tuple[tuple[int, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Decision:
    """What somebody decided about an event; `generation` is the one that was decided about."""

    decision: str
    decided_by: str
    decided_at: int
    reason: str | None
    generation: int
    details: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class EditedValue:
    """A value that runs since `generation` get in place of the one that was received."""

    generation: int
    value: bytes
    edited_by: str
    edited_at: int


@dataclass(frozen=True, slots=True)
class QuarantinedDetail:
    """All that is known of an event that was put aside.

    `key`, `value` and `headers` are as they were received, whatever was edited since.
    """

    event: QuarantinedEvent
    key: bytes | None
    value: bytes | None
    headers: list[tuple[str, bytes | None]] | None
    timestamp: int | None
    error: BaseException | None
    traceback: str | None
    edits: tuple[EditedValue, ...]
    generations: tuple[GenerationRecord, ...]
    decisions: tuple[Decision, ...]


@dataclass(frozen=True, slots=True)
class QuarantineCount:
    """How many events in quarantine have these in common."""

    consumer: str
    reason: str
    error_type: str | None
    count: int


@dataclass(frozen=True, slots=True)
class DecidedEvents:
    """What a redrive or a discard did: the events that it changed, and those it left as they are.

    In a dry run `changed` holds those that it would have changed.
    """

    changed: tuple[str, ...]
    unchanged: tuple[str, ...] = ()
    dry_run: bool = False


@dataclass(frozen=True, slots=True)
class Redrive:
    """How a new generation begins.

    By default it keeps what succeeded. `from_step` also leaves that step and those after it behind, `fresh`
    all of them. `value` is what it gets in place of the value that was received. Where a step would be called
    under an idempotency key that went out with other arguments, `same_key` says that it goes out again, `new_key`
    that another one does.
    """

    from_step: int | None = None
    fresh: bool = False
    value: bytes | None = None
    same_key: bool = False
    new_key: bool = False

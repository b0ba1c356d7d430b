"""Proof of delivery: what became of one offset, in a word and in a sentence, and what nothing explains."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, NamedTuple

from dbos_events.control.processes import ProcessControl
from dbos_events.model.workflow import CANCELLED, ENQUEUED, EXPIRED, FINISHED, SUCCESS, StepInfo

if TYPE_CHECKING:
    from dbos_events.control.workflows import WorkflowControl
    from dbos_events.model.process import Doing
    from dbos_events.model.proof import Gap, GapQuestion, TracedEvent
    from dbos_events.storage.protocol import Storage

OutcomeWord = Literal[
    "succeeded", "failed", "expired", "quarantined", "discarded", "running", "waiting", "held", "filtered", "gap",
    "not-yet", "before-start", "unexplained",
]  # fmt: skip

_GAPS = {
    "missing": "the log did not have it when the next record was read: compaction, a transaction's marker, retention",
    "retention": "retention deleted it before it was read",
    "filtered": "the consumer's `when` said no",
    "published": "it was published, and starts no workflow",
    "skipped": "an operator skipped it",
}


class TracedOutcome(NamedTuple):
    """What became of an event: a word to count by, and a sentence."""

    word: OutcomeWord
    text: str


class Trace(NamedTuple):
    """What is known of one offset, for one consumer and one incarnation of its topic."""

    event: TracedEvent
    outcome: TracedOutcome
    steps: list[StepInfo]
    error: BaseException | None
    doing: Doing | None = None


class ProofControl:
    """What an operator may ask about the delivery of events; it changes nothing."""

    def __init__(self, storage: Storage, workflows: WorkflowControl) -> None:
        self._storage = storage
        self._workflows = workflows
        self._processes = ProcessControl(storage)

    def trace(
        self,
        topic: str,
        partition: int,
        offset: int,
        *,
        application: str | None = None,
        consumer: str | None = None,
    ) -> list[Trace]:
        """What became of an offset, for each consumer and each incarnation that knows its partition."""
        events = self._storage.proofs.trace(topic, partition, offset, application, consumer)
        doing = self._processes.doing(
            [event.workflow_id for event in events if event.workflow_id is not None]
        )
        return [
            Trace(
                event,
                outcome_of(event, offset),
                [] if event.workflow_id is None else self._workflows.steps(event.workflow_id),
                self._workflows.stored_error(event.error_codec, event.error),
                None if event.workflow_id is None else doing.get(event.workflow_id),
            )
            for event in events
        ]

    def known_topics(self, application: str | None = None) -> dict[str, list[int]]:
        """Topics with a watermark, and which partitions have one."""
        return self._storage.proofs.known_topics(application)

    def gaps(self, question: GapQuestion) -> list[Gap]:
        """Offsets below watermarks that started no workflow: those without a reason first."""
        return self._storage.proofs.find_gaps(question)


def outcome_of(event: TracedEvent, offset: int) -> TracedOutcome:
    """What became of the offset for one consumer and one incarnation (docs/protocol.md, rule 11)."""
    if event.workflow_id is not None:
        return _ended(event) if event.status in FINISHED else _open(event)
    if event.gap_reason is not None:
        text = _GAPS.get(event.gap_reason, event.gap_reason)
        counted = event.gap_reason in ("filtered", "published")
        return TracedOutcome("filtered" if counted else "gap", text)
    if offset >= event.next_offset:
        return TracedOutcome("not-yet", f"not taken in yet: the watermark is at {event.next_offset}")
    if event.first_offset is not None and offset < event.first_offset:
        return TracedOutcome("before-start", f"before the consumer's first position, {event.first_offset}")
    if event.first_offset is None:
        return TracedOutcome(
            "before-start", "no workflow; where the consumer began was not noted by that release"
        )
    return TracedOutcome(
        "unexplained", f"below the watermark {event.next_offset}, and nothing says what became of it"
    )


def _ended(event: TracedEvent) -> TracedOutcome:
    if event.status == SUCCESS:
        return TracedOutcome("succeeded", "its handler returned")
    if event.status == EXPIRED:
        return TracedOutcome(
            "expired", "by the consumer's `expires` it was too late when its turn came; it did not run"
        )
    if event.quarantine_reason is None:
        return TracedOutcome(
            "failed", "its workflow was cancelled" if event.status == CANCELLED else "its handler failed"
        )
    if event.released_at is not None:
        return TracedOutcome(
            "discarded", f"it was put aside ({event.quarantine_reason}), then {event.released_as}"
        )
    return TracedOutcome("quarantined", f"it was put aside: {event.quarantine_reason}")


def _open(event: TracedEvent) -> TracedOutcome:
    if event.owned:
        if event.executor_alive:
            return TracedOutcome("running", f"{event.executor} has it")
        return TracedOutcome("waiting", f"its process {event.executor} is dead; it will be taken up")
    if event.status == ENQUEUED:
        return TracedOutcome("waiting", f"on the queue {event.queue}" if event.queue else "for any process")
    if event.held:
        return TracedOutcome("held", "behind an earlier event of its lane")
    if event.wake_at is not None:
        return TracedOutcome(
            "waiting", "between two attempts" if event.attempt else "it sleeps, or waits for something"
        )
    return TracedOutcome("waiting", "for the holder of its partition")

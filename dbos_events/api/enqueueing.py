"""What a block, or the options of one call, says of enqueues: priority, delay, deduplication, partition, version."""

from __future__ import annotations

import math
from collections.abc import Mapping
from contextvars import Token
from types import TracebackType
from typing import TYPE_CHECKING, Any, Generic, Self, TypeVar

from dbos_events.api.contexts import check_policy, check_workflow_id
from dbos_events.engine.context import NEXT_ATTRIBUTES, NEXT_ENQUEUE
from dbos_events.errors import DBOSException
from dbos_events.model.attributes import attributes_text
from dbos_events.model.dataclass import dataclass
from dbos_events.model.queue import HIGHEST_PRIORITY_NUMBER, LONGEST_DELAY_SECONDS, DuplicationPolicy

if TYPE_CHECKING:
    from contextvars import ContextVar

    from dbos_events.engine.operations.start import Start
    from dbos_events.engine.registry import Registry

V = TypeVar("V")


@dataclass(frozen=True, slots=True)
class EnqueueSettings:
    """The options of enqueues, checked."""

    deduplication_id: str | None = None
    priority: int | None = None
    app_version: str | None = None
    queue_partition_key: str | None = None
    delay_seconds: float | None = None
    duplication_policy: DuplicationPolicy | None = None

    def __post_init__(self) -> None:
        for name in ("deduplication_id", "app_version", "queue_partition_key"):
            check_text(name, getattr(self, name))
        check_priority(self.priority)
        check_delay(self.delay_seconds)
        check_policy("duplication_policy", self.duplication_policy)
        if self.deduplication_id is not None and self.queue_partition_key is not None:
            raise DBOSException(
                "A deduplication id counts for the whole queue, so it cannot be given together with a "
                "queue_partition_key. Leave one of them out."
            )
        if self.duplication_policy is not None and self.deduplication_id is None:
            raise DBOSException("duplication_policy says what a deduplication_id does; give one.")

    @property
    def needs_queue(self) -> str | None:
        """The name of an option that means nothing without a queue."""
        names = ("deduplication_id", "priority", "queue_partition_key", "delay_seconds")
        return next((name for name in names if getattr(self, name) is not None), None)


class _Block(Generic[V]):
    """A `with` block that sets a context variable; one block at a time, nestable, seen by its own task alone."""

    def __init__(self, variable: ContextVar[V], value: V) -> None:
        self._variable = variable
        self._value = value
        self._token: Token[V] | None = None

    def __enter__(self) -> Self:
        if self._token is not None:
            name = type(self).__name__
            raise DBOSException(f"This {name} is in use already; make a new one for a nested block.")
        self._token = self._variable.set(self._value)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._token is not None:
            self._variable.reset(self._token)
            self._token = None


class SetEnqueueOptions(_Block["object | None"]):
    """Options of all enqueues in the block.

    Args:
        deduplication_id: At most one workflow with it is on a queue and has not ended; another enqueue raises
            `DBOSQueueDeduplicatedError`, which names that workflow. It is free again with the workflow's outcome.
        priority: From 1 to 2147483647; lower numbers start first, and what has none starts before all.
        app_version: Only processes of this version run it.
        queue_partition_key: The partition of the queue that it belongs to.
        delay_seconds: It waits as DELAYED for so long, and then for its turn.
        duplication_policy: "reject" (the default), or "return-existing": the enqueue gives a handle on the workflow that
            has the deduplication id.

    A start that does not go to a queue raises where one of the options needs a queue.
    """

    def __init__(
        self,
        *,
        deduplication_id: str | None = None,
        priority: int | None = None,
        app_version: str | None = None,
        queue_partition_key: str | None = None,
        delay_seconds: float | None = None,
        duplication_policy: DuplicationPolicy | None = None,
    ) -> None:
        settings = EnqueueSettings(
            deduplication_id, priority, app_version, queue_partition_key, delay_seconds, duplication_policy
        )
        super().__init__(NEXT_ENQUEUE, settings)


class SetWorkflowAttributes(_Block["str | None"]):
    """Attributes, a mapping that JSON can hold, of all workflows that the block starts; their children get none.

    `list_workflows(attributes={...})` finds workflows by them. None within another block: no attributes.
    """

    def __init__(self, attributes: Mapping[str, Any] | None) -> None:
        super().__init__(NEXT_ATTRIBUTES, None if attributes is None else attributes_text(attributes))


def apply(start: Start, registry: Registry, settings: EnqueueSettings | None = None) -> Start:
    """Give a start what `settings`, or the blocks around it, say."""
    start.attributes = NEXT_ATTRIBUTES.get()
    block = NEXT_ENQUEUE.get() if settings is None else settings
    if isinstance(block, EnqueueSettings):
        if start.queue is None and block.needs_queue is not None:
            raise DBOSException(
                f"{block.needs_queue} is an option of enqueues, and {start.function.name} is started without a queue. "
                "Enqueue it, or start it outside of the SetEnqueueOptions block."
            )
        if start.queue is not None:
            start.deduplication_id = block.deduplication_id
            start.duplicates = block.duplication_policy or "reject"
            start.priority = block.priority or 0
            start.app_version = block.app_version
            start.partition = block.queue_partition_key
            start.delay_ms = round(block.delay_seconds * 1000) if block.delay_seconds else None
    if start.queue is not None:
        _check_partition(start, registry)
    return start


def _check_partition(start: Start, registry: Registry) -> None:
    limits = registry.limits_of(start.queue or "")
    if limits is not None and limits.partitioned and start.partition is None:
        raise DBOSException(
            f"Queue {start.queue!r} has partitions, so each workflow on it belongs to one: enqueue {start.function.name} "
            "within SetEnqueueOptions(queue_partition_key=...)."
        )
    if limits is not None and limits.partitioned and start.deduplication_id is not None:
        raise DBOSException(
            f"Queue {start.queue!r} has partitions, and a deduplication id counts for a whole queue. Leave it out."
        )


def check_text(name: str, value: object) -> None:
    """Refuse what the database could not store, or nobody could type."""
    if value is None:
        return
    try:
        check_workflow_id(value)
    except DBOSException:
        raise DBOSException(
            f"{name} must be a text that is not blank and that a database can store, not {value!r}."
        ) from None


def check_priority(priority: object) -> None:
    """Refuse what is not the number of a priority."""
    whole = isinstance(priority, int) and not isinstance(priority, bool)
    if priority is not None and not (whole and 1 <= priority <= HIGHEST_PRIORITY_NUMBER):  # type: ignore[operator]
        raise DBOSException(
            f"priority must be a whole number from 1 to {HIGHEST_PRIORITY_NUMBER}, not {priority!r}."
        )


def check_delay(seconds: object) -> None:
    """Refuse what is not a number of seconds, or lies too far ahead."""
    if seconds is None:
        return
    number = isinstance(seconds, (int, float)) and not isinstance(seconds, bool)
    if not number or not math.isfinite(seconds) or not 0 <= seconds <= LONGEST_DELAY_SECONDS:  # type: ignore[arg-type, operator]
        raise DBOSException(
            f"delay_seconds must be a number of seconds from 0 to {LONGEST_DELAY_SECONDS:.0f}, not {seconds!r}."
        )

"""The functions of one App, by the name that rows carry."""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from dbos_events.engine.declared import (
    ANOTHER,
    RELOADED,
    SAME,
    compare,
    loading_of,
    module_of,
    place_of,
    why_not,
)
from dbos_events.errors import RegistrationError
from dbos_events.model.dataclass import dataclass, field
from dbos_events.serialization.class_names import own_package
from dbos_events.telemetry.log import logger

if TYPE_CHECKING:
    from dbos_events.engine.payload import Binding
    from dbos_events.model.message_type import MessageType
    from dbos_events.model.queue import QueueLimits, QueueState
    from dbos_events.model.schedule import ScheduleSpec

DEFAULT_MAX_RECOVERY_ATTEMPTS = 100

STEP_PREFIX = "<temp>."
"""Before the name of a step that is started as a workflow of one step."""


@dataclass(slots=True)
class Registered:
    """A workflow function: `name` is what its rows carry, `binding` what events are made into for it.

    `messages` are those of the connector whose events it handles. `loading` stands for the execution of its module,
    `replaced` says that a reload has declared it anew; `consumers` are the topics of those whose handler it is, by name.
    `may_await` says that it is a plain function around an async one: on a running loop it is called as an async one.
    """

    name: str
    function: Callable[..., Any]
    is_async: bool
    max_recovery_attempts: int | None = DEFAULT_MAX_RECOVERY_ATTEMPTS
    class_name: str | None = None
    temporary: bool = False
    wrapper: Any = None
    binding: Binding | None = None
    messages: MessageType | None = None
    loading: object = None
    replaced: bool = False
    consumers: dict[str, tuple[str, ...]] = field(default_factory=dict)
    may_await: bool = False
    schedule_loading: object = False
    """The `loading` in which it was scheduled last; a reload schedules it anew."""


@dataclass(slots=True)
class Registry:
    """What the decorators of one App collected."""

    workflows: dict[str, Registered] = field(default_factory=dict)
    queues: dict[str, QueueLimits] = field(default_factory=dict)
    stored_queues: dict[str, QueueState] = field(default_factory=dict)
    """As the database held them when this process last looked."""
    listens_to: frozenset[str] | None = None
    """The queues that this process serves; None: all that it declares, and all that are registered."""
    schedules: dict[str, ScheduleSpec] = field(default_factory=dict)
    contested: frozenset[str] = frozenset()
    """Names by which a live process of the application means another function."""

    def add(self, entry: Registered) -> Registered:
        """Register a workflow function, or a step as one; the same function may come again, also reloaded.

        Raises:
            RegistrationError: Another function has the name already, or may be another.
        """
        known = self.workflows.get(entry.name)
        if known is not None:
            _refuse_another(known, entry)
        entry.loading = loading_of(entry.function)
        own_package(module_of(entry.function))
        self.workflows[entry.name] = entry
        return entry

    def add_queue(self, name: str, limits: QueueLimits) -> None:
        """Declare a queue; declaring it again with the same limits is allowed."""
        if name.startswith("_dbos"):
            raise RegistrationError(f"Queue {name!r}: names that start with _dbos are reserved.")
        known = self.queues.get(name)
        if known is not None and known != limits:
            raise RegistrationError(
                f"Queue {name!r} is declared twice with different limits. Declare it once and import it."
            )
        self.queues[name] = limits

    def limits_of(self, queue: str) -> QueueLimits | None:
        """The settings of a queue, as far as this process knows it."""
        stored = self.stored_queues.get(queue)
        return stored.limits if stored is not None else self.queues.get(queue)

    def served(self) -> list[QueueState]:
        """The queues that this process claims of: those that it declares, and those that are registered."""
        return [
            state
            for name, state in self.stored_queues.items()
            if (name in self.queues or not state.declared)
            and (self.listens_to is None or name in self.listens_to)
        ]

    def names(self) -> list[str]:
        """The functions whose work may be taken up here."""
        return sorted(self.workflows.keys() - self.contested)

    def limits(self) -> dict[str, int | None]:
        """How often work of each of them may crash."""
        return {name: self.workflows[name].max_recovery_attempts for name in self.names()}

    def version(self) -> str:
        """A version that changes when the source of a registered workflow changes."""
        digest = hashlib.blake2b(digest_size=8)
        for name in sorted(self.workflows):
            digest.update(name.encode())
            digest.update(_source(self.workflows[name].function).encode())
        return digest.hexdigest()


def _refuse_another(known: Registered, entry: Registered) -> None:
    verdict = compare(known.function, known.loading, entry.function)
    what, name = "workflow", entry.name
    if name.startswith(STEP_PREFIX):
        what, name = "step", name.removeprefix(STEP_PREFIX)
    if verdict == SAME:
        entry.consumers = known.consumers
    if verdict == RELOADED:
        known.replaced = True
        logger.info("The %s %r was declared again by a reload of its module; the new one counts.", what, name)
    if verdict == ANOTHER:
        raise RegistrationError(
            f"Two {what}s are called {name!r}: {why_not(known.function, entry.function)}. Rows find their function by "
            f"this name: give each a name of its own, @DBOS.{what}(name=...) (below the decorator of a consumer)."
        )


def _source(function: Callable[..., Any]) -> str:
    try:
        return inspect.getsource(function)
    except (OSError, TypeError):  # typed into a shell, or not written in Python
        return place_of(function)

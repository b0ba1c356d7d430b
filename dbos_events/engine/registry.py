"""The functions of one App, by the name that rows carry."""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from dbos_events.errors import RegistrationError
from dbos_events.model.queue import QueueLimits

if TYPE_CHECKING:
    from dbos_events.engine.payload import Binding

DEFAULT_MAX_RECOVERY_ATTEMPTS = 100


@dataclass(slots=True)
class Registered:
    """A workflow function: `name` is what its rows carry, `binding` what events are made into for it.

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
    may_await: bool = False


@dataclass(slots=True)
class Registry:
    """What the decorators of one App collected."""

    workflows: dict[str, Registered] = field(default_factory=dict)
    queues: dict[str, QueueLimits] = field(default_factory=dict)

    def add(self, entry: Registered) -> Registered:
        """Register a workflow function; the same function may come twice (a reload).

        Raises:
            RegistrationError: Another function has the name already.
        """
        known = self.workflows.get(entry.name)
        if known is not None and _place(known.function) != _place(entry.function):
            raise RegistrationError(
                f"Two workflows are called {entry.name!r}: {_place(known.function)} and {_place(entry.function)}. "
                "Rows find their function by this name: give one of them another with name=..."
            )
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

    def names(self) -> list[str]:
        return sorted(self.workflows)

    def version(self) -> str:
        """A version that changes when the source of a registered workflow changes."""
        digest = hashlib.blake2b(digest_size=8)
        for name in self.names():
            digest.update(name.encode())
            digest.update(_source(self.workflows[name].function).encode())
        return digest.hexdigest()


def _place(function: Callable[..., Any]) -> str:
    return f"{getattr(function, '__module__', '?')}.{getattr(function, '__qualname__', repr(function))}"


def _source(function: Callable[..., Any]) -> str:
    try:
        return inspect.getsource(function)
    except (OSError, TypeError):  # typed into a shell, or not written in Python
        return _place(function)

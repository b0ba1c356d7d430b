"""Names that processes of one application use for different things: told, and not taken over from each other."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, NamedTuple

from dbos_events.engine.core import Core
from dbos_events.engine.declared import module_of
from dbos_events.engine.registry import Registry
from dbos_events.storage.subjects.executors import ExecutorRow
from dbos_events.telemetry.log import logger


class Declared(NamedTuple):
    """One function as a process declares it: its module, and the topics of its consumers by name."""

    module: str
    consumers: dict[str, list[str]]


def declarations(registry: Registry) -> dict[str, Any]:
    """What this process tells the others about its functions, by name."""
    return {
        name: [
            module_of(entry.function),
            {consumer: sorted(topics) for consumer, topics in entry.consumers.items()},
        ]
        for name, entry in registry.workflows.items()
    }


class ContestedNames:
    """Compares what the processes of the application declare, with each look at the executors.

    Functions are compared by name and module, consumers by handler and topics; code may differ, as in any deploy.
    While a live process means another function by a name, work of that name that has no owner is left alone here;
    what a dead process has left is left alone for as long as that one meant another.
    """

    def __init__(self, core: Core) -> None:
        self._core = core
        self._known: dict[int, dict[str, Declared]] = {}
        self.left_alone: frozenset[str] = frozenset()
        self.problems: tuple[str, ...] = ()

    def look(self, rows: Sequence[ExecutorRow]) -> None:
        """Compare this process with `rows`, the living and the dead whose work is left."""
        core = self._core
        others = [row for row in rows if row.id != core.executor]
        self._known = {row.id: self._known.get(row.id) or _read(row.functions) for row in rows}
        own = self._known.get(core.executor, {})
        problems: set[str] = set()
        contested: dict[bool, set[str]] = {True: set(), False: set()}
        for row in others:
            for name, other in self._known[row.id].items():
                if name in own and (why := _difference(own[name], other)) is not None:
                    contested[row.alive].add(name)
                    problems.add(
                        f"name-conflict: {name!r} {why}{'' if row.alive else ', which left work of it'}"
                    )
            if row.alive:
                problems |= _other_consumers(own, self._known[row.id])
        core.registry.contested = frozenset(contested[True])
        self.left_alone = frozenset(contested[False])
        for problem in sorted(problems.difference(self.problems)):
            logger.error(
                "Application %s: %s. Neither process takes such work up from the other. Give services of different "
                "code applications of different names (DBOS_EVENTS_NAME), or the functions: name=...",
                core.application,
                problem,
            )
        self.problems = tuple(sorted(problems))

    def adoptable(self) -> dict[str, int | None]:
        """How often work of each function may crash; without those whose dead owners meant another function."""
        workflows = self._core.registry.workflows
        return {
            name: entry.max_recovery_attempts
            for name, entry in workflows.items()
            if name not in self.left_alone
        }


def _read(text: str | None) -> dict[str, Declared]:
    """What a process has told; nothing of one of an earlier release, which tells names only."""
    try:
        told = json.loads(text) if text else None
        return {name: Declared(*one) for name, one in told.items()} if isinstance(told, dict) else {}
    except (ValueError, TypeError):  # a damaged row of one executor must not keep the dead from being found
        return {}


def _difference(own: Declared, other: Declared) -> str | None:
    """Why the two cannot be the same function; None where they can."""
    if not _may_be_one(own.module, other.module):
        return f"is a function of {own.module!r} here and of {other.module!r} in another process"
    for consumer in sorted(own.consumers.keys() & other.consumers.keys()):
        here, there = own.consumers[consumer], other.consumers[consumer]
        if set(here).isdisjoint(there):
            return f"is the handler of {consumer!r} for {here} here and for {there} in another process"
    return None


def _may_be_one(module: str, other: str) -> bool:
    """`orders` and `shop.orders` may be one file, run in two ways."""
    return module == other or module.endswith(f".{other}") or other.endswith(f".{module}")


def _other_consumers(own: dict[str, Declared], others: dict[str, Declared]) -> set[str]:
    here, there = _consumers(own), _consumers(others)
    found = set()
    for consumer in here.keys() & there.keys():
        if here[consumer] != there[consumer]:
            (handler, topics), (their_handler, their_topics) = here[consumer], there[consumer]
            found.add(
                f"consumer-conflict: {consumer!r} reads {list(topics)} with {handler!r} here and {list(their_topics)} "
                f"with {their_handler!r} in another process"
            )
    return found


def _consumers(declared: dict[str, Declared]) -> dict[str, tuple[str, tuple[str, ...]]]:
    return {
        consumer: (name, tuple(topics))
        for name, one in declared.items()
        for consumer, topics in one.consumers.items()
    }

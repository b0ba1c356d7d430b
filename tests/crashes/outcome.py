"""What is left in the end, read past the code under test, and how it differs from what was expected."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby, pairwise
from pathlib import Path
from typing import Any, NamedTuple

from tests.faults.rows import Rows

ATTACHED = ("payloads", "results", "steps", "events", "quarantine", "generations", "edited_values")
"""Tables whose rows belong to a workflow, by `workflow_id`."""
COUNTED = (
    *ATTACHED,
    "workflows",
    "ticks",
    "watermarks",
    "gaps",
    "decisions",
    "consumers",
    "incarnations",
    "lanes",
    "seen",
    "queues",
    "messages",
    "parked_keys",
    "publications",
    "waits",
)


@dataclass(frozen=True, slots=True)
class End:
    """How one workflow is to end: its status, what it returned, and the effects of its steps in their order."""

    status: str
    value: object = None
    steps: tuple[str, ...] = ()
    quarantined: bool = False


@dataclass(frozen=True, slots=True)
class Expected:
    """The outcome of a scenario. Events are called `partition/offset`; those of a lane follow each other."""

    ends: Mapping[str, End]
    watermarks: Mapping[int, int] = field(default_factory=dict)
    children: Mapping[str, int] = field(default_factory=dict)
    gaps: int = 0
    lanes: Sequence[Sequence[str]] = ()


class Effect(NamedTuple):
    """One execution of a step, in the given life of the application."""

    life: int
    workflow: str
    step: str


def read_effects(file: Path) -> list[Effect]:
    if not file.exists():
        return []
    return [Effect(*json.loads(line)) for line in file.read_text().splitlines()]


class Ended:
    """The database after the last process has ended."""

    def __init__(self, url: str) -> None:
        self._rows = Rows(url)

    def problems(self, expected: Expected, effects: Sequence[Effect]) -> list[str]:
        """Everything that is not as expected, one line each."""
        return [
            *self._of_ends(expected),
            *_of_effects(expected, effects),
            *_of_order(expected, effects),
            *self._of_places(expected),
            *self._of_strays(),
        ]

    def counts(self) -> dict[str, int]:
        """How many rows each table has, to be compared with a sound run."""
        counts = {table: self._rows.one(f"SELECT count(*) FROM {{t}}{table}") for table in COUNTED}
        # What is noted beside a call while it waits is not there when it had nothing to wait for.
        counts["steps"] -= self._rows.one("SELECT count(*) FROM {t}steps WHERE call LIKE '%%~'")
        return counts

    def _of_ends(self, expected: Expected) -> list[str]:
        rows = self._rows.query(
            "SELECT w.id, w.status, r.output, q.workflow_id IS NOT NULL AND q.released_at IS NULL, w.position, "
            "w.partition FROM {t}workflows w LEFT JOIN {t}results r ON r.workflow_id = w.id "
            "LEFT JOIN {t}quarantine q ON q.workflow_id = w.id"
        )
        found = {
            name_of(id_): (status, output, bool(quarantined)) for id_, status, output, quarantined, *_ in rows
        }
        problems = [f"{name} is lost" for name in expected.ends.keys() - found.keys()]
        problems += [
            f"{name} came from nowhere: {found[name]}" for name in found.keys() - expected.ends.keys()
        ]
        for name in sorted(expected.ends.keys() & found.keys()):
            end = expected.ends[name]
            status, output, quarantined = found[name]
            value = None if output is None else json.loads(output)
            if (status, value, quarantined) != (end.status, end.value, end.quarantined):
                problems.append(f"{name} is {status} with {value!r}, quarantined {quarantined}; not as {end}")
        return problems

    def _of_places(self, expected: Expected) -> list[str]:
        marks: dict[int, int] = dict(self._rows.query("SELECT partition, next_offset FROM {t}watermarks"))
        problems = []
        if marks != dict(expected.watermarks):
            problems.append(f"the watermarks stand at {marks}, not at {dict(expected.watermarks)}")
        gaps = self._rows.one("SELECT count(*) FROM {t}gaps")
        if gaps != expected.gaps:
            problems.append(f"{gaps} gaps, not {expected.gaps}")
        parents = self._rows.query(
            "SELECT parent_id, count(*) FROM {t}workflows WHERE parent_id IS NOT NULL GROUP BY parent_id"
        )
        children: dict[str, int] = {name_of(id_): count for id_, count in parents}
        if children != dict(expected.children):
            problems.append(f"the children are {children}, not {dict(expected.children)}")
        return problems

    def _of_strays(self) -> list[str]:
        """Rows that belong to nothing, and workflows that lack what belongs to them."""
        problems = []
        for table in ATTACHED:
            strays = self._rows.query(
                f"SELECT t.workflow_id FROM {{t}}{table} t LEFT JOIN {{t}}workflows w ON w.id = t.workflow_id "
                "WHERE w.id IS NULL"
            )
            problems += [f"{table} has a row of {name_of(id_)}, which does not exist" for (id_,) in strays]
        bare = self._rows.query(
            "SELECT w.id FROM {t}workflows w LEFT JOIN {t}events e ON e.workflow_id = w.id "
            "WHERE w.consumer IS NOT NULL AND e.workflow_id IS NULL"
        )
        problems += [f"{name_of(id_)} has no event" for (id_,) in bare]
        unread = self._rows.query(
            "SELECT m.destination, m.number FROM {t}messages m LEFT JOIN {t}steps s ON s.workflow_id = m.destination "
            "AND s.step = m.consumed_step AND s.output = m.value "
            "JOIN {t}workflows w ON w.id = m.destination AND w.status = 'SUCCESS' WHERE s.step IS NULL"
        )
        problems += [f"message {number} to {name_of(id_)} was not received" for id_, number in unread]
        held = self._rows.query(
            "SELECT w.id FROM {t}workflows w WHERE w.status IN ('SUCCESS', 'ERROR', 'CANCELLED') AND w.wake_at IS NOT NULL"
        )
        problems += [f"{name_of(id_)} has ended and would wake up" for (id_,) in held]
        owned = self._rows.query("SELECT id FROM {t}workflows WHERE owner IS NOT NULL AND status = 'PENDING'")
        problems += [f"{name_of(id_)} has an owner, though all processes have ended" for (id_,) in owned]
        return problems


def name_of(workflow_id: str) -> str:
    """What a scenario calls a workflow: an event by its partition and offset."""
    if workflow_id.startswith("publication/"):
        return "expired publication"  # its id has a number and a time, which crashes may move
    parts = workflow_id.split("/")
    return "/".join(parts[-3 if parts[-1] == "expired" else -2 :]) if parts[0] == "kafka" else workflow_id


def _of_effects(expected: Expected, effects: Sequence[Effect]) -> list[str]:
    """Each step once, in order; after a crash the one that was under way may come again."""
    by_workflow = {
        name: list(group)
        for name, group in groupby(sorted(effects, key=lambda one: one.workflow), lambda one: one.workflow)
    }
    problems = [
        f"{name} had effects and is not expected: {by_workflow[name]}"
        for name in by_workflow.keys() - expected.ends.keys()
    ]
    for name, end in expected.ends.items():
        done = by_workflow.get(name, [])
        if not _explained(end.steps, done):
            problems.append(
                f"{name} did {[(effect.life, effect.step) for effect in done]}, expected {end.steps}"
            )
    return problems


def _of_order(expected: Expected, effects: Sequence[Effect]) -> list[str]:
    """An event of a lane begins when the one before it has done all its steps, for ever."""
    places: dict[str, list[int]] = {}
    for place, effect in enumerate(effects):
        places.setdefault(effect.workflow, []).append(place)
    return [
        f"{later} began before {earlier} was done, which is ahead of it in its lane"
        for lane in expected.lanes
        for earlier, later in pairwise(lane)
        if earlier in places and later in places and places[later][0] < places[earlier][-1]
    ]


def _explained(steps: Sequence[str], done: Sequence[Effect]) -> bool:
    """Whether `done` is `steps` with repeats only of the last one, by another process."""
    reached = {0}
    life: Any = None
    for effect in done:
        again = {
            place for place in reached if place and steps[place - 1] == effect.step and effect.life != life
        }
        on = {place + 1 for place in reached if place < len(steps) and steps[place] == effect.step}
        reached = again | on
        life = effect.life
    return len(steps) in reached

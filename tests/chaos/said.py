"""What the database says of conversations when all has come to rest, as plain values."""

import json
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from tests.chaos.conversations import Place
from tests.faults.rows import Rows

ANSWERS = (
    "DBOS.recv", "DBOS.wait_for", "DBOS.wait_for_any", "DBOS.getEvent", "DBOS.readStream", "DBOS.getResult",
)  # fmt: skip
"""The calls whose answers a workflow writes down as heard."""


class Flow(NamedTuple):
    """One workflow that talks: times in milliseconds."""

    name: str
    status: str
    end_reason: str | None
    generation: int
    deadline: int | None
    completed_at: int | None
    endings: int


class Answer(NamedTuple):
    """What a call of a workflow gave, as its checkpoint says."""

    step: int
    value: Any
    name: str = ""


class Hearing(NamedTuple):
    """What the code of a workflow was given by one call, and by whom it was run."""

    value: Any
    executor: int = 0


class Message(NamedTuple):
    """One message, by number."""

    destination: str
    sender: str | None
    topic: str | None
    value: str
    consumed_step: int | None


class Publication(NamedTuple):
    """One publication, by number."""

    name: str
    key: str
    value: str
    seen: int
    outcome: str | None
    taken_by: str | None
    taken_step: int | None


class Entry(NamedTuple):
    """One entry of a stream, by position; only those that count."""

    workflow: str
    value: str | None
    ends: bool


@dataclass
class Said:
    """All rows of conversations."""

    events: dict[Place, str] = field(default_factory=dict)
    flows: dict[str, Flow] = field(default_factory=dict)
    answers: dict[str, list[Answer]] = field(default_factory=lambda: defaultdict(list))
    messages: list[Message] = field(default_factory=list)
    publications: list[Publication] = field(default_factory=list)
    entries: list[Entry] = field(default_factory=list)
    values: dict[str, Any] = field(default_factory=dict)
    """The latest state that each has shown."""
    heard: dict[str, dict[int, list[Hearing]]] = field(
        default_factory=lambda: defaultdict(lambda: defaultdict(list))
    )
    """By workflow and number of the call: what was heard, each time that the code ran."""


FINAL = "('SUCCESS', 'ERROR', 'CANCELLED', 'MAX_RECOVERY_ATTEMPTS_EXCEEDED')"


def read_said(rows: Rows, heard: Iterable[tuple[str, int, Any, int]]) -> Said:
    """Ask for all of it; `heard` is what the processes have left."""
    said = Said()
    talks = "(left(w.id, 5) = 'talk/' OR w.id IN (SELECT workflow_id FROM {t}events WHERE substr(value, 1, 2) = '7 '))"
    for row in rows.query(
        "SELECT w.id, w.partition, w.position, w.name, w.status, w.end_reason, w.generation, w.deadline, "
        "w.completed_at, (SELECT count(*) FROM chaos.endings AS e WHERE e.workflow_id = w.id "
        f"AND e.status IN {FINAL}) FROM {{t}}workflows AS w WHERE {talks}"
    ):
        workflow, partition, offset, *flow = row
        said.flows[workflow] = Flow(*flow)
        if partition is not None:
            said.events[Place(partition, offset)] = workflow
    names = ", ".join(f"'{name}'" for name in ANSWERS)
    for workflow, step, name, output, error in rows.query(
        "SELECT c.workflow_id, c.step, c.name, c.output, c.error FROM {t}steps AS c JOIN {t}workflows AS w "
        "ON w.id = c.workflow_id AND w.generation = c.generation "
        f"WHERE c.step > 0 AND c.name IN ({names}) AND c.codec IS DISTINCT FROM 'stream-end' AND {talks} ORDER BY 1, 2"
    ):
        said.answers[workflow].append(Answer(step, "cancelled" if error else value_of(output), name))
    said.messages = [
        Message(destination, sender, topic, value_of(value), step)
        for destination, sender, topic, value, step in rows.query(
            "SELECT destination, sender, topic, value, consumed_step FROM {t}messages ORDER BY number"
        )
    ]
    said.publications = [
        Publication(name, key, value_of(value), *rest)
        for name, key, value, *rest in rows.query(
            "SELECT a.name, a.key, p.value, p.seen, p.outcome, p.taken_by, p.taken_step FROM {t}publications AS p "
            "JOIN {t}anchors AS a ON a.id = p.anchor ORDER BY p.number"
        )
    ]
    said.entries = [
        Entry(workflow, value_of(value), ends)
        for workflow, value, ends in rows.query(
            "SELECT workflow_id, value, ends FROM {t}stream_entries WHERE committed AND cut_in IS NULL "
            "ORDER BY workflow_id, position"
        )
    ]
    for workflow, value in rows.query(
        "SELECT workflow_id, value FROM {t}published_values WHERE key = 'state' AND cut_in IS NULL ORDER BY take, number"
    ):
        said.values[workflow] = value_of(value)
    for workflow, number, value, executor in heard:
        said.heard[workflow][number].append(Hearing(value, executor))
    return said


def value_of(text: str | None) -> Any:
    """A stored value; of what matched, the value alone."""
    value = None if text is None else json.loads(text)
    return value["v"]["value"] if isinstance(value, dict) else value

"""Processes and what workflows are doing, as operators see them."""

from __future__ import annotations

from typing import Literal

from dbos_events.model.dataclass import dataclass

ProcessStateWord = Literal["alive", "silent", "dead"]


@dataclass(frozen=True, slots=True)
class ProcessState:
    """One process start of an application.

    `state` is `silent` where its lease is over and nobody has declared it dead yet, `dead` where it has ended, with
    `end_reason`. Times are milliseconds since 1970 (UTC) by the database's clock.
    """

    executor: int
    application: str
    label: str
    pid: int
    version: str
    state: ProcessStateWord
    started_at: int
    seen_ms: int | None
    ended_at: int | None
    end_reason: str | None
    workflows: int
    partitions: int
    longest_step: str | None = None
    longest_step_ms: int | None = None


@dataclass(frozen=True, slots=True)
class RunningStep:
    """A step that has been running for a while, as its process told it."""

    workflow_id: str
    number: int
    name: str
    started_at: int


DoingWord = Literal[
    "running", "sleeping", "between attempts", "waiting", "held", "queued", "delayed", "ready", "abandoned", "no process"
]  # fmt: skip


@dataclass(frozen=True, slots=True)
class Doing:
    """What a workflow that has not ended is doing now: a word to count by, and a sentence.

    `step` is the one that runs, where it has run for some seconds; `behind` the workflow that it waits behind.
    """

    word: DoingWord
    text: str
    step: str | None = None
    step_started_at: int | None = None
    behind: str | None = None

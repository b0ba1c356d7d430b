"""What becomes of a write."""

from __future__ import annotations

from typing import TypeAlias

from dbos_events.model.dataclass import dataclass


@dataclass(frozen=True, slots=True)
class Written:
    """It is durable, by this transaction or by one whose answer was lost."""


@dataclass(frozen=True, slots=True)
class NoWorkflow:
    """Nothing was written, not even the checkpoint: the workflow that it is for does not exist."""

    workflow_id: str


@dataclass(frozen=True, slots=True)
class Gone:
    """Nothing was written, not even the checkpoint: somebody else got what it was about."""


@dataclass(frozen=True, slots=True)
class Fenced:
    """Nothing was written: the workflow does not run under this token any more."""

    status: str | None


@dataclass(frozen=True, slots=True)
class Existing:
    """The workflow to start was there already; the start changed nothing."""

    workflow_id: str
    name: str
    status: str
    queue: str | None
    class_name: str | None


@dataclass(frozen=True, slots=True)
class Deduplicated:
    """Nothing was written: the workflow `winner` has the deduplication id."""

    winner: str


@dataclass(frozen=True, slots=True)
class Debounced:
    """The call belongs to this run."""

    workflow_id: str


@dataclass(frozen=True, slots=True)
class Refused:
    """The database does not take this value; the workflow fails with the error."""

    error: Exception


Result: TypeAlias = Written | Fenced | Existing | NoWorkflow | Gone | Deduplicated | Debounced | Refused
WRITTEN = Written()

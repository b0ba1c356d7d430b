"""What a run is made of: small values, what unwinds it, and what it asks of its parts. They know nothing of the run."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from dbos_events.model.dataclass import dataclass

if TYPE_CHECKING:
    import asyncio

    from dbos_events.storage.writes import SettleEntries


class Unwind(BaseException):
    """Leaves a workflow function whose run is being parked; nothing it does after that counts."""


@dataclass(slots=True)
class Place:
    """Where a durable call stands in its run: by name for replay, by number for people.

    The number changes when another call was recorded there before an earlier one failed.
    """

    call: str
    number: int


@dataclass(frozen=True, slots=True)
class EventOrigin:
    """The event that a workflow was started by.

    `asks_again` says that its consumer's `when` could not judge it when it was taken in.
    """

    consumer: int
    quarantines: bool
    holds_lane: bool
    asks_again: bool = False


@dataclass(slots=True)  # not frozen: one is made for each run, in a third of the time
class Ending:
    """How a run left this process: `ended` with a value or an error, `parked`, or `lost`. Nobody changes it."""

    kind: str
    value: Any = None
    error: BaseException | None = None


PARKED = Ending("parked")
LOST = Ending("lost")


@dataclass(frozen=True, slots=True)
class Unsuccessful:
    """A recorded call of this run that did not succeed: what the user's code saw, and its checkpoint."""

    error: BaseException
    step: int
    order: int
    cancelled: bool = False


class Branch(Protocol):
    """A branch of a run: the workflow function, or a task that it started."""

    task: int
    """The identity of the task that makes its calls; 0 before the first one."""

    def own(self, task: asyncio.Task[Any], loop: asyncio.AbstractEventLoop) -> Branch:
        """The branch of the task that runs on `loop`, which is this one unless it was made past the task factory."""
        ...

    def next_call(self) -> str:
        """Name the next durable call of this branch."""
        ...


class Entries(Protocol):
    """What a run has written into streams."""

    def settle(self, step: int, attempt: int | None) -> SettleEntries | None:
        """What is to be written of a step's entries when it ends; `attempt` is the one that ended well."""
        ...

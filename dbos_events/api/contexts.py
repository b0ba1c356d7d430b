"""Context managers that say how the next workflow is started."""

from __future__ import annotations

import math
from contextvars import Token
from types import TracebackType
from typing import Literal, Self, TypeAlias

from dbos_events.engine.context import NEXT_REUSE, NEXT_WORKFLOW_ID
from dbos_events.engine.timelimits import NEXT_TIME_LIMITS, TimeLimits
from dbos_events.errors import DBOSException
from dbos_events.telemetry.log import logger

WorkflowIDReusePolicy: TypeAlias = Literal["reject", "return-existing"]
POLICIES = ("reject", "return-existing")


class SetWorkflowID:
    """Gives the first workflow that is started in the block this id.

    The same id is the same workflow: starting it again, from anywhere, gives the one that is there.
    Later starts in the block get generated ids, with a warning.

    Args:
        workflow_id: The id.
        workflow_id_reuse_policy: "return-existing" (the default): a start whose id is taken gives a handle on what is
            there; "reject": it raises `DBOSWorkflowIDInUseError`.
    """

    def __init__(
        self, workflow_id: str, *, workflow_id_reuse_policy: WorkflowIDReusePolicy | None = None
    ) -> None:
        check_workflow_id(workflow_id)
        check_policy("workflow_id_reuse_policy", workflow_id_reuse_policy)
        self._workflow_id = workflow_id
        self._policy = workflow_id_reuse_policy
        self._token: Token[list[str] | None] | None = None
        self._policy_token: Token[str | None] | None = None

    def __enter__(self) -> Self:
        if self._token is not None:
            raise DBOSException("This SetWorkflowID is in use already; make a new one for a nested block.")
        self._token = NEXT_WORKFLOW_ID.set([self._workflow_id])
        self._policy_token = NEXT_REUSE.set(self._policy)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._token is not None:
            NEXT_WORKFLOW_ID.reset(self._token)
            self._token = None
        if self._policy_token is not None:
            NEXT_REUSE.reset(self._policy_token)
            self._policy_token = None


class SetWorkflowTimeout:
    """Bounds how long the workflows take that are started in the block: from start to end.

    One that is started or called directly has its deadline at once, one on a queue when it is claimed. When the deadline
    passes, the workflow is cancelled: whoever waits for its result gets `DBOSAwaitedWorkflowCancelledError`. Crashes,
    sleeps, retries and recovery do not move it. A child has the earlier one of its own deadline and its parent's.

    Args:
        workflow_timeout_sec: Seconds, above 0. None means no timeout, and cuts the deadline that a child has from its
            parent. Left out, it is as if the block said nothing of it.
        queue_timeout_seconds: Seconds from enqueueing within which a process has to claim the workflow; else it is
            cancelled without a run. No effect on what is started directly.

    A nested block counts instead of the outer one.

    Raises:
        DBOSException: A time is not a number above 0.
    """

    def __init__(
        self,
        workflow_timeout_sec: float | Literal["inherit"] | None = "inherit",
        *,
        queue_timeout_seconds: float | None = None,
    ) -> None:
        timeout = None if workflow_timeout_sec == "inherit" else workflow_timeout_sec
        self._limits = TimeLimits(
            milliseconds("SetWorkflowTimeout: the timeout", timeout),
            milliseconds("SetWorkflowTimeout: queue_timeout_seconds", queue_timeout_seconds),
            inherits=workflow_timeout_sec is not None,
        )
        self._token: Token[TimeLimits | None] | None = None

    def __enter__(self) -> Self:
        if self._token is not None:
            raise DBOSException(
                "This SetWorkflowTimeout is in use already; make a new one for a nested block."
            )
        self._token = NEXT_TIME_LIMITS.set(self._limits)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._token is not None:
            NEXT_TIME_LIMITS.reset(self._token)
            self._token = None


LONGEST_SECONDS = 100 * 366 * 86_400
"""A time beyond it is taken for a mistake, such as milliseconds."""


def milliseconds(what: str, seconds: object) -> int | None:
    """A bound as it is stored; None stays None.

    Raises:
        DBOSException: It is not a number above 0, or is above a hundred years.
    """
    if seconds is None:
        return None
    if isinstance(seconds, bool) or not isinstance(seconds, (int, float)) or not 0 < seconds < math.inf:
        raise DBOSException(f"{what} must be a number of seconds above 0, not {seconds!r}.")
    if seconds > LONGEST_SECONDS:
        raise DBOSException(f"{what} is {seconds!r} seconds, more than a hundred years. Give it in seconds.")
    return max(1, round(seconds * 1000))


def take_workflow_id() -> str | None:
    """The id that the surrounding block set, for the first who asks."""
    ids = NEXT_WORKFLOW_ID.get()
    if ids is None:
        return None
    if not ids:
        logger.warning(
            "Only the first workflow in a SetWorkflowID block gets its id; this one gets a generated id."
        )
        return None
    return ids.pop()


def check_workflow_id(workflow_id: object) -> None:
    """Refuse what the database could not store, or nobody could type.

    Raises:
        DBOSException: The id is empty, or holds NUL or half of a surrogate pair.
    """
    if not isinstance(workflow_id, str) or not workflow_id.strip():
        raise DBOSException(f"A workflow id must be a text that is not blank, not {workflow_id!r}.")
    if "\0" in workflow_id or any("\ud800" <= letter <= "\udfff" for letter in workflow_id):
        raise DBOSException(
            f"The workflow id {workflow_id!r} holds a character that a database cannot store."
        )


def check_policy(name: str, policy: object) -> None:
    """Refuse a policy that there is not.

    Raises:
        DBOSException: It is none of the two.
    """
    if policy is not None and policy not in POLICIES:
        raise DBOSException(f"{name} must be 'reject' or 'return-existing', not {policy!r}.")

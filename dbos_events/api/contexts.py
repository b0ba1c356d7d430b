"""Context managers that say how the next workflow is started."""

from __future__ import annotations

from contextvars import Token
from types import TracebackType
from typing import Literal, Self, TypeAlias

from dbos_events.engine.context import NEXT_REUSE, NEXT_WORKFLOW_ID
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

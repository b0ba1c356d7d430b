"""Context managers that say how the next workflow is started."""

from __future__ import annotations

from contextvars import Token
from types import TracebackType
from typing import Self

from dbos_events.engine.context import NEXT_WORKFLOW_ID
from dbos_events.errors import DBOSException
from dbos_events.telemetry.log import logger


class SetWorkflowID:
    """Gives the first workflow that is started in the block this id.

    The same id is the same workflow: starting it again, from anywhere, gives the one that is there.
    Later starts in the block get generated ids, with a warning.
    """

    def __init__(self, workflow_id: str) -> None:
        check_workflow_id(workflow_id)
        self._workflow_id = workflow_id
        self._token: Token[list[str] | None] | None = None

    def __enter__(self) -> Self:
        if self._token is not None:
            raise DBOSException("This SetWorkflowID is in use already; make a new one for a nested block.")
        self._token = NEXT_WORKFLOW_ID.set([self._workflow_id])
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._token is not None:
            NEXT_WORKFLOW_ID.reset(self._token)
            self._token = None


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

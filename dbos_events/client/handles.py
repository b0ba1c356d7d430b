"""Handles that a client gives: what they are asked is recorded nowhere, also within a workflow."""

from __future__ import annotations

from typing import TypeVar

from dbos_events.api.handles import WorkflowHandle, WorkflowHandleAsync
from dbos_events.engine.context import without_caller
from dbos_events.model.workflow import WorkflowStatus

R = TypeVar("R")


class ClientHandle(WorkflowHandle[R]):
    """A workflow as a client sees it, for code that may block."""

    def get_result(self, *, polling_interval_sec: float = 1.0) -> R:
        """Wait for the workflow; gives what it returned, or raises what it raised."""
        with without_caller():
            return super().get_result(polling_interval_sec=polling_interval_sec)

    def get_status(self) -> WorkflowStatus:
        """How the workflow stands; raises `DBOSNonExistentWorkflowError` when there is none."""
        with without_caller():
            return super().get_status()


class ClientHandleAsync(WorkflowHandleAsync[R]):
    """A workflow as a client sees it, for code on an event loop."""

    async def get_result(self, *, polling_interval_sec: float = 1.0) -> R:
        """Wait for the workflow; gives what it returned, or raises what it raised."""
        with without_caller():
            return await super().get_result(polling_interval_sec=polling_interval_sec)

    async def get_status(self) -> WorkflowStatus:
        """How the workflow stands; raises `DBOSNonExistentWorkflowError` when there is none."""
        with without_caller():
            return await super().get_status()

"""Values that workflows publish while they run: `set_event`, `get_event`, `get_all_events`."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from dbos_events.api.reading import asked
from dbos_events.api.session import Session, refuse_on_loop
from dbos_events.engine.context import CURRENT, Scope
from dbos_events.engine.drivers import drive, drive_async
from dbos_events.engine.operations.values import (
    GET_ALL,
    get_all_values,
    get_value,
    get_value_recorded,
    set_value,
    set_value_in_step,
)
from dbos_events.engine.outlet import checked_key
from dbos_events.engine.values_and_streams import is_on_own_thread
from dbos_events.errors import DBOSException
from dbos_events.model.times import LONGEST_WAIT

if TYPE_CHECKING:
    from dbos_events.engine.effects import Flow
    from dbos_events.engine.run import Run


class Values(Session):
    """The verbs about published values."""

    def set_event(self, key: str, value: Any, *, serialization_type: object = None) -> None:
        """Publish `value` under `key` for everybody who knows the id of this workflow; durable when it returns.

        The last value of a key counts. In a workflow it is set exactly once, and visible only together with its record;
        in a step at least once. A generation that does without this call does without the value as well
        (docs/values_and_streams.md).

        `serialization_type` is accepted for programs written for DBOS Transact; the App's serializer stores every value.

        Raises:
            SerializationError: The value cannot be stored; nothing was.
            DBOSException: It was called outside of workflows and steps, or the key is not usable.
        """
        refuse_on_loop("set_event")
        drive(_set(self, key, value))

    async def set_event_async(self, key: str, value: Any, *, serialization_type: object = None) -> None:
        """As `set_event`, without blocking the loop."""
        await drive_async(_set(self, key, value))

    def get_event(self, workflow_id: str, key: str, timeout_seconds: float | None = 60) -> Any:
        """Wait for a value that another workflow publishes; gives the latest one, or None when there is none.

        None comes after `timeout_seconds` (None: no bound), or at once when the workflow has ended without the key. A
        workflow that does not exist yet is waited for. In a workflow the answer is recorded, the wait is not prolonged by
        a crash, and a long one costs a row.

        Raises:
            SerializationError: The value cannot be read here.
        """
        refuse_on_loop("get_event")
        return drive(_get(self, workflow_id, key, timeout_seconds))

    async def get_event_async(self, workflow_id: str, key: str, timeout_seconds: float | None = 60) -> Any:
        """As `get_event`, without blocking the loop."""
        return await drive_async(_get(self, workflow_id, key, timeout_seconds))

    def get_all_events(self, workflow_id: str) -> dict[str, Any]:
        """The latest value of each key that a workflow has published, by key; empty when there is none.

        In a workflow the answer is recorded.
        """
        refuse_on_loop("get_all_events")
        return drive(_get_all(self, workflow_id))

    async def get_all_events_async(self, workflow_id: str) -> dict[str, Any]:
        """As `get_all_events`, without blocking the loop."""
        return await drive_async(_get_all(self, workflow_id))


def writing_scope(session: Session, verb: str) -> Scope:
    """The scope of the workflow or step that sets a value or writes into a stream.

    Raises:
        DBOSException: There is none, or it belongs to another App.
    """
    scope = CURRENT.get()
    if scope is None:
        raise DBOSException(
            f"DBOS.{verb} must be called from within a workflow or a step, since it publishes for that workflow."
        )
    if scope.run.core is not session.core:
        raise DBOSException(f"DBOS.{verb} was called in a workflow of another App. Call it on that App.")
    return scope


def reading_run() -> Run | None:
    """The run whose step waits on its own thread, so that what stops the run ends the wait; else None."""
    scope = CURRENT.get()
    return scope.run if scope is not None and is_on_own_thread(scope.run) else None


def checked_seconds(name: str, seconds: object) -> float | None:
    """A time to wait.

    Raises:
        ValueError: It is not a number of seconds.
    """
    if seconds is None:
        return None
    if isinstance(seconds, bool) or not isinstance(seconds, int | float) or math.isnan(min(seconds, 1)):
        raise ValueError(f"{name}={seconds!r} is not a number of seconds.")
    return None if seconds > LONGEST_WAIT else float(seconds)


def checked_workflow_id(workflow_id: object) -> str:
    """The id of a workflow to read from.

    Raises:
        DBOSException: It is not text.
    """
    if not isinstance(workflow_id, str) or not workflow_id:
        raise DBOSException(f"{workflow_id!r} is not the id of a workflow. Give the text of its id.")
    return workflow_id


def _set(session: Session, key: str, value: Any) -> Flow[None]:
    scope = writing_scope(session, "set_event")
    checked_key("key of an event", key)
    if scope.step is not None:
        return set_value_in_step(scope.run, scope.step, key, value)
    return set_value(scope.run, scope.run.locate(scope), key, value)


def _get(session: Session, workflow_id: str, key: str, timeout_seconds: float | None) -> Flow[Any]:
    core = session.core
    checked_workflow_id(workflow_id)
    checked_key("key of an event", key)
    seconds = checked_seconds("timeout_seconds", timeout_seconds)
    scope = CURRENT.get()
    if scope is None or scope.step is not None:
        return get_value(core, reading_run(), workflow_id, key, seconds)
    place = scope.run.locate(scope)
    return get_value_recorded(scope.run, place, scope.run.locate(scope), workflow_id, key, seconds)


def _get_all(session: Session, workflow_id: str) -> Flow[dict[str, Any]]:
    core = session.core
    checked_workflow_id(workflow_id)
    return asked(core, GET_ALL, lambda: get_all_values(core, workflow_id))

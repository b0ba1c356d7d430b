"""Ask which processes there are, and what workflows are doing now."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from dbos_events.model.process import Doing
from dbos_events.model.times import shown_moment, shown_span
from dbos_events.model.workflow import DELAYED, ENQUEUED

if TYPE_CHECKING:
    from dbos_events.model.process import ProcessState
    from dbos_events.storage.protocol import Storage
    from dbos_events.storage.subjects.processes import Activity

AT_ONCE = 500


class ProcessControl:
    """What an operator may ask about processes; it changes nothing."""

    def __init__(self, storage: Storage) -> None:
        self._storage = storage

    def list(self, application: str | None = None) -> list[ProcessState]:
        """Live processes, and those that ended within the last hour, by application and label."""
        return self._storage.processes.list(application)

    def doing(self, workflow_ids: Sequence[str]) -> dict[str, Doing]:
        """What each of the workflows does now; those that have ended, or do not exist, are left out."""
        found: dict[str, Doing] = {}
        for start in range(0, len(workflow_ids), AT_ONCE):
            asked = workflow_ids[start : start + AT_ONCE]
            for one in self._storage.processes.activities(asked).values():
                found[one.id] = doing_of(one)
        return found


def doing_of(one: Activity) -> Doing:
    """The word and the sentence for a workflow that has not ended."""
    if one.owner is not None:
        return _owned(one)
    if one.behind is not None:
        return Doing("held", f"behind {one.behind}, an earlier event of its lane", behind=one.behind)
    if one.status == DELAYED:
        return Doing("delayed", f"until {shown_moment(one.delay_until)}")
    if one.status == ENQUEUED:
        where = f"on the queue {one.queue}" if one.queue else "for any process of its application"
        return Doing("queued", f"{where}, since {shown_span(one.now - one.created_at)}")
    return _parked(one)


def _parked(one: Activity) -> Doing:
    if one.wake_at is not None and one.wake_at == one.next_at:
        return Doing("between attempts", _between_attempts(one))
    if one.awaits is not None:
        return Doing("waiting", _waiting(one))
    if one.wake_at is not None:
        return Doing("sleeping", f"until {shown_moment(one.wake_at)}, {_ahead(one, one.wake_at)}")
    whom = "the holder of its partition" if one.lane is not None else "a process that takes it up"
    return Doing("ready", f"for {whom}")


def _owned(one: Activity) -> Doing:
    process = f"{one.label}:{one.pid}"
    if not one.alive:
        return Doing("abandoned", f"its process {process} is dead; another one takes it up")
    if not one.fresh:
        return Doing(
            "no process", f"its process {process} is silent; when it is found dead, another one takes it up"
        )
    if one.behind is not None:
        return Doing(
            "held", f"behind {one.behind}, an earlier event of its lane, in {process}", behind=one.behind
        )
    if one.step is not None and one.step_started_at is not None:
        return Doing(
            "running",
            f"step {one.number} {one.step} for {shown_span(one.now - one.step_started_at)}, in {process}",
            one.step,
            one.step_started_at,
        )
    since = max(one.last_step_at or 0, one.started_at or one.created_at)
    what = "since its last step" if one.last_step_at else "since it began"
    return Doing(
        "running", f"in {process}; no step of it has taken long, {shown_span(one.now - since)} {what}"
    )


def _between_attempts(one: Activity) -> str:
    wake_at = one.wake_at or 0
    why = "" if one.error_type is None else f"; {one.attempt} failed, the last with {one.error_type}"
    text = (one.error_message or "").partition("\n")[0]
    return f"the next begins at {shown_moment(wake_at)}, {_ahead(one, wake_at)}{why}{f': {text}' if why and text else ''}"


def _waiting(one: Activity) -> str:
    until = "" if one.wake_at is None else f", at most until {shown_moment(one.wake_at)}"
    what = "one of several" if one.awaits == "*" else (one.awaits or "").replace(":", " ", 1)
    return f"for {what}{until}"


def _ahead(one: Activity, at: int) -> str:
    left = at - one.now
    return f"in {shown_span(left)}" if left > 0 else "which is now: a process takes it up"

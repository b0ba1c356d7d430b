"""The filters of `dbos-events workflow list`."""

from __future__ import annotations

import dataclasses
import re
from datetime import datetime
from enum import StrEnum
from typing import Annotated

import typer

from dbos_events.api.wording import nearest
from dbos_events.model.workflow import WorkflowFilter, WorkflowStatusString


class Sort(StrEnum):
    """Which workflows come first, by their creation."""

    newest = "newest"
    oldest = "oldest"


STATES = ", ".join(state.value for state in WorkflowStatusString)

_MEANT = {
    **dict.fromkeys(("FAILED", "FAILURE", "QUARANTINED"), "ERROR"),
    **dict.fromkeys(("RUNNING", "ACTIVE", "SLEEPING"), "PENDING"),
    **dict.fromkeys(("DONE", "COMPLETED", "SUCCEEDED", "FINISHED", "OK"), "SUCCESS"),
    **dict.fromkeys(("QUEUED", "WAITING"), "ENQUEUED"),
    **dict.fromkeys(("CANCELED", "ABORTED"), "CANCELLED"),
}
"""What states are called elsewhere."""


def _status(text: str) -> WorkflowStatusString:
    if isinstance(text, WorkflowStatusString):
        return text
    asked = text.upper()
    if asked in WorkflowStatusString.__members__:
        return WorkflowStatusString[asked]
    meant = _MEANT.get(asked) or nearest(asked, WorkflowStatusString.__members__)
    hint = f"Did you mean {meant}?" if meant else f"There are {STATES}."
    raise typer.BadParameter(f"{text!r} is not a state of workflows. {hint}")


Status = Annotated[
    list[WorkflowStatusString] | None,
    typer.Option(metavar="STATE", parser=_status, help=f"In this state, repeatable: {STATES}."),
]
Name = Annotated[list[str] | None, typer.Option(metavar="NAME", help="Of this function; repeatable.")]
Queue = Annotated[list[str] | None, typer.Option(metavar="NAME", help="Of this queue; repeatable.")]
Prefix = Annotated[list[str] | None, typer.Option(metavar="TEXT", help="Whose id begins so; repeatable.")]
Parent = Annotated[list[str] | None, typer.Option(metavar="ID", help="Started by this workflow; repeatable.")]
Executor = Annotated[
    list[str] | None, typer.Option(metavar="LABEL", help="Run by the process of this label; repeatable.")
]
Version = Annotated[
    list[str] | None,
    typer.Option("--app-version", metavar="TEXT", help="Begun by this version of the code; repeatable."),
]
Application = Annotated[
    list[str] | None,
    typer.Option(metavar="NAME", help="Of this application; repeatable. Of all by default."),
]
Since = Annotated[
    str | None,
    typer.Option(metavar="TIME", help="Created at or after: ISO 8601, or an age such as 15m, 2h, 3d."),
]
Until = Annotated[str | None, typer.Option(metavar="TIME", help="Created at or before.")]
Limit = Annotated[int, typer.Option(min=1, metavar="COUNT", help="So many at most.")]
Offset = Annotated[int, typer.Option(min=0, metavar="COUNT", help="Leave out so many at the beginning.")]
Sorted = Annotated[Sort, typer.Option(help="Which come first.")]

_AGE = re.compile(r"(\d+)\s*([smhdw])")
_MILLISECONDS = {"s": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000, "w": 604_800_000}


def between(criteria: WorkflowFilter, since: str | None, until: str | None, now_ms: int) -> WorkflowFilter:
    """The filter, narrowed to what was created in that time; ages count back from `now_ms`."""
    return dataclasses.replace(
        criteria, created_from=milliseconds(since, now_ms), created_until=milliseconds(until, now_ms)
    )


def milliseconds(text: str | None, now_ms: int) -> int | None:
    """ISO 8601 (local where it names no zone) or an age, as milliseconds since 1970."""
    if text is None:
        return None
    age = _AGE.fullmatch(text.strip())
    if age:
        return now_ms - int(age[1]) * _MILLISECONDS[age[2]]
    try:
        return round(datetime.fromisoformat(text.strip()).timestamp() * 1000)
    except ValueError:
        raise typer.BadParameter(
            f"{text!r} is neither a time in ISO 8601, such as 2026-11-22T10:00:00Z, nor an age, such as 15m."
        ) from None

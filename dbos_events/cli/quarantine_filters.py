"""The options that say which events in quarantine are meant."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Annotated, Any, get_type_hints

import typer

from dbos_events.cli.filters import milliseconds
from dbos_events.model.dataclass import dataclass, replace
from dbos_events.model.quarantine import QuarantineFilter

Consumer = Annotated[list[str] | None, typer.Option(metavar="NAME", help="Of this consumer; repeatable.")]
Topic = Annotated[list[str] | None, typer.Option(metavar="NAME", help="Of this topic; repeatable.")]
Partition = Annotated[list[int] | None, typer.Option(metavar="NUMBER", help="Of this partition; repeatable.")]
FirstOffset = Annotated[int | None, typer.Option(metavar="OFFSET", help="From this offset on.")]
LastOffset = Annotated[int | None, typer.Option(metavar="OFFSET", help="Up to this offset, inclusive.")]
Reason = Annotated[
    list[str] | None,
    typer.Option(
        "--quarantine-reason",
        metavar="TEXT",
        help="Put aside for this reason, such as attempts-exhausted or version-mismatch; repeatable.",
    ),
]
ErrorType = Annotated[
    list[str] | None,
    typer.Option(metavar="CLASS", help="Failed with this error class, such as ValueError; repeatable."),
]
ErrorText = Annotated[
    str | None, typer.Option(metavar="TEXT", help="Whose error message has this in it; case does not count.")
]
Since = Annotated[
    str | None,
    typer.Option(metavar="TIME", help="Put aside at or after: ISO 8601, or an age such as 15m, 2h, 3d."),
]
Until = Annotated[str | None, typer.Option(metavar="TIME", help="Put aside at or before.")]
Application = Annotated[
    list[str] | None,
    typer.Option(metavar="NAME", help="Of this application; repeatable. Of all by default."),
]


@dataclass(frozen=True, slots=True)
class Chosen:
    """The filters of one command line; `narrows` is false when none was given."""

    criteria: QuarantineFilter
    since: str | None
    until: str | None

    @property
    def narrows(self) -> bool:
        return not self.criteria.is_open or self.since is not None or self.until is not None

    def at(self, now_ms: int, **more: Any) -> QuarantineFilter:
        """The filter with the times in it, which may be ages that count back from `now_ms`."""
        return replace(
            self.criteria,
            quarantined_from=milliseconds(self.since, now_ms),
            quarantined_until=milliseconds(self.until, now_ms),
            **more,
        )


_OPTIONS: dict[str, Any] = {
    "consumer": Consumer,
    "topic": Topic,
    "partition": Partition,
    "first_offset": FirstOffset,
    "last_offset": LastOffset,
    "quarantine_reason": Reason,
    "error_type": ErrorType,
    "error_text": ErrorText,
    "since": Since,
    "until": Until,
    "application": Application,
}


def with_filters(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command these options where it has the parameter `chosen`, in which it gets what they say."""
    hints = get_type_hints(command, include_extras=True)
    parameters: list[inspect.Parameter] = []
    for parameter in inspect.signature(command).parameters.values():
        if parameter.name == "chosen":
            parameters += [
                inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=kind)
                for name, kind in _OPTIONS.items()
            ]
        else:
            parameters.append(
                parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY, annotation=hints[parameter.name])
            )

    @functools.wraps(command)
    def call(**given: Any) -> None:
        command(chosen=_chosen(**{name: given.pop(name) for name in _OPTIONS}), **given)

    call.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    call.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return call


def _chosen(
    *,
    since: str | None,
    until: str | None,
    first_offset: int | None,
    last_offset: int | None,
    error_text: str | None,
    **several: list[Any] | None,
) -> Chosen:
    values = {name: tuple(given or ()) for name, given in several.items()}
    criteria = QuarantineFilter(
        applications=values["application"],
        consumers=values["consumer"],
        topics=values["topic"],
        partitions=values["partition"],
        reasons=values["quarantine_reason"],
        error_types=values["error_type"],
        error_text=error_text,
        first_offset=first_offset,
        last_offset=last_offset,
    )
    return Chosen(criteria, since, until)

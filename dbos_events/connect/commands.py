"""What the command line lends to the command group of a connector.

A connector registers a `typer.Typer` under the entry-point group `dbos_events.commands`; its name is the group's. It is
imported when it is asked for, or listed. A command finds these tools in its context: `ctx.obj`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, NoReturn, Protocol

GROUP = "dbos_events.commands"


class CommandTools(Protocol):
    """Handed to every command as `ctx.obj`."""

    def opened(
        self, database: str | None, schema: str | None, application: str | None = None
    ) -> AbstractContextManager[Any]:
        """`dbos_events.control.Control` over the database that these options, or the settings, mean."""
        ...

    def redrive(self, control: Any, workflow_id: str, *, fresh: bool = False) -> bool:
        """Run an event in quarantine again; whether it was there."""
        ...

    def load_app(self, target: str) -> Any:
        """Import a program, as `dbos-events run` does, without launching it; gives its App."""
        ...

    def milliseconds(self, text: str | None, now_ms: int) -> int | None:
        """The time that an option says: ISO 8601, or an age such as `2h`."""
        ...

    def moment(self, milliseconds: int | None) -> str | None:
        """A stored time in UTC, to the second."""
        ...

    def show_table(self, titles: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
        """Print rows under their titles."""
        ...

    def show_fields(self, fields: Mapping[str, object]) -> None:
        """Print names and values below each other."""
        ...

    def show_json(self, value: Any) -> None:
        """Print one JSON document."""
        ...

    def say(self, line: str) -> None:
        """Print a line that may hold data."""
        ...

    def fail(self, message: str, *, code: int = 1) -> NoReturn:
        """End the command with one line on standard error."""
        ...

"""What the command line lends to the command group of a connector.

A connector registers a `typer.Typer` under the entry-point group `dbos_events.commands`; its name is the group's. It is
imported when it is asked for, or listed. A command finds these tools in its context: `ctx.obj`.

A connector for a log registers, under its own name and the entry-point group `dbos_events.log_commands`, a function that
makes such a `typer.Typer`. It is called with `LogCommands`, since the commands that every log has are written once.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, NoReturn, Protocol

GROUP = "dbos_events.commands"
LOG_GROUP = "dbos_events.log_commands"


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


class LogCommands(Protocol):
    """Handed to what makes the group of commands of a connector for a log."""

    def add_to(self, group: Any, *names: str, system: str) -> None:
        """Make commands that every log has commands of `group`, a `typer.Typer`.

        Args:
            group: Where the connector may have commands of its own, too.
            names: Of `pause`, `resume`, `trace`, `gaps`, `status`, `adopt-cluster`, `resolve-truncation`,
                `resolve-regression`, `adopt-watermark`, `rename-consumer` and `clear-alarms`; all, where none is named.
            system: What help texts call the log.
        """
        ...

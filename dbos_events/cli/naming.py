"""Texts that name a log: its group of commands is a connector's, so its name is filled in where they are shown.

`{group}` stands for the name of the group, which is that of the connector, and `{system}` for what its log is called.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from typer.core import TyperCommand, TyperGroup

from dbos_events.connect.commands import LOG_GROUP

GROUP, SYSTEM = "{group}", "{system}"


class LogWords(NamedTuple):
    """What a log is called in commands."""

    connector: str
    system: str

    def fill(self, text: str | None) -> str | None:
        """The text with these words."""
        return None if text is None else text.replace(GROUP, self.connector).replace(SYSTEM, self.system)


class LogCommand(TyperCommand):
    """A command of a log's group. Its texts, those of its options too, have the words of that log."""

    words: LogWords

    def __init__(self, *given: Any, **named: Any) -> None:
        super().__init__(*given, **named)
        self.help, self.epilog = self.words.fill(self.help), self.words.fill(self.epilog)
        for one in self.params:
            option: Any = one
            option.help = self.words.fill(option.help)


def command_class(words: LogWords) -> type[LogCommand]:
    """The class of commands of one log."""
    return type("LogCommand", (LogCommand,), {"words": words})


def connector_of(ctx: Any) -> str:
    """The connector whose group the running command stands in."""
    command: LogCommand = ctx.command
    return command.words.connector


# ------------------------------------------------------------------ examples beside the groups of logs


def log_names() -> list[str]:
    """The groups of commands that connectors for logs bring."""
    from importlib.metadata import entry_points  # takes 20 ms to import

    return sorted({entry.name for entry in entry_points(group=LOG_GROUP)})


def for_installed(text: str | None) -> str | None:
    """Examples with the first log that is installed; without one, those that need one are left out."""
    if text is None or GROUP not in text:
        return text
    found = log_names()
    if found:
        return text.replace(GROUP, found[0])
    return "\n".join(line for line in text.splitlines() if GROUP not in line)


class WithLogExamples(TyperCommand):
    """A command with examples that name a log, which is looked up when its help is shown."""

    def format_epilog(self, ctx: Any, formatter: Any) -> None:
        self.epilog = for_installed(self.epilog)
        super().format_epilog(ctx, formatter)


class GroupWithLogExamples(TyperGroup):
    """The same for a group."""

    def format_epilog(self, ctx: Any, formatter: Any) -> None:
        self.epilog = for_installed(self.epilog)
        super().format_epilog(ctx, formatter)

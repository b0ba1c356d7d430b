"""The commands put together, and what they have in common."""

from __future__ import annotations

import io
import sys
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from dbos_events.cli import (
    decisions,
    extensions,
    match,
    migrate,
    processes,
    quarantine,
    queue,
    run,
    schedule,
    workflow,
)
from dbos_events.cli.naming import GroupWithLogExamples
from dbos_events.cli.options import DEBUG, AsJson, examples
from dbos_events.cli.output import fail, show_json
from dbos_events.errors import DBOSException


class Root(GroupWithLogExamples):
    """Turns an error into one line on standard error and exit code 1; `--debug` shows its traceback."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except (typer.Exit, typer.Abort, BrokenPipeError):
            raise
        except Exception as error:
            if ctx.meta.get(DEBUG) or hasattr(
                error, "exit_code"
            ):  # the latter are of the command line itself
                raise
            fail(error.message if isinstance(error, DBOSException) else _unexpected(error))

    def list_commands(self, ctx: Any) -> list[str]:
        known = super().list_commands(ctx)
        groups = [name for name in known if isinstance(self.commands[name], TyperGroup)]
        logs, others = ([name for name in found if name not in known] for found in extensions.names())
        return [*(name for name in known if name not in groups), *logs, *groups, *others]

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        return super().get_command(ctx, cmd_name) or extensions.command_of(cmd_name)


def _unexpected(error: Exception) -> str:
    """What a driver says comes with the statement, which tells users nothing."""
    cause = getattr(error, "orig", None) or error
    return f"{type(cause).__name__}: {cause} (--debug shows where)"


app = typer.Typer(
    cls=Root,
    help="Durable workflows and exactly-once event consumers on PostgreSQL or SQLite.",
    epilog=examples(
        "dbos-events run consumers.py --health-port 8080",
        "dbos-events {group} status",
        "dbos-events workflow list --status ERROR --since 2h",
        "dbos-events quarantine list",
    ),
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)


def installed_version() -> str:
    """The release that is installed."""
    from importlib.metadata import version

    return version("dbos-events")


def _print_version(wanted: bool) -> None:
    if wanted:
        print(f"dbos-events {installed_version()}")
        raise typer.Exit


@app.callback()
def _root(
    ctx: typer.Context,
    _version: Annotated[
        bool,
        typer.Option("--version", help="Print the version and exit.", callback=_print_version, is_eager=True),
    ] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of a failure.")] = False,
) -> None:
    ctx.meta[DEBUG] = debug
    ctx.obj = extensions.Tools()
    for stream in (sys.stdout, sys.stderr):
        if isinstance(
            stream, io.TextIOWrapper
        ):  # data must not break a command on a terminal without Unicode
            stream.reconfigure(errors="backslashreplace")


@app.command("version")
def version_command(as_json: AsJson = False) -> None:
    """Print the version of the package and of Python.

    Keys of --json: version, python.
    """
    import platform

    if as_json:
        show_json({"version": installed_version(), "python": platform.python_version()})
    else:
        print(f"dbos-events {installed_version()} (Python {platform.python_version()})")


run.add_to(app)
app.add_typer(workflow.group, name="workflow")
app.add_typer(schedule.group, name="schedule")
decisions.add_to(quarantine.group)
app.add_typer(quarantine.group, name="quarantine")
processes.add_to(app)
app.add_typer(match.group, name="match")
app.add_typer(queue.group, name="queue")
migrate.add_to(app)

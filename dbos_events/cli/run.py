"""`dbos-events run`: a service that consumes, from a program that only declares."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer

from dbos_events.cli.options import DEBUG, Database, Schema, examples

EPILOG = examples(
    "dbos-events run consumers.py",
    "dbos-events run shop.consumers:app --health-port 8080 --log-level debug",
    "dbos-events run billing.py --http :8000",
    "DBOS_SYSTEM_DATABASE_URL=postgresql://user@host/shop dbos-events run consumers.py --json",
)


class Level(StrEnum):
    """How much the log says."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"
    CRITICAL = "critical"


Target = Annotated[
    str,
    typer.Argument(
        metavar="TARGET",
        help="A module (shop.consumers) or a file (consumers.py); :NAME after it names an App.",
    ),
]
HealthPort = Annotated[
    int | None,
    typer.Option(
        metavar="PORT", min=0, max=65535, help="Serve /livez and /readyz on this port; 0: a free one."
    ),
]
HealthHost = Annotated[str, typer.Option(metavar="ADDRESS", help="Address that the probes listen on.")]
Http = Annotated[
    str | None,
    typer.Option(
        metavar="[HOST]:PORT",
        help="Answer HTTP requests of the program's sources there, such as :8000; port 0: a free one.",
    ),
]
LogLevel = Annotated[
    Level | None, typer.Option(case_sensitive=False, help="Else log_level of the settings, INFO by default.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Log as JSON lines on a terminal too.")]
Name = Annotated[
    str | None,
    typer.Option(
        "--name",
        "--application",
        metavar="NAME",
        help="The application: processes of one name share their work.",
    ),
]
FailFast = Annotated[
    bool,
    typer.Option("--fail-fast", help="Exit when the database does not answer, instead of waiting for it."),
]
Debug = Annotated[bool, typer.Option("--debug", help="Show the traceback of a failed start.")]


def add_to(app: typer.Typer) -> None:
    """Make `run` a command of `app`."""
    app.command("run", epilog=EPILOG)(run_command)


def run_command(  # noqa: PLR0913 - one argument per option
    ctx: typer.Context,
    target: Target,
    *,
    health_port: HealthPort = None,
    health_host: HealthHost = "0.0.0.0",  # noqa: S104 - probes come from outside of the container
    http: Http = None,
    log_level: LogLevel = None,
    as_json: AsJson = False,
    name: Name = None,
    database: Database = None,
    schema: Schema = None,
    fail_fast: FailFast = False,
    debug: Debug = False,
) -> None:
    """Import TARGET, launch its App, and run its consumers, queues and workflows until a signal comes.

    TARGET is imported with the working directory on Python's path. Its App is the one that TARGET names,
    else the one behind DBOS; it is launched here, unless the program did so itself. Options win over what
    the program configures, that over environment variables (DBOS_EVENTS_...), and those over
    dbos-events.toml.

    When the database does not answer, the service waits for it. SIGTERM and SIGINT stop it gracefully: it
    answers not ready, takes nothing more in, lets what runs finish for at most shutdown_timeout_seconds,
    writes what is durable, releases its lease and leaves its groups. What has not finished then goes on in
    another process. A second signal, half a second later or more, stops it at once;
    nothing is lost, but others notice later.

    The log goes to standard output: on a terminal for people, else one JSON object a line with the keys
    time, level, logger, message and extra.

    Exit codes: 0 stopped gracefully. 1 failed to start; one line on standard error says why. 2 wrong usage.
    130, 143 stopped at once by a second SIGINT, SIGTERM.
    """
    if debug:
        ctx.meta[DEBUG] = True
    from dbos_events.cli.logs import configure_logging, set_level
    from dbos_events.cli.service import RunningService, ServiceOptions

    configure_logging(as_json=as_json)
    if log_level is not None:
        set_level(log_level.value)
    given = {"name": name, "system_database_url": database, "dbos_system_schema": schema}
    options = ServiceOptions(
        target=target,
        settings={key: value for key, value in given.items() if value is not None},
        log_level=None if log_level is None else log_level.value,
        health_host=health_host,
        health_port=health_port,
        fail_fast=fail_fast,
        http=http,
    )
    RunningService(options).run()

"""The log of `dbos-events run`: for people on a terminal, else one JSON object a line.

This is the only place that configures the root logger.
"""

from __future__ import annotations

import io
import json
import logging
import sys
import traceback
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, TextIO

from dbos_events.cli.output import harmless
from dbos_events.cli.values import plain
from dbos_events.errors import ConfigurationError
from dbos_events.telemetry.log import redact

if TYPE_CHECKING:
    from rich.console import Console

QUIET = ("alembic", "sqlalchemy", "asyncio", "urllib3")
"""Libraries that are only heard from WARNING on."""

_STANDARD = frozenset({*vars(logging.makeLogRecord({})), "message", "asctime", "taskName"})
_STYLES = {"DEBUG": "dim", "INFO": "green", "WARNING": "yellow", "ERROR": "bold red", "CRITICAL": "bold red"}


class JsonLineHandler(logging.StreamHandler[TextIO]):
    """Writes each record as one line: an object with time, level, logger, message and extra.

    `time` is UTC in ISO 8601, `extra` holds what the caller gave as `extra=`; a record of an exception has
    `exception`, its traceback, as well. Passwords in URLs are replaced.
    """

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
            "extra": {key: plain(value) for key, value in vars(record).items() if key not in _STANDARD},
        }
        exception = _exception_text(record)
        if exception:
            line["exception"] = exception
        return json.dumps(_redacted(line))


class TerminalHandler(logging.Handler):
    """Writes each record as a line for people: time of day, level, message."""

    def __init__(self, console: Console) -> None:
        super().__init__()
        self._console = console

    def emit(self, record: logging.LogRecord) -> None:
        from rich.text import Text

        try:
            line = Text()
            line.append(datetime.fromtimestamp(record.created).strftime("%H:%M:%S "), "dim")  # noqa: DTZ006 - local
            line.append(f"{record.levelname:<8} ", _STYLES.get(record.levelname, ""))
            line.append(_lines(redact(record.getMessage())))
            exception = _exception_text(record)
            if exception:
                line.append(f"\n{_lines(redact(exception))}", "dim")
            self._console.print(line, soft_wrap=True)
        except Exception:  # noqa: BLE001 - as every handler: logging must not break what logs
            self.handleError(record)


def configure_logging(*, as_json: bool) -> None:
    """Send what any logger says to standard output, in the form that fits where it goes."""
    logging.captureWarnings(True)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(line_buffering=True)
    handler: logging.Handler
    if as_json or not sys.stdout.isatty():
        handler = JsonLineHandler(sys.stdout)
    else:
        from rich.console import Console

        handler = TerminalHandler(Console(highlight=False, markup=False, emoji=False))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    set_level("INFO")


def set_level(level: str) -> None:
    """Let records of this level and above pass.

    Raises:
        ConfigurationError: There is no such level.
    """
    number = logging.getLevelNamesMapping().get(level.upper())
    if number is None:
        raise ConfigurationError(
            f"log_level {level!r} is not a level: use DEBUG, INFO, WARNING, ERROR or CRITICAL."
        )
    logging.getLogger().setLevel(number)
    for name in QUIET:
        logging.getLogger(name).setLevel(max(number, logging.WARNING))


def _lines(text: str) -> str:
    """The text as it is, but for what is no text to a terminal."""
    return "\n".join(map(harmless, text.expandtabs().split("\n")))


def _exception_text(record: logging.LogRecord) -> str:
    if record.exc_info and record.exc_info[1] is not None:
        return "".join(traceback.format_exception(record.exc_info[1])).rstrip()
    return ""


def _redacted(value: Any) -> Any:
    if isinstance(value, str):
        return redact(value)
    if isinstance(value, dict):
        return {key: _redacted(item) for key, item in value.items()}
    return [_redacted(item) for item in value] if isinstance(value, list) else value

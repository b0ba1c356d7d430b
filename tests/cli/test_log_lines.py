"""Each record is one line of JSON: whatever it holds, and without passwords."""

import io
import json
import logging
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest

from dbos_events.cli.logs import JsonLineHandler, TerminalHandler

Line = Callable[..., dict[str, Any]]


@pytest.fixture
def line() -> Line:
    """Log something; gives the object that is written."""

    def write(
        message: str, *details: object, extra: dict[str, Any] | None = None, fails: bool = False
    ) -> Any:
        stream = io.StringIO()
        logger = logging.Logger("shop")  # noqa: LOG001 - of this test alone
        logger.addHandler(JsonLineHandler(stream))
        logger.error(message, *details, extra=extra, exc_info=fails)
        text = stream.getvalue()
        assert text.endswith("\n")
        assert text.count("\n") == 1
        return json.loads(text)

    return write


def test_a_line_has_time_level_logger_message_and_extra(line: Line) -> None:
    written = line(
        "order %s\nfailed", 7, extra={"order": 7, "at": datetime(2026, 1, 2, tzinfo=UTC), "raw": b"\xff"}
    )

    assert datetime.fromisoformat(written.pop("time")).utcoffset() is not None
    assert written == {
        "level": "ERROR",
        "logger": "shop",
        "message": "order 7\nfailed",
        "extra": {"order": 7, "at": "2026-01-02T00:00:00+00:00", "raw": {"base64": "/w=="}},
    }


def test_an_exception_comes_with_its_traceback(line: Line) -> None:
    try:
        int("postgresql://me:secret@db/shop")
    except ValueError:
        written = line("failed", fails=True)
    assert written["exception"].startswith("Traceback (most recent call last)")
    assert "me:***@db" in written["exception"]


def test_passwords_are_left_out_wherever_they_are(line: Line) -> None:
    address = "postgresql://me:secret@db/shop"
    written = line("at %s", address, extra={"where": {"now": [address]}})
    assert "secret" not in json.dumps(written)
    assert written["message"] == "at postgresql://me:***@db/shop"


def test_on_a_terminal_markup_in_a_message_is_shown_as_it_is() -> None:
    from rich.console import Console

    stream = io.StringIO()
    logger = logging.Logger("shop")  # noqa: LOG001 - of this test alone
    logger.addHandler(TerminalHandler(Console(file=stream, width=20)))
    logger.warning("partition [0] of %s is [bold]slow[/bold]", "postgresql://me:secret@db/shop")
    assert "partition [0] of postgresql://me:***@db/shop is [bold]slow[/bold]\n" in stream.getvalue()

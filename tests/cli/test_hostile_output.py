"""What data holds never reaches a terminal raw: no escape sequence, no change of direction, no second line."""

import io
import json
import logging
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from rich.console import Console
from typer.testing import CliRunner

from dbos_events import App, KafkaMessage, SetWorkflowID
from dbos_events.cli.logs import TerminalHandler
from dbos_events.cli.root import app as command_line
from dbos_events.testing import TestApp
from tests.cli.service import PROGRAM, clean_environment

HOSTILE = "a\x1b[2J\x1b]0;t\x07\r\x9b31m\u202eb\nc\x08\x7f\u2028\ufeff"
ID = f"id-€-{HOSTILE}"
BYTES = HOSTILE.encode()
RAW = [sign for sign in HOSTILE if not sign.isprintable() and sign != "\n"]


class Hostile(Exception):
    pass


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'hostile.sqlite'}"


@pytest.fixture
def event_id(url: str) -> Iterator[str]:
    """A database in which every text that users can choose is hostile; gives the id of an event in quarantine."""
    app = App({"name": "hostile"})

    @app.step(name=f"step {HOSTILE}")
    def noted(value: str) -> str:
        return value

    @app.workflow(name=f"work {HOSTILE}")
    def work(value: str) -> dict[str, str]:
        return {noted(value): value}

    @app.workflow(name=f"gone {HOSTILE}")
    def waits() -> None:
        app.sleep(100)

    @app.kafka_consumer(topics=["orders"], name=f"on {HOSTILE}", ordering="key")
    def on_order(message: KafkaMessage) -> None:
        noted("taken")
        raise Hostile(HOSTILE)

    with TestApp(app, database_url=url) as dbos:
        with SetWorkflowID(ID):
            app.start_workflow(work, HOSTILE).get_result()
        with SetWorkflowID(f"waits {ID}"):
            app.start_workflow(waits)
        event = dbos.deliver(on_order, BYTES, key=BYTES, headers={HOSTILE: BYTES})
        dbos.run_until_idle()
        yield event.workflow_id


def assert_harmless(text: str) -> None:
    assert [sign for sign in RAW if sign in text] == []


def output_of(*arguments: str) -> str:
    """Both streams of a command on a database that is closed by now."""
    done = CliRunner().invoke(command_line, [*arguments])
    return done.output


def test_no_command_shows_data_raw(event_id: str, url: str) -> None:
    database = ("--database", url)
    commands = {
        "list": ("workflow", "list"),
        "get": ("workflow", "get", ID),
        "steps": ("workflow", "steps", ID),
        "event": ("workflow", "get", event_id),
        "cancel": ("workflow", "cancel", f"waits {ID}"),
        "unknown": ("workflow", "get", f"none {ID}"),
        "quarantine": ("quarantine", "list"),
        "show": ("quarantine", "show", event_id),
        "status": ("kafka", "status", "--all-applications"),
        "trace": ("kafka", "trace", "orders", "0", "0", "--all-applications"),
        "no topic": ("kafka", "trace", f"none {HOSTILE}", "0", "0", "--application", "hostile"),
        "gaps": ("kafka", "gaps", "--all-applications", "--all"),
        "pause": ("kafka", "pause", f"on {HOSTILE}", "--application", "hostile"),
        "resume": ("kafka", "resume", f"on {HOSTILE}", "--application", "hostile"),
        "no consumer": ("kafka", "pause", f"none {HOSTILE}", "--application", "hostile"),
        "no database": ("workflow", "list", "--database", f"sqlite:///{HOSTILE}/x.sqlite"),
    }
    for name, arguments in commands.items():
        text = output_of(*arguments, *(() if "--database" in arguments else database))
        assert_harmless(text)
        assert "\\x1b" in text or name == "gaps", (name, text)
    for arguments in (("workflow", "list"), ("workflow", "get", ID), ("quarantine", "show", event_id)):
        text = output_of(*arguments, "--json", *database)
        assert_harmless(text)
        json.loads(text)


def test_a_terminals_log_shows_no_data_raw() -> None:
    stream = io.StringIO()
    logger = logging.Logger("shop")  # noqa: LOG001 - of this test alone
    logger.addHandler(TerminalHandler(Console(file=stream, force_terminal=False, width=200)))
    error = Hostile(HOSTILE)
    logger.error("failed: %s", HOSTILE, exc_info=(Hostile, error, None))
    assert_harmless(stream.getvalue())
    assert "\\x1b" in stream.getvalue()


def test_data_that_the_terminals_encoding_lacks_is_escaped(event_id: str, url: str, tmp_path: Path) -> None:
    assert event_id
    done = subprocess.run(
        [PROGRAM, "workflow", "list", "--database", url],
        env=clean_environment(PYTHONIOENCODING="ascii"),
        cwd=tmp_path,
        capture_output=True,
        check=False,
        timeout=60,
    )
    assert (done.returncode, done.stderr) == (0, b"")
    assert b"\\u20ac" in done.stdout

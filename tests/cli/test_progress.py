"""A long command tells how far it is, on standard error, and a short one says nothing."""

import sys

import pytest

from dbos_events.cli.progress import EVERY_SECONDS, Progress


def test_a_short_one_says_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    now = 0.0
    progress = Progress("redriven", lambda: now)
    progress(200, 9000)
    now = 0.9
    progress(400, 9000)
    progress.over()
    assert capsys.readouterr() == ("", "")


def test_a_long_one_tells_now_and_then_how_much_is_left(capsys: pytest.CaptureFixture[str]) -> None:
    now = 0.0
    progress = Progress("redriven", lambda: now)
    for now in (2.0, 4.0, 2.0 + EVERY_SECONDS):
        progress(round(now * 100), 9000)
    progress.over()
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.splitlines() == [
        "200 of 9000 redriven, 100/s, 88 s left",
        "1200 of 9000 redriven, 100/s, 78 s left",
    ]


def test_on_a_terminal_it_is_one_line_that_is_left_clean(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 0.0
    progress = Progress("discarded", lambda: now)
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    now = 3.0
    progress(30, 30)
    progress.over()
    assert capsys.readouterr().err == "\r\x1b[K30 of 30 discarded, 10/s\r\x1b[K"

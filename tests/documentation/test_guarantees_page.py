"""docs/guarantees.md says of every promise what it is not and which tests show it, and of every defect who finds it."""

import re

import pytest

from tests.chaos.findings import KINDS
from tests.defects.planted import DEFECTS
from tests.documentation.pages import named_files, page, rows, section

TEXT = page("guarantees")
PROMISES = re.findall(r"^## (P\d+) .+$", TEXT, re.MULTILINE)
LAST_RUN = "## The last long run"
LINES = 160
"""Without the last long run."""


def test_all_promises_are_there_in_their_order() -> None:
    assert [f"P{number}" for number in range(1, 11)] == PROMISES


@pytest.mark.parametrize("promise", PROMISES)
def test_a_promise_has_limits_and_tests(promise: str) -> None:
    (heading,) = re.findall(rf"^## {promise} .+$", TEXT, re.MULTILINE)
    text = section(TEXT, heading)
    assert "*Not meant*" in text
    assert len([function for _, function in named_files(text) if function]) >= 2


def test_the_table_of_defects_names_each_of_them() -> None:
    named = [cells[0].split("`")[1] for cells in rows(section(TEXT, "## How it is proved"))]
    assert named == list(DEFECTS)


def test_the_last_long_run_is_shown_whole_and_has_passed() -> None:
    run = section(TEXT, LAST_RUN)
    for line in (*KINDS, "seed", "events", "duration"):
        assert re.search(rf"^{line}  +\S+$", run, re.MULTILINE), line
    assert all(re.search(rf"^{kind} +0$", run, re.MULTILINE) for kind in KINDS)
    assert "\nPASSED\n" in run


def test_the_page_stays_short() -> None:
    assert len(TEXT.split(LAST_RUN)[0].splitlines()) <= LINES

"""A process that is forked after the launch is told so at its first call, and touches nothing of its parent."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.faults.rows import Rows

FORKER = Path(__file__).with_name("forker.py")
ROOT = FORKER.parents[2]
RESULTS = [number * 2 for number in range(20)]


def run(url: str, how: str) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, str(FORKER), url, how],
        cwd=ROOT, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr, done.stderr
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def assert_parent_went_on(url: str, found: dict[str, Any], *, executors: int = 1) -> None:
    """It ran what came later, under the identity that it had, which ended by its own stop."""
    assert found["parent"] == RESULTS
    assert found["health"] == []
    assert found["executors"][0] == found["executors"][1], "nobody ended the lease"
    reasons = Rows(url).query("SELECT end_reason FROM {t}executors")
    assert reasons == [("stopped",)] * executors


@pytest.mark.parametrize("how", ["fork", "multiprocessing"])
def test_each_call_of_a_forked_process_says_what_is_wrong_and_what_to_do(database_url: str, how: str) -> None:
    found = run(database_url, how)
    assert found["child"].pop("destroy") == "result None", "there is nothing of it to stop"
    for name, said in found["child"].items():
        assert "was forked from it later" in said, name
        assert "DBOS.launch() in this process" in said, name
    assert_parent_went_on(database_url, found)


def test_a_forked_process_that_ends_as_a_program_does_leaves_its_parent_alone(database_url: str) -> None:
    found = run(database_url, "exit")
    assert found["child"] == 0
    assert_parent_went_on(database_url, found)


def test_a_step_that_is_called_in_a_process_forked_out_of_a_workflow_is_refused(database_url: str) -> None:
    found = run(database_url, "within")
    assert "was forked from it later" in found["child"]
    assert_parent_went_on(database_url, found)


@pytest.mark.parametrize(("how", "children"), [("anew", 1), ("preload", 3)])
def test_a_forked_process_may_launch_for_itself_on_postgresql(
    migrated_postgres: str, how: str, children: int
) -> None:
    found = run(migrated_postgres, how)
    assert found["child"] == ("result 42" if how == "anew" else ["result 42"] * children)
    assert_parent_went_on(migrated_postgres, found, executors=1 + children)


def test_a_sqlite_file_that_the_parent_has_open_is_refused_to_a_forked_process(sqlite_url: str) -> None:
    found = run(sqlite_url, "anew")
    assert "was open when this process was forked" in found["child"]
    assert "spawn" in found["child"]
    assert_parent_went_on(sqlite_url, found)


def test_a_fork_before_the_launch_concerns_nobody(database_url: str) -> None:
    assert run(database_url, "before") == {"child": "result 42", "parent": 42}

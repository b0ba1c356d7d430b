"""A program with one workflow, which a test holds and lets go by files."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.service import clean_environment

PROGRAM = """
import time
from pathlib import Path

from dbos_events import DBOS


@DBOS.workflow()
def held() -> str:
    Path("began").touch()
    while not Path("let-go").exists():
        time.sleep(0.01)
    return "done"
"""

CRASH = """
import os
import program
from dbos_events import DBOS, SetWorkflowID

DBOS.launch()
with SetWorkflowID("the-held-one"):
    DBOS.start_workflow(program.held)
os._exit(0)
"""


class Program:
    """The folder of `program.py`; each of its workflows begins, and ends when the test lets it go."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "program.py").write_text(PROGRAM)

    def leave_unfinished(self, database_url: str) -> str:
        """Have a process crash right after it started a workflow; gives the workflow's id."""
        name = "dbos-events" if database_url.startswith("sqlite") else "program"
        done = subprocess.run(
            [sys.executable, "-c", CRASH],
            cwd=self.folder,
            # The name that `dbos-events run` gives it.
            env=clean_environment(DBOS_SYSTEM_DATABASE_URL=database_url, DBOS_EVENTS_NAME=name),
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        self.began.unlink(missing_ok=True)
        return "the-held-one"

    @property
    def began(self) -> Path:
        return self.folder / "began"

    def let_go(self) -> None:
        (self.folder / "let-go").touch()


@pytest.fixture
def program(tmp_path: Path) -> Program:
    """A program that only declares, as `dbos-events run` takes it."""
    folder = tmp_path / "program"
    folder.mkdir()
    return Program(folder)

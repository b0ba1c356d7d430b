"""The two walks of docs/failure.md, command by command, while the service that they are about runs."""

import re
import shlex
import subprocess
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

import dbos_events
from dbos_events import App
from dbos_events.cli.root import app as command_line
from dbos_events.testing import ManualClock, TestApp
from tests.documentation.blocks import Block, matches, read_blocks, read_commands
from tests.documentation.pages import DOCS, page, section

PAGE = DOCS / "failure.md"
BLOCKS = read_blocks(PAGE)


def blocks_of(heading: str) -> list[Block]:
    text = section(page("failure"), heading)
    return [block for block in BLOCKS if block.directive == "run" and block.text in text]


def same(expected: str, printed: str) -> bool:
    """As the other pages, but columns may be wider or narrower than on the page."""
    return matches(re.sub(r" +", " ", expected), re.sub(r" +", " ", printed))


class Service:
    """The program of the page, served while commands are given in `folder`."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        url = f"sqlite:///{folder}/shop.sqlite"
        self.app = App()
        clock = ManualClock(datetime(2020, 1, 1, tzinfo=UTC))
        self.dbos = TestApp(self.app, database_url=url, name="shop", clock=clock)
        monkeypatch.chdir(folder)
        monkeypatch.setenv("DBOS_SYSTEM_DATABASE_URL", url)
        monkeypatch.setattr(dbos_events, "DBOS", self.app)
        self.program: dict[str, Any] = {}
        (program,) = (block for block in BLOCKS if block.argument("file"))
        exec(compile(program.text, "consumers.py", "exec"), self.program)  # noqa: S102

    def take_in(self, *values: str, partition: int = 0) -> None:
        for value in values:
            self.dbos.deliver(self.program["on_order"], value, partition=partition)
            self.dbos.advance(minutes=5)

    def follow(self, block: Block) -> None:
        """Give the commands of the block; the service does what they lead to."""
        for command in read_commands(block):
            words = shlex.split(command.line)
            if words[0] == "dbos-events":
                result = CliRunner().invoke(command_line, words[1:])
                assert result.exit_code == 0, result.output
                printed = result.stdout
            else:
                printed = subprocess.run(words, check=True, capture_output=True, text=True).stdout
            assert same(command.output, printed), f"{command.line}\n{printed}"
            self.dbos.advance(minutes=5)

    def states(self) -> list[str]:
        return [one.status for one in self.app.list_workflows()]


@pytest.fixture
def service(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Service:
    return Service(tmp_path, monkeypatch)


def test_the_walk_through_a_poison_event(service: Service) -> None:
    look, mend, discard = blocks_of("## A poison event")
    with service.dbos:
        service.take_in(
            '{"id": "A6", "cents": 100}',
            '{"id": "A7", "cents": "1200"}',
            '{"cents": 1}',
            '{"id": "A8", "cents": 5}',
        )
        assert service.states() == ["SUCCESS", "ERROR", "PENDING", "PENDING"]
        service.follow(look)
        service.follow(mend)
        assert service.states() == ["SUCCESS", "SUCCESS", "ERROR", "PENDING"]
        service.follow(discard)
        assert service.states() == ["SUCCESS", "SUCCESS", "ERROR", "SUCCESS"]
        poison = service.app.list_workflows()[1]
        assert poison.output == "charged 12.00 for A7"


def test_the_walk_through_a_bad_deploy(service: Service) -> None:
    look, redrive = blocks_of("## A bad deploy")
    good = service.app.registry.workflows["on_order"].function

    def bad(message: Any) -> None:
        raise KeyError("amount")

    service.app.registry.workflows["on_order"].function = bad
    with service.dbos:
        for partition in range(3):
            service.take_in('{"id": "A1", "cents": 100}', partition=partition)
        assert service.states() == ["ERROR"] * 3
        service.follow(look)
        service.app.registry.workflows["on_order"].function = good
        service.dbos.crash(application_version="3")
        service.follow(redrive)
        assert service.states() == ["SUCCESS"] * 3

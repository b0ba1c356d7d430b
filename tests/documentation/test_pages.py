"""What the pages in docs/ name is there: files, tests, settings, commands; their programs run."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.documentation.blocks import Block, matches, read_blocks, read_commands
from tests.documentation.pages import PAGES, ROOT, named_files
from tests.documentation.test_readme import assert_exists

BLOCKS = [block for path in PAGES for block in read_blocks(path)]
SECONDS = 60


def test_there_are_pages() -> None:
    assert PAGES


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.stem)
def test_files_and_tests_that_a_page_names_exist(path: Path) -> None:
    for name, function in named_files(path.read_text()):
        file = ROOT / name
        assert file.is_file(), f"{path.name} names {name}"
        if function:
            assert re.search(rf"^(?:async )?def {function}\(", file.read_text(), re.MULTILINE), (
                f"{path.name} names {name}::{function}"
            )


@pytest.mark.parametrize(
    "block",
    [pytest.param(block, id=block.name) for block in BLOCKS if block.language == "console"],
)
def test_commands_of_a_page_exist(block: Block) -> None:
    commands = read_commands(block)
    assert commands
    for command in commands:
        assert_exists(command)


@pytest.mark.parametrize(
    "block",
    [pytest.param(block, id=block.name) for block in BLOCKS if block.language == "python"],
)
def test_programs_of_a_page_run(block: Block, tmp_path: Path) -> None:
    compile(block.text, block.name, "exec")
    if block.argument("not run") is not None:
        return
    for other in BLOCKS[: BLOCKS.index(block)]:
        name = other.argument("file")
        if name and other.page == block.page:
            (tmp_path / name).write_text(other.text)
    name = block.argument("file") or "program.py"
    (tmp_path / name).write_text(block.text)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", name]
    done = subprocess.run(
        command if name.startswith("test_") else [sys.executable, name],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        timeout=SECONDS,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    following = BLOCKS[BLOCKS.index(block) + 1] if block is not BLOCKS[-1] else None
    if following is not None and following.directive == "output" and following.page == block.page:
        assert matches(following.text, done.stdout), done.stdout

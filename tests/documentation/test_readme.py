"""What README.md shows works: its programs run, its commands exist. `blocks.py` says how it is read."""

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from confluent_kafka import KafkaException

from tests.documentation.blocks import Block, Command, matches, read_blocks, read_commands
from tests.servers.kafka import create_topic

ROOT = Path(__file__).parents[2]
README = ROOT / "README.md"
BLOCKS = read_blocks(README)
RUN_SECONDS = 60
MATCHED_ONLY = ("cd", "docker", "git", "make", "pip")


def parameters(language: str) -> list[object]:
    """Return the blocks of a language as test parameters, marked with the servers that they need."""
    return [
        pytest.param(index, id=block.name, marks=[getattr(pytest.mark, name) for name in needed(block)[:1]])
        for index, block in enumerate(BLOCKS)
        if block.language == language and block.argument("file") is None
    ]


def needed(block: Block) -> list[str]:
    return (block.argument("needs") or "").split()


class Place:
    """The folder in which a block runs, with the files of the blocks before it and servers to talk to."""

    def __init__(self, index: int, folder: Path, request: pytest.FixtureRequest) -> None:
        self.folder = folder
        self.substitutes: dict[str, str] = {}
        server, *topics = needed(BLOCKS[index]) or [""]
        if server == "kafka":
            self.substitutes[r"localhost:9092"] = request.getfixturevalue("kafka_bootstrap")
            for topic in topics:
                self.make_topic(self.substitutes[r"localhost:9092"], topic)
        elif server == "postgres":
            self.substitutes[r"postgresql://[^\s\"']+"] = request.getfixturevalue("postgres_url")
        for block in BLOCKS[:index]:
            name = block.argument("file")
            if name:
                (folder / name).write_text(self.adapt(block.text))

    @staticmethod
    def make_topic(bootstrap: str, topic: str) -> None:
        try:
            create_topic(bootstrap, topic, partitions=2)
        except KafkaException as error:
            if "already exists" not in str(error):
                raise

    def adapt(self, text: str) -> str:
        for pattern, substitute in self.substitutes.items():
            text = re.sub(pattern, lambda _, value=substitute: value, text)
        return text

    def run(self, command: list[str]) -> str:
        """Run a command as a reader would; return what it prints."""
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        kept = {name: value for name, value in os.environ.items() if not name.startswith("DBOS_")}
        done = subprocess.run(
            command,
            cwd=self.folder,
            env=kept | {"PATH": path, "HOME": str(self.folder), "NO_COLOR": "1", "COLUMNS": "100"},
            capture_output=True,
            text=True,
            check=False,
            timeout=RUN_SECONDS,
        )
        assert done.returncode == 0, f"{' '.join(command)} failed:\n{done.stdout}{done.stderr}"
        return done.stdout


@pytest.mark.parametrize("index", parameters("python"))
def test_program(index: int, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    block = BLOCKS[index]
    compile(block.text, block.name, "exec")
    if block.argument("not run") is not None:
        return
    place = Place(index, tmp_path, request)
    (tmp_path / "program.py").write_text(place.adapt(block.text))
    printed = place.run([sys.executable, "program.py"])
    following = BLOCKS[index + 1] if index + 1 < len(BLOCKS) else None
    if following and following.directive == "output":
        assert matches(following.text, printed), printed


@pytest.mark.parametrize("index", parameters("console"))
def test_transcript(index: int, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    block = BLOCKS[index]
    commands = read_commands(block)
    assert commands, f"{block.name}: no line starts with `$ `"
    place = Place(index, tmp_path, request)
    for command in commands:
        if command.line.split()[0] in MATCHED_ONLY or block.argument("not run") is not None:
            assert_exists(command)
        else:
            printed = place.run(["bash", "-euo", "pipefail", "-c", place.adapt(command.line)])
            assert not command.output or matches(command.output, printed), printed


@pytest.mark.parametrize(
    "block", [pytest.param(block, id=block.name) for block in BLOCKS if block.argument("file")]
)
def test_saved_file_is_python(block: Block) -> None:
    if str(block.argument("file")).endswith(".py"):
        compile(block.text, block.name, "exec")


@pytest.mark.parametrize("block", [pytest.param(block, id=block.name) for block in BLOCKS if block.directive])
def test_comment_before_a_block_is_understood(block: Block) -> None:
    word = block.directive.partition(":")[0].strip()
    assert word in {"file", "needs", "not run", "output"}


def assert_exists(command: Command) -> None:
    """Check, without running it, that the command names things that are there."""
    words = command.line.split()
    if words[0] == "make":
        targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
        assert {word for word in words[1:] if "=" not in word and word[0] != "-"} <= targets
    elif words[0] == "pip" or words[:3] == ["python", "-m", "pip"]:
        project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
        named = re.findall(r"dbos-events\[([\w,-]+)\]", command.line)
        extras = {extra for group in named for extra in group.split(",")}
        assert extras <= set(project["optional-dependencies"])
    elif words[0] == "docker":
        files = re.findall(r"(?:-f|--file) (\S+)", command.line)
        assert all((ROOT / name).exists() for name in files), command.line
    elif words[0] == "dbos-events":
        subcommands = words[1:2] if len(words) > 1 and words[1][0] != "-" else []
        program = str(Path(sys.executable).parent / "dbos-events")
        subprocess.run(
            [program, *subcommands, "--help"], check=True, capture_output=True, timeout=RUN_SECONDS
        )

"""The fenced blocks of a Markdown page, and how to run them.

A page needs no marks where the plain rules do:

* ```` ```python ```` is a whole program: it is run in an empty folder and has to end well;
* ```` ```console ```` is a transcript: what follows `$ ` is run, or matched where running it here makes no
  sense (`make`, `git`, `pip install`, `docker`, `cd`), and the lines below a command are its output, in
  which `...` stands for anything.

A comment on the line before a block, which readers do not see, says what differs:

* `<!-- file: app.py -->` saves the block under that name for the blocks after it;
* `<!-- output -->` is what the program before it prints;
* `<!-- needs: kafka orders payments -->` runs the block with the tests' broker in place of `localhost:9092`,
  with these topics on it; `<!-- needs: postgres -->` with a database in place of each `postgresql://` URL;
* `<!-- not run: reason -->` only checks that the block is Python, or that its commands exist.

Blocks in other languages are not run.
"""

import re
import textwrap
from dataclasses import dataclass
from pathlib import Path

FENCE = re.compile(
    r"(?:^[ \t]*<!--[ ]*(?P<directive>[^>]*?)[ ]*-->[ \t]*\n)?"
    r"^(?P<indent>[ \t]*)```(?P<language>\w+)[^\n]*\n(?P<text>.*?)^(?P=indent)```[ \t]*$",
    re.MULTILINE | re.DOTALL,
)


@dataclass(frozen=True)
class Block:
    """One fenced block and the comment that stands before it."""

    page: str
    line: int
    language: str
    text: str
    directive: str

    @property
    def name(self) -> str:
        return f"{self.page}:{self.line}"

    def argument(self, directive: str) -> str | None:
        """Return what the comment says after `directive:`, or None when it says something else."""
        word, _, rest = self.directive.partition(":")
        return rest.strip() if word.strip() == directive else None


@dataclass(frozen=True)
class Command:
    """A command of a transcript with the output that the page shows."""

    line: str
    output: str


def read_blocks(path: Path) -> list[Block]:
    """Return the page's blocks in order; a page that is not there has none."""
    text = path.read_text() if path.exists() else ""
    return [
        Block(
            page=path.name,
            line=text.count("\n", 0, match.start("text")),
            language=match["language"],
            text=textwrap.dedent(match["text"]),
            directive=match["directive"] or "",
        )
        for match in FENCE.finditer(text)
    ]


def read_commands(block: Block) -> list[Command]:
    """Return the commands of a transcript; a `\\` at the end of a line continues it."""
    commands: list[Command] = []
    joined = block.text.replace("\\\n", " ")
    for part in re.split(r"^\$ ", joined, flags=re.MULTILINE)[1:]:
        line, _, output = part.partition("\n")
        commands.append(Command(" ".join(line.split()), output.strip()))
    return commands


def matches(expected: str, printed: str) -> bool:
    """Tell whether the output is what the page shows; `...` there stands for anything."""
    pieces = [re.escape(piece.strip()) for piece in expected.strip().split("...")]
    lenient = r"\s*.*?\s*".join(pieces)
    trimmed = "\n".join(line.rstrip() for line in printed.strip().splitlines())
    return re.fullmatch(lenient, trimmed, re.DOTALL) is not None

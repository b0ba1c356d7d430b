"""What the tests of `docs/` have in common: the pages, their tables, and the files that they name."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = sorted(DOCS.glob("*.md"))

_FILE = re.compile(r"`((?:[\w.-]+/)+[\w.-]+\.(?:py|sql|md|yaml|toml|xml))(?:::(\w+))?`")
_ROW = re.compile(r"^\|(.+)\|\s*$")


def page(name: str) -> str:
    return (DOCS / f"{name}.md").read_text()


def section(text: str, heading: str) -> str:
    """What stands under a heading, up to the next one of its level or above."""
    level = len(heading) - len(heading.lstrip("#"))
    found = re.search(rf"^{re.escape(heading)}$(.*?)(?=^#{{1,{level}}} |\Z)", text, re.MULTILINE | re.DOTALL)
    assert found is not None, f"there is no heading {heading!r}"
    return found[1]


def rows(text: str) -> list[list[str]]:
    """The cells of all tables in a text, without their titles."""
    found: list[list[str]] = []
    lines = text.splitlines()
    for number, line in enumerate(lines):
        match = _ROW.match(line)
        following = lines[number + 1] if number + 1 < len(lines) else ""
        if match and not line.startswith("| ---") and not following.startswith("| ---"):
            cells = re.split(r"(?<!\\)\|", match[1])
            found.append([cell.strip() for cell in cells])
    return found


def named_files(text: str) -> list[tuple[str, str]]:
    """The files that a text names with their path, each with the function named after `::`."""
    return [(match[1], match[2] or "") for match in _FILE.finditer(text)]

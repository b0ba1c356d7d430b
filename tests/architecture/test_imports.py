"""What import-linter (pyproject.toml), which holds the layers, cannot say.

It can forbid a connector modules that it knows, but not allow three and forbid the rest, present and to come. It does not
see what is imported for types alone, nor a storage that comes into the command line as an attribute of something else.
"""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
CONNECTORS = ROOT / "connectors"
COMMAND_LINE = ROOT / "dbos_events" / "cli"
ALLOWED = ("dbos_events.connect", "dbos_events.model", "dbos_events.errors")


def imported(path: Path) -> Iterator[tuple[int, str]]:
    """Yield (line, module) for each import; `from a import b` counts as `a.b` when `a` is the core itself."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module == "dbos_events":
            yield from ((node.lineno, f"dbos_events.{alias.name}") for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.lineno, node.module


def is_allowed(module: str) -> bool:
    return any(module == allowed or module.startswith(f"{allowed}.") for allowed in ALLOWED)


@pytest.mark.parametrize(
    "path", sorted(CONNECTORS.rglob("*.py")), ids=lambda path: path.relative_to(CONNECTORS).as_posix()
)
def test_connectors_see_only_the_connector_interface(path: Path) -> None:
    wrong = [
        f"{path.name}:{line} imports {module}"
        for line, module in imported(path)
        if module.split(".")[0] == "dbos_events" and not is_allowed(module)
    ]
    assert not wrong, f"a connector imports {', '.join(ALLOWED)} and nothing else of the core"


@pytest.mark.parametrize("path", sorted(COMMAND_LINE.glob("*.py")), ids=lambda path: path.name)
def test_the_command_line_knows_no_storage(path: Path) -> None:
    wrong = [
        f"{path.name}:{line} imports {module}"
        for line, module in imported(path)
        if f"{module}.".startswith("dbos_events.storage.")
    ]
    wrong += [
        f"{path.name}:{node.lineno} uses a storage"
        for node in ast.walk(ast.parse(path.read_text()))
        if "storage" in (getattr(node, "id", None), getattr(node, "attr", None), getattr(node, "arg", None))
    ]
    assert not wrong, "ask dbos_events.control, so that whoever comes beside the command line can ask it too"

"""What a connector may import of the core, told by what is allowed.

import-linter (pyproject.toml) holds the layers; it can forbid modules that it knows, but not allow three and
forbid the rest, present and to come.
"""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

CONNECTORS = Path(__file__).parents[2] / "connectors"
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

"""No file, function or class grows past what one reads in a sitting.

A number that has to be larger stands in EXCEPTIONS with the reason; one that is no longer needed fails.
Docstrings do not count in a function: saying more about it is no reason to cut it up.
"""

import ast
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
SOURCES = (
    "dbos_events",
    "connectors",
    "tests/chaos",
    "tests/servers",
)  # a migration is as long as its tables

FILE_LINES = 400
FUNCTION_LINES = 50
PUBLIC_METHODS = 20

# "path", or "path::qualified name": (limit, why)
EXCEPTIONS: dict[str, tuple[int, str]] = {}

Function = ast.FunctionDef | ast.AsyncFunctionDef


def sources() -> list[Path]:
    """Return every Python file that the budgets hold for."""
    return sorted(path for folder in SOURCES for path in (ROOT / folder).rglob("*.py"))


def definitions(tree: ast.AST, outer: str = "") -> Iterator[tuple[str, Function | ast.ClassDef]]:
    """Yield every function and class in the tree with its qualified name."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, Function | ast.ClassDef):
            name = f"{outer}.{node.name}".lstrip(".")
            yield name, node
            yield from definitions(node, name)
        else:
            yield from definitions(node, outer)


def function_lines(node: Function) -> int:
    """Count a function's lines from `def` to its end, less the docstring."""
    docstring = node.body[0] if ast.get_docstring(node, clean=False) is not None else None
    told = (docstring.end_lineno or 0) - docstring.lineno + 1 if docstring else 0
    return (node.end_lineno or 0) - node.lineno + 1 - told


def public_methods(node: ast.ClassDef) -> int:
    """Count the names, not the overloads, of a class's public methods and properties."""
    return len(
        {item.name for item in node.body if isinstance(item, Function) and not item.name.startswith("_")}
    )


def measures() -> Iterator[tuple[str, str, int, int]]:
    """Yield (place, what, measured, limit) for everything that has a budget."""
    for path in sources():
        place = path.relative_to(ROOT).as_posix()
        text = path.read_text()
        yield place, "lines", len(text.splitlines()), FILE_LINES
        for name, node in definitions(ast.parse(text)):
            if isinstance(node, ast.ClassDef):
                yield f"{place}::{name}", "public methods", public_methods(node), PUBLIC_METHODS
            else:
                yield f"{place}::{name}", "lines", function_lines(node), FUNCTION_LINES


def test_everything_is_within_its_budget() -> None:
    too_large = [
        f"{place}: {measured} {what}, at most {limit}"
        for place, what, measured, usual in measures()
        if measured > (limit := EXCEPTIONS.get(place, (usual, ""))[0])
    ]
    assert not too_large, "cut these up, or give a reason in EXCEPTIONS:\n" + "\n".join(too_large)


def test_every_exception_is_still_needed() -> None:
    found = {place: (measured, usual) for place, _, measured, usual in measures()}
    needless = [place for place in EXCEPTIONS if place not in found or found[place][0] <= found[place][1]]
    assert not needless


def test_every_exception_has_a_reason() -> None:
    assert all(why.strip() for _, why in EXCEPTIONS.values())

"""The structure in figures: which room imports which, circles, arrows upwards, and how large each room is.

A room is what stands directly in `dbos_events`, a package or a module, and each connector. `make structure` prints this.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import NamedTuple

import grimp

ROOT = Path(__file__).parents[2]
CORE = "dbos_events"
CONNECTORS = ("dbos_events_kafka", "dbos_events_webhooks")
FOLDERS = {CORE: ROOT / CORE, **{name: ROOT / "connectors" / name for name in CONNECTORS}}


class Arrow(NamedTuple):
    """One module imports another."""

    importer: str
    imported: str


@cache
def arrows(*, types: bool) -> tuple[Arrow, ...]:
    """All imports within the packages; with `types` also those that only type checkers follow."""
    graph = grimp.build_graph(CORE, *CONNECTORS, exclude_type_checking_imports=not types, cache_dir=None)
    return tuple(
        Arrow(module, other)
        for module in sorted(graph.modules)
        for other in sorted(graph.find_modules_directly_imported_by(module))
    )


def room_of(module: str) -> str:
    """The room that a module stands in."""
    top, _, rest = module.partition(".")
    return rest.partition(".")[0] if top == CORE and rest else top


def between_rooms(found: Iterable[Arrow]) -> dict[str, set[str]]:
    """Which rooms each room imports."""
    edges: dict[str, set[str]] = {}
    for arrow in found:
        importer, imported = room_of(arrow.importer), room_of(arrow.imported)
        if importer != imported and CORE not in (importer, imported):
            edges.setdefault(importer, set()).add(imported)
    return edges


def circles(edges: Mapping[str, Iterable[str]]) -> list[list[str]]:
    """Every set of nodes that reach each other (Tarjan's strongly connected components)."""
    order: dict[str, int] = {}
    lowest: dict[str, int] = {}
    stack: list[str] = []
    found: list[list[str]] = []

    def visit(node: str) -> None:
        order[node] = lowest[node] = len(order)
        stack.append(node)
        for other in edges.get(node, ()):
            if other not in order:
                visit(other)
                lowest[node] = min(lowest[node], lowest[other])
            elif other in stack:
                lowest[node] = min(lowest[node], order[other])
        if lowest[node] == order[node]:
            at = stack.index(node)
            circle = sorted(stack[at:])
            del stack[at:]
            if len(circle) > 1:
                found.append(circle)

    for node in sorted(edges):
        if node not in order:
            visit(node)
    return found


def levels() -> dict[str, int]:
    """The layers of pyproject.toml, the lowest first; connectors stand on what they may import."""
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())
    contracts = settings["tool"]["importlinter"]["contracts"]
    layers = next(one["layers"] for one in contracts if one["type"] == "layers")
    found = {
        name.strip(" ()"): height
        for height, layer in enumerate(reversed(layers))
        for name in layer.replace("|", ":").split(":")
    }
    found["error"] = found["errors"] + 1  # the peer's name for `errors`
    return found | dict.fromkeys(CONNECTORS, found["connect"] + 1)


def upwards(found: Iterable[Arrow]) -> Iterator[Arrow]:
    """Imports of what stands higher than the importer."""
    height = levels()
    for arrow in found:
        importer, imported = room_of(arrow.importer), room_of(arrow.imported)
        if CORE not in (importer, imported) and height[importer] < height[imported]:
            yield arrow


def lines_of_rooms(*suffixes: str) -> dict[str, int]:
    """How many lines each room has, with all that is in it."""
    found: dict[str, int] = {}
    for package, folder in FOLDERS.items():
        for path in folder.rglob("*"):
            if path.suffix in suffixes:
                parts = path.relative_to(folder).with_suffix("").parts
                room = room_of(".".join((package, *parts)))
                found[room] = found.get(room, 0) + len(path.read_text().splitlines())
    return found


def of_core(lines: Mapping[str, int]) -> int:
    """How many of them are those of `dbos_events`."""
    return sum(count for room, count in lines.items() if room not in CONNECTORS)


def picture() -> str:
    """All of it as text, the highest room first."""
    running, typed = arrows(types=False), arrows(types=True)
    edges, lines, height = between_rooms(running), lines_of_rooms(".py"), levels()
    with_sql = lines_of_rooms(".py", ".sql")
    rooms = sorted(lines, key=lambda room: (-height.get(room, len(height)), room))
    table = [
        f"{room:22}{lines[room]:7}{lines[room] / of_core(lines):7.1%}  {', '.join(sorted(edges.get(room, ())))}"
        for room in rooms
    ]
    largest = max(with_sql, key=lambda room: with_sql[room])
    return "\n".join(
        [
            f"{'room':22}{'lines':>7}{'share':>7}  imports",
            *table,
            "",
            f"circles of rooms: {len(circles(edges))}; with imports for types: {len(circles(between_rooms(typed)))}",
            (
                f"circles of modules: {len(circles(_by_module(running)))}; "
                f"with imports for types: {[len(one) for one in circles(_by_module(typed))]}"
            ),
            f"arrows upwards: {len(list(upwards(running)))}; with imports for types: {len(list(upwards(typed)))}",
            f"largest room with its SQL: {largest}, {with_sql[largest] / of_core(with_sql):.1%}",
        ]
    )


def _by_module(found: Iterable[Arrow]) -> dict[str, list[str]]:
    edges: dict[str, list[str]] = {}
    for arrow in found:
        edges.setdefault(arrow.importer, []).append(arrow.imported)
    return edges


if __name__ == "__main__":
    print(picture())  # noqa: T201

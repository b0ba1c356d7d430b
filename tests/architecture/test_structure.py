"""The rooms of the package stand in layers, without circles, and none is much larger than the others."""

import pytest

from tests.architecture.structure import (
    CONNECTORS,
    Arrow,
    arrows,
    between_rooms,
    circles,
    levels,
    lines_of_rooms,
    of_core,
    picture,
    room_of,
    upwards,
)

TYPED_IN_CORE = Arrow("dbos_events.bundled", "dbos_events_kafka.message")
"""The one import of a connector by the core: for type checkers, who know its message by it."""

ALL = pytest.mark.parametrize("types", [False, True], ids=["at run time", "with types"])


def found(*, types: bool) -> list[Arrow]:
    return [arrow for arrow in arrows(types=types) if arrow != TYPED_IN_CORE]


@ALL
def test_no_rooms_import_each_other_in_a_circle(types: bool) -> None:
    assert circles(between_rooms(found(types=types))) == [], picture()


@ALL
def test_no_room_imports_what_stands_above_it(types: bool) -> None:
    assert list(upwards(found(types=types))) == [], picture()


@ALL
def test_no_modules_import_each_other_in_a_circle(types: bool) -> None:
    edges: dict[str, list[str]] = {}
    for arrow in found(types=types):
        edges.setdefault(arrow.importer, []).append(arrow.imported)
    assert circles(edges) == [], picture()


def test_no_room_holds_a_quarter_of_the_lines() -> None:
    lines = lines_of_rooms(".py")
    share = {room: count / of_core(lines) for room, count in lines.items()}
    assert {room: part for room, part in share.items() if part >= 0.25} == {}, picture()


def test_every_room_has_its_place_in_the_layers() -> None:
    rooms = {room_of(module) for arrow in arrows(types=True) for module in arrow}
    assert rooms - levels().keys() == {"dbos_events"}
    assert set(CONNECTORS) <= rooms


def test_circles_and_arrows_upwards_are_found_where_there_are_some() -> None:
    assert circles({"a": ["b"], "b": ["c"], "c": ["a"], "d": ["a"]}) == [["a", "b", "c"]]
    wrong = Arrow("dbos_events.storage.rows", "dbos_events.engine.core")
    right = Arrow("dbos_events.engine.core", "dbos_events.storage.rows")
    assert list(upwards([wrong, right])) == [wrong]
    assert circles(between_rooms([wrong, right])) == [["engine", "storage"]]

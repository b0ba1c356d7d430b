"""What replay could not give back exactly is refused when it is stored, with path, type and remedy."""

from __future__ import annotations

import datetime as dt
import io
import socket
import time
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, NamedTuple

import pytest

from dbos_events.errors import SerializationError
from dbos_events.serialization import decode, encode
from tests.unit.serialization.samples import Both, Box, Money, Order, Point, numbered


class Text(str):
    __slots__ = ()


class OwnList(list[int]):
    pass


class Plain:
    pass


class Zone(dt.tzinfo):
    def utcoffset(self, _: dt.datetime | None, /) -> dt.timedelta:
        return dt.timedelta(0)

    def dst(self, _: dt.datetime | None, /) -> None:
        return None

    def tzname(self, _: dt.datetime | None, /) -> None:
        return None


def generated() -> Iterator[int]:
    yield 1


def refusal(value: object) -> str:
    with pytest.raises(SerializationError) as caught:
        encode(value)
    return str(caught.value)


OTHERS: list[object] = [
    object(),
    Plain(),
    Plain,
    print,
    lambda: 1,
    generated(),
    io.BytesIO(),
    memoryview(b""),
    range(3),
    ...,
    time.localtime(),
    Text("x"),
    OwnList(),
    dt.datetime(2024, 1, 1, tzinfo=Zone()),
    Both(1),
    defaultdict(lambda: 1),
]


@pytest.mark.parametrize("value", OTHERS, ids=numbered(OTHERS))
def test_other_types_are_refused(value: object) -> None:
    assert refusal(value)


def test_the_message_says_where_what_and_what_to_do() -> None:
    with socket.socket() as connection:
        value = {"items": [1, 2, 3, Box(connection)]}

        message = refusal(value)

    assert "value['items'][3].content is of type socket.socket" in message
    assert "dataclass" in message
    assert 'serializer="pickle"' in message


@pytest.mark.parametrize(
    ("value", "path"),
    [
        (object(), "value is"),
        ([object()], "value[0]"),
        ((1, object()), "value[1]"),
        ({"a": {"b": object()}}, "value['a']['b']"),
        ({7: object()}, "value[7]"),
        ({(1,): object()}, "value[<tuple>]"),
        ({object(): 1}, "value.keys()"),
        ({object()}, "value{...}"),
        (Order(1, [object()]), "value.items[0]"),
        (Money(object()), "value.amount"),
        (Point(1, object()), "value.y"),
        (dt.time(tzinfo=Zone()), "value.tzinfo"),
    ],
    ids=lambda part: part if isinstance(part, str) else type(part).__name__,
)
def test_the_path_leads_to_the_refused_part(value: object, path: str) -> None:
    assert refusal(value).startswith(path)


def test_a_subclass_of_a_plain_type_is_told_how_to_convert() -> None:
    assert "convert it with str(...)" in refusal(Text("x"))


def test_a_local_class_is_refused_when_it_is_stored() -> None:
    @dataclass
    class Local:
        value: int

    message = refusal([Local(1)])

    assert "value[0]" in message
    assert "top level of its module" in message


def test_local_enums_and_named_tuples_are_refused_too() -> None:
    local_enum = Enum("local_enum", "A")
    local_tuple: Any = NamedTuple("local_tuple", [("a", int)])

    assert "does not lead back" in refusal(local_enum.A)
    assert "does not lead back" in refusal(local_tuple(1))


def test_a_class_hidden_behind_another_of_its_name_is_refused() -> None:
    @dataclass
    class Shadow:
        value: int

    Shadow.__qualname__ = "Order"
    Shadow.__module__ = Order.__module__

    assert "does not lead back" in refusal(Shadow(1))


@dataclass
class Holder:
    value: int
    lock: object = field(init=False, default=None)

    def __post_init__(self) -> None:
        self.extra = object()


def test_an_attribute_beside_the_fields_is_not_lost_silently() -> None:
    assert "value.extra" in refusal(Holder(1))


def test_a_value_that_contains_itself_is_refused() -> None:
    ring: list[object] = []
    ring.extend([ring, ring])

    assert "contains itself" in refusal(ring)
    assert len(refusal(ring)) < 500


def test_nesting_has_a_limit_that_every_reader_can_reach() -> None:
    def nested(levels: int) -> object:
        value: object = ()
        for _ in range(levels):
            value = (value,)
        return value

    def at_depth(frames: int, text: str) -> object:
        return at_depth(frames - 1, text) if frames else decode(text)

    assert at_depth(400, encode(nested(100))) == nested(100)
    assert "100 levels" in refusal(nested(101))

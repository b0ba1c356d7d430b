"""What was stored comes back with the same type and content, all the way down."""

from __future__ import annotations

import datetime as dt
import json
from collections import Counter, OrderedDict, defaultdict, deque
from decimal import Decimal
from pathlib import PurePosixPath
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings

from dbos_events.serialization import decode, encode
from tests.unit.serialization.samples import (
    Box,
    Colour,
    Derived,
    Failure,
    Money,
    Outer,
    Paid,
    Point,
    Right,
    Size,
    Status,
    Unset,
    assert_same,
    numbered,
)
from tests.unit.serialization.strategies import plain_values, values


@given(values)
@settings(max_examples=600, deadline=None)
def test_every_supported_value_comes_back_the_same(value: Any) -> None:
    assert_same(decode(encode(value)), value)


@given(values)
@settings(deadline=None)
def test_the_stored_form_is_ascii_and_standard_json(value: Any) -> None:
    text = encode(value)

    assert text.isascii()
    assert "\x00" not in text
    json.loads(text, parse_constant=pytest.fail)


@given(plain_values)
@settings(deadline=None)
def test_plain_values_come_back_the_same(value: Any) -> None:
    assert_same(decode(encode(value)), value)


@given(values)
@settings(deadline=None)
def test_storing_what_was_read_gives_a_value_that_is_still_the_same(value: Any) -> None:
    assert_same(decode(encode(decode(encode(value)))), value)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "null"),
        (True, "true"),
        (5, "5"),
        ("é", '"\\u00e9"'),
        ({"order": 1, "items": ["a", "b"]}, '{"order":1,"items":["a","b"]}'),
    ],
)
def test_what_json_has_is_stored_plainly(value: object, text: str) -> None:
    assert encode(value) == text


VALUES: list[object] = [
    (),
    (1, (2,)),
    {1, 2},
    frozenset({"a"}),
    b"\x00\xff",
    bytearray(b"x"),
    1 + 2j,
    complex(-0.0, float("nan")),
    -0.0,
    float("inf"),
    float("-inf"),
    float("nan"),
    -float("nan"),
    dt.datetime(1, 1, 1),  # noqa: DTZ001
    dt.datetime(2024, 10, 27, 2, 30, fold=1, tzinfo=ZoneInfo("Europe/Berlin")),
    dt.datetime(2024, 1, 1, tzinfo=dt.timezone(dt.timedelta(hours=1), "mine")),
    dt.time(1, 2, 3, 4, tzinfo=dt.UTC, fold=1),
    dt.date(2024, 2, 29),
    dt.timedelta(-1, 5, 7),
    Decimal("1.500"),
    Decimal("sNaN12"),
    UUID(int=7),
    PurePosixPath("a/../b"),
    deque([1, 2], maxlen=2),
    OrderedDict(b=1, a=2),
    Counter("aab"),
    defaultdict(list, {1: [2]}),
    Colour.GREEN,
    Colour.CRIMSON,
    Size.LARGE,
    Status.PAID,
    Right.READ | Right.WRITE,
    Point(1, (2, 3)),
    Money(Decimal(1)),
    Paid(1, [2], by=Outer.Inner(3)),
    Box[int](1).content,
    {True: 1, 2: 3},
    {Status.OPEN: 1, (1, 2): 3, None: 4},
    {1: "int", "1": "text"},
    [True, 1, 1.0],
    {"\ud800\udc00": "\ud800\udc00"},
    "\ud83d\ude00",
    "😀\x00",
    Failure("no", 1),
]


@pytest.mark.parametrize("value", VALUES, ids=numbered(VALUES))
def test_types_that_json_lacks(value: object) -> None:
    assert_same(decode(encode(value)), value)


def test_an_integer_that_is_too_long_for_decimal_digits() -> None:
    assert decode(encode([10**5000])) == [10**5000]
    assert decode(encode(-(10**5000))) == -(10**5000)


@pytest.mark.parametrize(
    "value",
    [
        {"$": "tuple", "v": [1]},
        {"$": 1},
        {"$": {"$": {}}, "v": "$"},
        [{"$": "error"}, "$", '"$"'],
        {"a": {"$": ("b",)}},
    ],
    ids=repr,
)
def test_a_dict_that_looks_like_the_stored_form_is_no_exception(value: object) -> None:
    assert_same(decode(encode(value)), value)


def test_a_dataclass_is_restored_without_running_its_constructor() -> None:
    value = Derived(20)
    value.net = 13  # __post_init__ would refuse it
    value.total = 5

    assert_same(decode(encode(value)), value)


def test_a_cached_property_is_computed_anew() -> None:
    value = Derived(20)
    assert value.once == [20]

    found = decode(encode(value))

    assert "once" not in vars(found)


def test_a_field_without_value_stays_without() -> None:
    found = decode(encode(Unset()))

    assert isinstance(found, Unset)
    assert not hasattr(found, "late")


def test_a_parametrised_generic_dataclass_is_stored_as_its_class() -> None:
    found = decode(encode(Box[int](5)))

    assert type(found) is Box
    assert found.content == 5


def test_what_is_referred_to_twice_comes_back_as_two_equal_values() -> None:
    shared = [1]

    assert decode(encode([shared, shared])) == [[1], [1]]

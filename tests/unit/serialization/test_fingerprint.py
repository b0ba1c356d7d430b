"""Equal arguments have equal fingerprints in every process; what has no content counts by its type."""

from __future__ import annotations

import datetime as dt
import os
import subprocess
import sys
import threading
from collections import OrderedDict
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings

from dbos_events.serialization import decode, encode, fingerprint
from tests.unit.serialization.samples import (
    Address,
    Bits,
    Box,
    Colour,
    Customer,
    Derived,
    Failure,
    Money,
    Order,
    Point,
    Right,
    Size,
    Status,
    Unset,
)
from tests.unit.serialization.strategies import values

ROOT = Path(__file__).parents[3]


def of(*args: object, **kwargs: object) -> str:
    return fingerprint(args, kwargs)


@given(values)
@settings(deadline=None)
def test_what_was_stored_and_read_has_the_same_fingerprint(value: Any) -> None:
    again = decode(encode(value))

    assert of(value) == of(again)
    assert of(1, key=value) == of(1, key=again)
    assert of([value]) == of([again])


def test_it_is_sixteen_hex_digits() -> None:
    for found in (of(), of(1), of({"a": [1]}), of(object())):
        assert len(found) == 16
        int(found, 16)


DISTINCT: list[tuple[tuple[Any, ...], dict[str, Any]]] = [
    ((), {}),
    ((None,), {}),
    ((1,), {}),
    ((2,), {}),
    ((True,), {}),
    ((1.0,), {}),
    (("1",), {}),
    ((b"1",), {}),
    ((bytearray(b"1"),), {}),
    ((1, 2), {}),
    ((2, 1), {}),
    (((1, 2),), {}),
    (([1, 2],), {}),
    (([2, 1],), {}),
    (([[1], 2],), {}),
    (({1, 2},), {}),
    ((frozenset({1, 2}),), {}),
    (("a", "bc"), {}),
    (("ab", "c"), {}),
    ((["a", b"bc"],), {}),
    ((["ab", b"c"],), {}),
    ((), {"a": 1}),
    ((), {"b": 1}),
    (({"a": 1},), {}),
    (({"a": {1}},), {}),
    (({"b": {1}},), {}),
    (({1: 2},), {}),
    ((OrderedDict(a=1),), {}),
    ((Decimal(1),), {}),
    ((dt.date(2024, 1, 1),), {}),
    ((dt.datetime(2024, 1, 1),), {}),  # noqa: DTZ001
    ((Colour.RED,), {}),
    ((Colour.GREEN,), {}),
    ((Status.OPEN,), {}),
    ((Size.SMALL,), {}),
    ((Right.READ,), {}),
    ((Right.READ | Right.WRITE,), {}),
    ((Bits.ONE | Bits.TWO,), {}),
    ((Order(1),), {}),
    ((Order(2),), {}),
    ((Order(1, [b"x"]),), {}),
    ((Money(1),), {}),
    ((Box(1),), {}),
    ((Point(1),), {}),
    ((Address(street="a"),), {}),
    ((Address(street="b"),), {}),
    ((Customer.model_validate({"name": "a", "more": 1}),), {}),
    ((Customer.model_validate({"name": "a", "more": 2}),), {}),
    ((Unset(),), {}),
    ((10**5000,), {}),
    ((threading.Lock(),), {}),
    ((object(),), {}),
]


def test_different_arguments_have_different_fingerprints() -> None:
    found = [fingerprint(args, kwargs) for args, kwargs in DISTINCT]

    assert len(set(found)) == len(DISTINCT)


def test_the_order_of_dicts_sets_and_keywords_does_not_count() -> None:
    assert of({"a": 1, "b": [2]}) == of({"b": [2], "a": 1})
    assert of({1: {"x"}, 2: ()}) == of({2: (), 1: {"x"}})
    assert of({3, 1, "a", (2,)}) == of({"a", (2,), 1, 3})
    assert of(a=1, b=2) == of(b=2, a=1)
    assert of(a={1}, b=2) == of(b=2, a={1})


def test_an_object_counts_by_its_class_alone() -> None:
    class Client:
        def __init__(self, number: int) -> None:
            self.number = number

        def __repr__(self) -> str:
            raise AssertionError("repr must not be called")

        __hash__ = None  # type: ignore[assignment]
        __eq__ = None  # type: ignore[assignment]

    assert of(Client(1)) == of(Client(2))
    assert of([Client(1)], 5) == of([Client(2)], 5)
    assert of(Order(1, [Client(1)])) == of(Order(1, [Client(2)]))
    assert of(Client(1)) != of(object())


def test_functions_and_generators_count_by_their_type() -> None:
    assert of(lambda: 1) == of(lambda: 2)
    assert of(x for x in [1]) == of(x for x in [2])


def test_an_error_counts_as_an_error_because_replay_may_give_a_stand_in() -> None:
    assert of(Failure("a")) == of(ValueError("b"))


def test_the_self_of_a_method_counts_by_its_class_alone() -> None:
    assert fingerprint((Order(1), 5), {}, bound=True) == fingerprint((Order(2), 5), {}, bound=True)
    assert fingerprint((Order(1), 5), {}, bound=True) != fingerprint((Order(1), 6), {}, bound=True)
    assert fingerprint((Order(1), 5), {}, bound=True) != fingerprint((Money(1), 5), {}, bound=True)


def test_a_cached_property_does_not_count() -> None:
    one, other = Derived(20), Derived(20)
    assert one.once

    assert of(one) == of(other)


def test_values_that_contain_themselves_or_many_references_come_to_an_end() -> None:
    ring: list[object] = [1]
    ring.extend([ring, ring])
    wide: object = (b"x",)
    for _ in range(90):
        wide = [wide, wide]

    assert of(ring) == of(ring)
    assert of(wide) == of(wide)


@pytest.mark.parametrize("depth", [99, 101, 5_000])
def test_any_depth_is_accepted(depth: int) -> None:
    value: object = []
    for _ in range(depth):
        value = [value]

    assert of(value) == of(value)


def test_it_never_fails() -> None:
    class Hostile:
        def __getattribute__(self, name: str) -> Any:
            raise RuntimeError(name)

    class Meta(type):
        def __getattribute__(cls, name: str) -> Any:
            if name == "__dataclass_fields__":
                raise RuntimeError(name)
            return super().__getattribute__(name)

    class Odd(metaclass=Meta):
        pass

    assert of(Hostile()) == of(Hostile())
    assert of(Odd(), 1) == of(Odd(), 1)
    assert of("\ud800", {"\ud800": b""}) != of()


PROGRAM = """
from tests.unit.serialization.test_fingerprint import DISTINCT, fingerprint
print([fingerprint(args, kwargs) for args, kwargs in DISTINCT])
print(fingerprint(({"a", "b", ("d",), b"e"}, {"x": 1, "y": {"z", "w"}}), {"q": frozenset("uvw"), "p": 1}))
"""


def test_it_is_the_same_in_every_process() -> None:
    outputs = {
        subprocess.run(
            [sys.executable, "-c", PROGRAM],
            capture_output=True,
            text=True,
            check=True,
            cwd=ROOT,
            env={**os.environ, "PYTHONHASHSEED": seed},
        ).stdout
        for seed in ("0", "1", "4242")
    }

    assert len(outputs) == 1
    assert str([fingerprint(args, kwargs) for args, kwargs in DISTINCT]) in outputs.pop()


def test_known_fingerprints_do_not_change_with_the_version() -> None:
    """They are stored: a change here makes every running workflow look as if its code had changed."""
    assert of(1, "a") == "44531534ddf0c874"
    assert of({"order": 1, "items": ["a"]}, key=None) == "660a18628620b816"
    assert of((1, {2}), Order(1, [b"x"]), at=dt.date(2024, 1, 1)) == "f65e79b15ad29fc5"

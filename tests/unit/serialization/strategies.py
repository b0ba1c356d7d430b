"""A Hypothesis strategy over every type that can be stored, nested in every way."""

from __future__ import annotations

import datetime as dt
from collections import Counter, OrderedDict, defaultdict, deque
from decimal import Decimal
from pathlib import PosixPath, PurePosixPath, PureWindowsPath
from typing import Any
from zoneinfo import ZoneInfo

from hypothesis import strategies as st

from tests.unit.serialization.samples import (
    Address,
    Bits,
    Box,
    Colour,
    Customer,
    Derived,
    Envelope,
    Failure,
    Money,
    Order,
    Outer,
    Paid,
    Point,
    Right,
    Size,
    Status,
)

# Every code point, lone surrogates and NUL among them, and texts that look like the format's own.
texts = st.text(st.characters(categories=None), max_size=8) | st.sampled_from(
    ["$", '"$"', "v", "\ud800\udc00", "\udfff", "\x00", '{"$":"tuple","v":[]}', "😀"]
)
offsets = st.timedeltas(min_value=dt.timedelta(hours=-23), max_value=dt.timedelta(hours=23))
zones = (
    st.just(dt.UTC)
    | st.builds(dt.timezone, offsets)
    | st.builds(dt.timezone, offsets, st.text(max_size=4))
    | st.sampled_from([ZoneInfo("UTC")])
)
times = st.builds(
    lambda value, zone, fold: value.replace(tzinfo=zone, fold=fold),
    st.datetimes() | st.times(),
    st.none() | zones,
    st.integers(0, 1),
)
numbers = (
    st.integers()
    | st.sampled_from([10**700, -(10**700), 2**63])
    | st.floats()
    | st.complex_numbers()
    | st.decimals(allow_nan=False)
    | st.sampled_from(["NaN123", "-0", "1E+400", "1.500"]).map(Decimal)
)
members = st.sampled_from(
    [*Colour, *Size, *Status, Right(0), Right.READ | Right.WRITE, Bits.ONE, Bits.ONE | Bits.TWO, Bits(64)]
)
hashable_leaves: st.SearchStrategy[Any] = (
    st.none()
    | st.booleans()
    | texts
    | numbers
    | st.binary(max_size=8)
    | times
    | st.dates()
    | st.timedeltas()
    | zones
    | st.uuids()
    | members
    | st.sampled_from([PurePosixPath("a/b"), PosixPath("/c"), PureWindowsPath("C:\\d")])
)
hashables = st.recursive(
    hashable_leaves,
    lambda inner: (
        st.lists(inner, max_size=3).map(tuple)
        | st.frozensets(inner, max_size=3)
        | st.builds(Point, st.integers(), inner)
        | st.builds(Money, inner)
    ),
    max_leaves=4,
)
leaves = hashable_leaves | st.binary(max_size=8).map(bytearray) | st.builds(Derived, st.integers(20, 30))


def _parents(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    lists = st.lists(inner, max_size=3)
    pairs = st.lists(st.tuples(hashables, inner), max_size=3)
    return (
        lists
        | lists.map(tuple)
        | st.sets(hashables, max_size=3)
        | st.frozensets(hashables, max_size=3)
        | st.builds(deque, lists, st.none() | st.integers(3, 5))
        | st.dictionaries(texts, inner, max_size=3)
        | pairs.map(dict)
        | pairs.map(OrderedDict)
        | st.builds(defaultdict, st.sampled_from([None, list, int]), pairs)
        | st.dictionaries(hashables, st.integers(), max_size=3).map(Counter)
        | st.builds(Point, st.integers(), inner)
        | st.builds(Order, st.integers(), lists)
        | st.builds(Paid, st.integers(), lists, inner)
        | st.builds(Money, inner)
        | st.builds(Box, inner)
        | st.builds(Outer.Inner, inner)
        | st.builds(Address, street=st.text(), extra=inner)
        | st.builds(Customer, name=st.text(), tags=inner, more=inner)
        | st.builds(Envelope[int], body=st.integers())
        | lists.map(lambda items: Failure(*items))
    )


values: st.SearchStrategy[Any] = st.recursive(leaves, _parents, max_leaves=8)
plain_values: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=10,
)

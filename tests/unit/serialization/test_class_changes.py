"""A class may change between the run that stored a value and the run that reads it."""

from __future__ import annotations

from collections import namedtuple
from dataclasses import dataclass, field, make_dataclass
from enum import Enum
from typing import Any

import pytest
from pydantic import BaseModel, create_model

from dbos_events.errors import RecordedError, SerializationError
from dbos_events.serialization import decode, decode_error, encode, encode_error
from tests.unit.serialization import samples

HERE = samples.__name__


@dataclass
class Grown:
    id: int
    items: list[object]
    note: str = "none"
    seen: list[int] = field(default_factory=list)


def test_a_dataclass_field_that_was_added_gets_its_default(monkeypatch: pytest.MonkeyPatch) -> None:
    text = encode(samples.Order(1, [2]))
    monkeypatch.setattr(samples, "Order", Grown)

    assert decode(text) == Grown(1, [2], "none", [])


def test_a_dataclass_field_that_was_added_without_default_is_an_error(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    text = encode(samples.Order(1))
    monkeypatch.setattr(samples, "Order", make_dataclass("Order", ["id", "items", "more"]))

    with pytest.raises(SerializationError, match=r"'more'.*a default"):
        decode(text)


def test_a_dataclass_field_that_was_removed_is_not_dropped_silently(monkeypatch: pytest.MonkeyPatch) -> None:
    text = encode(samples.Order(1))
    monkeypatch.setattr(samples, "Order", make_dataclass("Order", ["id"]))

    with pytest.raises(SerializationError, match=r"items.*no longer has"):
        decode(text)


def test_a_model_follows_the_same_rules(monkeypatch: pytest.MonkeyPatch) -> None:
    text = encode(samples.Address(street="a", extra=1))

    grown: Any = create_model("Address", street=(str, ...), extra=(Any, None), zip=(str, "0000"))
    monkeypatch.setattr(samples, "Address", grown)
    assert decode(text) == grown.model_construct(
        street="a", extra=1, zip="0000", _fields_set={"street", "extra"}
    )

    monkeypatch.setattr(
        samples, "Address", create_model("Address", street=(str, ...), extra=(Any, None), zip=(str, ...))
    )
    with pytest.raises(SerializationError, match="'zip'"):
        decode(text)

    monkeypatch.setattr(samples, "Address", create_model("Address", street=(str, ...)))
    with pytest.raises(SerializationError, match="extra"):
        decode(text)


def test_a_named_tuple_follows_the_same_rules(monkeypatch: pytest.MonkeyPatch) -> None:
    text = encode(samples.Point(1, 2))

    grown: Any = type("Point", (namedtuple("Grown", ["y", "x", "z"], defaults=[9]),), {})  # noqa: PYI024
    monkeypatch.setattr(samples, "Point", grown)
    assert decode(text) == grown(x=1, y=2, z=9)

    monkeypatch.setattr(samples, "Point", namedtuple("Point", ["x"]))  # noqa: PYI024
    with pytest.raises(SerializationError, match="no longer has"):
        decode(text)


def test_an_enum_member_is_found_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    text = encode(samples.Colour.RED)

    changed = Enum("changed", {"RED": "another value"})
    monkeypatch.setattr(samples, "Colour", changed)
    assert decode(text) is changed.RED

    monkeypatch.setattr(samples, "Colour", Enum("Colour", "BLUE"))
    with pytest.raises(SerializationError, match="no member 'RED'"):
        decode(text)


@pytest.mark.parametrize(
    "value", [samples.Order(1), samples.Colour.RED, samples.Point(1), samples.Address(street="a")]
)
def test_a_class_that_is_gone_or_of_another_kind_is_an_error(
    value: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = encode([value])
    name = type(value).__name__

    monkeypatch.setattr(samples, name, object)
    with pytest.raises(SerializationError, match="is not a"):
        decode(text)

    monkeypatch.delattr(samples, name)
    with pytest.raises(SerializationError, match=f"{name}.*leave an alias"):
        decode(text)


def test_an_alias_under_the_old_name_is_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    class Moved(BaseModel):
        street: str
        extra: Any = None

    text = encode(samples.Address(street="a"))
    monkeypatch.setattr(samples, "Address", Moved)

    assert decode(text) == Moved(street="a")


def test_an_error_whose_class_is_gone_keeps_name_message_and_cause(monkeypatch: pytest.MonkeyPatch) -> None:
    error = samples.Failure("it broke")
    error.__cause__ = KeyError("k")
    text = encode_error(error)
    monkeypatch.delattr(samples, "Failure")

    found = decode_error(text)

    assert type(found) is RecordedError
    assert (found.type_name, found.recorded_message) == (f"{HERE}.Failure", "it broke")
    assert type(found.__cause__) is KeyError


def test_an_error_that_holds_a_value_of_a_class_that_is_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    text = encode_error(samples.Failure(samples.Order(1)))
    monkeypatch.delattr(samples, "Order")

    found = decode_error(text)

    assert type(found) is RecordedError
    assert "Order(id=1" in str(found)

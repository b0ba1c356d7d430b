"""What a handler gets is what its annotation says; an annotation that says nothing clear is refused."""

from __future__ import annotations

import functools
import json
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Annotated, Any, Literal, NewType, Optional

import pydantic
import pytest
from typing_extensions import TypeAliasType, TypedDict

from dbos_events import KafkaMessage
from dbos_events.errors import RegistrationError, UndecodablePayload
from tests.unit.payloads.records import argument, binding, record

if TYPE_CHECKING:
    from fractions import Fraction as Absent


class Line(pydantic.BaseModel):
    sku: str
    price: Decimal


class Order(pydantic.BaseModel):
    id: int
    lines: list[Line] = []


@dataclass
class Point:
    x: int
    y: int


class Named(TypedDict):
    name: str


class Cat(pydantic.BaseModel):
    kind: Literal["cat"]
    lives: int


class Dog(pydantic.BaseModel):
    kind: Literal["dog"]


Pet = Annotated[Cat | Dog, pydantic.Field(discriminator="kind")]
Text = NewType("Text", str)
MaybeOrder = TypeAliasType("MaybeOrder", "Order | None")
Plain = TypeAliasType("Plain", KafkaMessage[bytes | None])


def takes_model(order: Order) -> None: ...
def takes_maybe_model(order: Order | None) -> None: ...
def takes_optional(order: Optional[Order]) -> None: ...  # noqa: UP045 - older spelling
def takes_alias(order: MaybeOrder) -> None: ...
def takes_dataclass(point: Point) -> None: ...
def takes_typed_dict(named: Named) -> None: ...
def takes_dict(counts: dict[str, int]) -> None: ...
def takes_list(orders: list[Order]) -> None: ...
def takes_union(value: Order | list[int]) -> None: ...
def takes_tagged(pet: Pet) -> None: ...
def takes_uuid(number: uuid.UUID) -> None: ...
async def takes_model_async(order: Order) -> None: ...


ORDER = b'{"id": 7, "lines": [{"sku": "a", "price": "1.50"}]}'
DECODED = Order(id=7, lines=[Line(sku="a", price=Decimal("1.50"))])


@pytest.mark.parametrize(
    ("handler", "value", "expected"),
    [
        (takes_model, ORDER, DECODED),
        (takes_model_async, ORDER, DECODED),
        (takes_maybe_model, ORDER, DECODED),
        (takes_maybe_model, None, None),
        (takes_maybe_model, b"null", None),
        (takes_optional, None, None),
        (takes_alias, ORDER, DECODED),
        (takes_alias, None, None),
        (takes_dataclass, b'{"x": 1, "y": 2}', Point(1, 2)),
        (takes_typed_dict, b'{"name": "ada"}', {"name": "ada"}),
        (takes_dict, b'{"a": 1}', {"a": 1}),
        (takes_list, b"[" + ORDER + b"]", [DECODED]),
        (takes_union, b"[1, 2]", [1, 2]),
        (takes_union, ORDER, DECODED),
        (takes_tagged, b'{"kind": "cat", "lives": 9}', Cat(kind="cat", lives=9)),
        (takes_tagged, b'{"kind": "dog"}', Dog(kind="dog")),
        (takes_uuid, b'"00000000-0000-0000-0000-000000000007"', uuid.UUID(int=7)),
    ],
)
def test_a_value_is_decoded_into_what_the_annotation_says(
    handler: Callable[..., Any], value: bytes | None, expected: object
) -> None:
    found = argument(handler, value)
    assert found == expected
    assert type(found) is type(expected)


def takes_bytes(raw: bytes) -> None: ...
def takes_maybe_bytes(raw: bytes | None) -> None: ...
def takes_text(text: str) -> None: ...
def takes_maybe_text(text: str | None) -> None: ...
def takes_new_type(text: Text) -> None: ...
def takes_both(raw: bytes | str) -> None: ...
def takes_short_text(text: Annotated[str, pydantic.StringConstraints(max_length=3)]) -> None: ...


@pytest.mark.parametrize(
    ("handler", "value", "expected"),
    [
        (takes_bytes, b'{"no": json', b'{"no": json'),
        (takes_bytes, b"", b""),
        (takes_maybe_bytes, None, None),
        (takes_text, "ä".encode(), "ä"),
        (takes_text, b'"quoted"', '"quoted"'),
        (takes_maybe_text, None, None),
        (takes_new_type, b"x", "x"),
        (takes_both, b"x", b"x"),
        (takes_short_text, b"abc", "abc"),
    ],
)
def test_bytes_and_text_are_the_value_itself(
    handler: Callable[..., Any], value: bytes | None, expected: object
) -> None:
    assert argument(handler, value) == expected


def unannotated(message):  # type: ignore[no-untyped-def]
    ...


def takes_any(message: Any) -> None: ...
def takes_object(message: object) -> None: ...
def takes_message(message: KafkaMessage) -> None: ...
def takes_any_value(message: KafkaMessage[Any]) -> None: ...
def takes_any_bytes(message: KafkaMessage[bytes | None]) -> None: ...
def takes_plain(message: Plain) -> None: ...
def takes_remarked(message: Annotated[KafkaMessage, "as it came"]) -> None: ...


@pytest.mark.parametrize(
    "handler",
    [unannotated, takes_any, takes_object, takes_message, takes_any_value, takes_any_bytes, takes_plain, takes_remarked],
)  # fmt: skip
def test_who_takes_a_message_as_it_came_has_nothing_to_decode(handler: Callable[..., Any]) -> None:
    assert binding(handler) is None


def takes_message_of_bytes(message: KafkaMessage[bytes]) -> None: ...
def takes_message_of_text(message: KafkaMessage[str]) -> None: ...
def takes_message_of_model(message: KafkaMessage[Order]) -> None: ...
def takes_message_of_maybe_model(message: KafkaMessage[Order | None]) -> None: ...


def test_a_message_comes_with_its_value_decoded_and_all_else_as_it_was() -> None:
    found = argument(takes_message_of_model, ORDER)
    raw = record(ORDER)
    assert found.value == DECODED
    fields = ("headers", "key", "latency", "leader_epoch", "offset", "partition", "timestamp", "topic")
    assert [getattr(found, field) for field in fields] == [getattr(raw, field) for field in fields]
    assert argument(takes_message_of_text, b"x").value == "x"
    assert argument(takes_message_of_maybe_model, None).value is None
    assert argument(takes_message_of_bytes, b"x") == record(b"x")


@pytest.mark.parametrize(
    ("handler", "name"),
    [
        (takes_model, "Order"),
        (takes_bytes, "bytes"),
        (takes_text, "str"),
        (takes_message_of_bytes, "bytes"),
        (takes_message_of_text, "str"),
        (takes_message_of_model, "Order"),
        (takes_dict, "dict[str, int]"),
        (takes_list, "list[Order]"),
    ],
)
def test_a_tombstone_is_for_those_who_take_none(handler: Callable[..., Any], name: str) -> None:
    with pytest.raises(UndecodablePayload) as refused:
        argument(handler, None)
    assert refused.value.reason == "undecodable"
    assert "orders/0/17 is a tombstone" in refused.value.message
    assert f"`{name} | None`" in refused.value.message


# -- what is refused at registration ------------------------------------------------------------


def takes_nothing() -> None: ...
def takes_two(order: Order, more: int) -> None: ...
def takes_keyword(*, order: Order) -> None: ...
def takes_star(*orders: Order) -> None: ...
def takes_star_and_keywords(*args: Any, **kwargs: Any) -> None: ...
def takes_absent(order: Absent) -> None: ...
def takes_misspelt(order: Ordr) -> None: ...  # type: ignore[name-defined]  # noqa: F821
def takes_none(order: None) -> None: ...
def takes_maybe_message(message: KafkaMessage[Order] | None) -> None: ...
def takes_message_or_model(message: KafkaMessage | Order) -> None: ...
def takes_socket(connection: Connection) -> None: ...


class Connection:
    """Nothing that pydantic knows."""


class Unfinished(pydantic.BaseModel):
    order: Later  # type: ignore[name-defined]  # noqa: F821


def takes_unfinished(unfinished: Unfinished) -> None: ...


@pytest.mark.parametrize(
    ("handler", "named"),
    [
        (takes_nothing, "must take one argument"),
        (takes_two, "must take one argument"),
        (takes_keyword, "must take one argument"),
        (takes_star, r"takes \*orders"),
        (takes_star_and_keywords, r"functools\.wraps"),
        (takes_absent, r"'order' with Absent.*TYPE_CHECKING"),
        (takes_misspelt, r"'Ordr'.*not defined"),
        (takes_none, "tombstones only"),
        (takes_maybe_message, r"KafkaMessage\[\.\.\.\], or the type of the value alone"),
        (takes_message_or_model, r"KafkaMessage\[\.\.\.\], or the type of the value alone"),
        (takes_socket, "Connection, which values cannot be decoded into.*codec="),
        (takes_unfinished, "Unfinished, which values cannot be decoded into.*Later"),
    ],
)
def test_what_cannot_be_decoded_into_is_refused_with_what_to_do(
    handler: Callable[..., Any], named: str
) -> None:
    with pytest.raises(RegistrationError, match=named) as refused:
        binding(handler)
    assert "Consumer 'orders': its handler" in refused.value.message


def takes_with_result_of_nobody(order: Order) -> Absent: ...  # type: ignore[empty-body]
def takes_more_with_default(order: Order, more: int = 3) -> None: ...


def test_only_the_annotation_of_the_argument_matters() -> None:
    assert argument(takes_with_result_of_nobody, ORDER) == DECODED
    assert argument(takes_more_with_default, ORDER) == DECODED


def test_a_decorator_that_keeps_the_signature_changes_nothing() -> None:
    @functools.wraps(takes_model)
    def around(*args: Any) -> None: ...

    assert argument(around, ORDER) == DECODED


def test_names_of_the_place_where_the_handler_is_defined_are_known() -> None:
    class Local(pydantic.BaseModel):
        id: int

    def handler(local: Local) -> None: ...

    with pytest.raises(RegistrationError, match="Local"):
        binding(handler)
    assert argument(handler, json.dumps({"id": 3}).encode(), Local=Local) == Local(id=3)

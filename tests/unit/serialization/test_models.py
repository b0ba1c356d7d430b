"""Pydantic models come back exactly, without validation and without an import where none is needed."""

from __future__ import annotations

import datetime as dt
import subprocess
import sys
from decimal import Decimal
from typing import Any

import pydantic
import pydantic_core
import pytest
from pydantic import BaseModel, HttpUrl, SecretStr, TypeAdapter, ValidationError

from dbos_events.errors import SerializationError
from dbos_events.serialization import decode, decode_error, encode, encode_error
from tests.unit.serialization.samples import Address, Customer, Envelope, Names, Order, assert_same


class Strict(BaseModel):
    number: int
    shout: str

    @pydantic.field_validator("shout")
    @classmethod
    def louder(cls, value: str) -> str:
        return f"{value}!"


@pydantic.dataclasses.dataclass
class Checked:
    number: int


class Keeper(BaseModel):
    secret: SecretStr


MODELS: list[object] = [
    Address(street="a"),
    Address(street="a", extra=(1, {2}, Decimal("1.0"))),
    Customer.model_validate(
        {"name": "n", "address": {"street": "b"}, "tags": ("x",), "more": {"free": b"y"}}
    ),
    Names(["a", "b"]),
    Envelope[int](body=1),
    Envelope[Order](body=Order(1)),
    Envelope(body=Envelope[int](body=1)),
    Checked(number=1),
]


@pytest.mark.parametrize("model", MODELS, ids=[f"{n}-{type(m).__name__}" for n, m in enumerate(MODELS)])
def test_a_model_comes_back_as_its_class_with_its_values(model: object) -> None:
    assert_same(decode(encode(model)), model)


def test_which_fields_were_set_is_kept() -> None:
    found: Any = decode(encode(Address(street="a")))

    assert found.model_dump(exclude_unset=True) == {"street": "a"}


def test_validators_do_not_run_again() -> None:
    value = Strict(number=1, shout="hello")

    found: Any = decode(encode(value))

    assert found.shout == "hello!"


def test_a_model_that_was_never_validated_comes_back_as_it_was() -> None:
    value = Strict.model_construct(number="not a number")

    found: Any = decode(encode(value))

    assert found.number == "not a number"
    assert not hasattr(found, "shout")


def test_private_attributes_come_back_with_their_defaults() -> None:
    value = Address(street="a")
    value._cache.append(1)

    found: Any = decode(encode(value))

    assert found._cache == []


def test_a_parsed_datetime_keeps_the_zone_type_that_pydantic_gave_it() -> None:
    value = TypeAdapter(dt.datetime).validate_python("2024-01-01T00:00:00+01:00")
    assert type(value.tzinfo) is pydantic_core.TzInfo

    assert_same(decode(encode(value)), value)


def test_a_url_keeps_its_type() -> None:
    value = HttpUrl("https://example.org/a?b=1")

    found = decode(encode(value))

    assert type(found) is HttpUrl
    assert found == value


def test_a_secret_is_not_written_into_the_database() -> None:
    with pytest.raises(SerializationError, match=r"value\.secret is of type pydantic\.types\.SecretStr"):
        encode(Keeper(secret=SecretStr("s3cret")))


def test_type_arguments_without_a_name_ask_for_a_named_model() -> None:
    with pytest.raises(SerializationError, match="Give it a name"):
        encode(Envelope[list[int]](body=[1]))


def test_a_validation_error_comes_back_as_one() -> None:
    with pytest.raises(ValidationError) as caught:
        Strict.model_validate({"number": "x"})

    found = decode_error(encode_error(caught.value))

    assert type(found) is ValidationError
    assert str(found) == str(caught.value)
    assert found.errors() == caught.value.errors()


def test_plain_values_and_dataclasses_never_import_pydantic() -> None:
    program = (
        "import sys\n"
        "from dbos_events.serialization import decode, encode, encode_error, fingerprint\n"
        "from fractions import Fraction\n"
        "decode(encode({'a': (1, {2})})); encode_error(ValueError()); fingerprint((Fraction(1),), {})\n"
        "print('pydantic' in sys.modules)\n"
    )
    output = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)

    assert output.stdout == "False\n"

"""What does not decode says which field and why, in few words; codecs stand in for JSON."""

import operator
import subprocess
import sys
from typing import Any, Protocol

import pydantic
import pytest

from dbos_events import KafkaMessage
from dbos_events.errors import FilterFailed, Quarantine, RegistrationError, UndecodablePayload
from dbos_events.serialization.codecs import Codec, JsonCodec, PickleCodec
from tests.unit.payloads.records import argument, binding, record

SECRET = "4111-1111-1111-1111"


class Order(pydantic.BaseModel):
    id: int
    amount: int

    @pydantic.field_validator("amount")
    @classmethod
    def positive(cls, amount: int) -> int:
        if amount == 13:
            raise RuntimeError("thirteen")
        if amount < 0:
            raise ValueError("must not be below zero")
        return amount


def takes_order(order: Order) -> None: ...
def takes_text(text: str) -> None: ...
def takes_message(message: KafkaMessage[Order]) -> None: ...


def problem(handler: Any, value: bytes, **options: Any) -> str:
    """What the error says of a value that does not decode."""
    with pytest.raises(UndecodablePayload) as refused:
        argument(handler, value, **options)
    error = refused.value
    assert isinstance(error, Quarantine)
    assert error.reason == "undecodable"
    assert error.__context__ is None  # neither memory nor the stored error keeps the value
    return error.message


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (b'{"id": 1}', "orders/0/17 is no Order: amount: Field required."),
        (b'{"id": "x", "amount": -1}', "id: Input should be a valid integer"),
        (b'{"id": "x", "amount": -1}', "amount: Value error, must not be below zero"),
        (b"[]", "is no Order: Input should be an object"),
        (b'{"id": 1, "amount"', "Invalid JSON: EOF while parsing"),
        (b"", "it is empty"),
        (b'{"id": "\xff"}', "it is no JSON: it is no UTF-8 (invalid start byte at byte 8)"),
        (b"\x00\x00\x00\x00\x07rest", "schema registry; such values need a codec="),
        (b'{"id": 1, "amount": 13}', "RuntimeError: thirteen (test_decoding.py:"),
    ],
)
def test_an_error_says_which_field_and_why(value: bytes, said: str) -> None:
    assert said in problem(takes_order, value)
    assert said in problem(takes_message, value)


def test_text_that_is_no_utf_8_is_said_to_be_none() -> None:
    assert problem(takes_text, b"ab\xff") == (
        "The value of orders/0/17 is no str: it is no UTF-8 (invalid start byte at byte 2)."
    )


def test_an_error_holds_nothing_of_the_value_and_stays_short() -> None:
    class Strict(pydantic.BaseModel):
        model_config = pydantic.ConfigDict(extra="forbid")

        card: int

    def takes_strict(strict: Strict) -> None: ...

    fields = ",".join(f'"field{number}{"x" * 500}": 1' for number in range(1000))
    text = problem(takes_strict, b'{"card": "%s", %s}' % (SECRET.encode(), fields.encode()))
    assert "card: Input should be a valid integer" in text
    assert "and 991 more" in text
    assert len(text) < 5000
    with pytest.raises(UndecodablePayload) as refused:
        argument(takes_strict, b'{"card": "%s"}' % SECRET.encode())
    assert SECRET not in JsonCodec().encode_error(refused.value)


def test_an_error_can_be_stored_whatever_the_keys_are() -> None:
    class Strict(pydantic.BaseModel):
        model_config = pydantic.ConfigDict(extra="forbid")

    def takes_strict(strict: Strict) -> None: ...

    text = problem(takes_strict, b'{"a\\u0000b\\n": 1}')
    assert r"a\x00b\n: Extra inputs" in text


@pytest.mark.parametrize("codec", [JsonCodec(), PickleCodec()], ids=["json", "pickle"])
def test_an_error_comes_back_from_storage_as_what_it_was(codec: Codec) -> None:
    for error in (UndecodablePayload("no Order"), FilterFailed("no answer")):
        found = codec.decode_error(codec.encode_error(error))
        assert isinstance(found, type(error))
        assert (str(found), found.reason, found.code) == (error.message, error.reason, error.code)


def test_a_program_without_typed_handlers_does_not_load_pydantic() -> None:
    program = (
        "import sys; from dbos_events import App, KafkaMessage\n"
        "def on_order(message: KafkaMessage[bytes]) -> None: ...\n"
        "App().kafka_consumer(topics='orders', when=lambda message: True)(on_order)\n"
        "assert 'pydantic' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


# -- codecs -------------------------------------------------------------------------------------


class Pairs:
    """`id=1;amount=2`; a header `as` makes it text."""

    def decode(self, message: KafkaMessage[bytes]) -> Any:
        if message.headers is not None:
            return message.value.decode()
        return dict(pair.split("=") for pair in message.value.decode().split(";"))


class Foreign:
    """A class that pydantic does not know, as those of protobuf."""


class Making:
    def __init__(self, value: Any) -> None:
        self.value = value

    def decode(self, message: KafkaMessage[bytes]) -> Any:
        if isinstance(self.value, Exception):
            raise self.value
        return self.value


def takes_foreign(foreign: Foreign) -> None: ...
def takes_foreign_or_none(foreign: Foreign | None) -> None: ...
def takes_any(message: Any) -> None: ...
def takes_bytes(raw: bytes) -> None: ...
def takes_bare_message(message: KafkaMessage) -> None: ...


def test_what_a_codec_gives_is_checked_against_the_annotation() -> None:
    assert argument(takes_order, b"id=1;amount=2", codec=Pairs()) == Order(id=1, amount=2)
    assert argument(takes_message, b"id=1;amount=2", codec=Pairs()).value == Order(id=1, amount=2)
    assert argument(takes_bytes, b"packed", codec=Making(b"unpacked")) == b"unpacked"
    foreign = Foreign()
    assert argument(takes_foreign, b"", codec=Making(foreign)) is foreign
    assert argument(takes_foreign_or_none, None, codec=Making(foreign)) is None


def test_a_codec_sees_the_whole_record() -> None:
    bound = binding(takes_text, codec=Pairs())
    assert bound is not None
    assert bound.decode is not None
    assert bound.decode(record(b"x", headers=[("as", b"text")])) == "x"


def test_who_takes_anything_gets_the_message_with_what_the_codec_gave() -> None:
    found = argument(takes_any, b"a=b", codec=Pairs())
    assert isinstance(found, KafkaMessage)
    assert found.value == {"a": "b"}
    assert argument(takes_any, None, codec=Pairs()).value is None


def test_what_a_codec_raises_makes_the_value_undecodable() -> None:
    text = problem(takes_order, b"id", codec=Pairs())
    assert text.startswith("The codec Pairs cannot decode the value of orders/0/17 (2 bytes): ValueError: ")
    assert "(test_decoding.py:" in text
    assert "in decode" in text


def test_what_a_codec_gives_that_does_not_fit_is_told_with_its_type() -> None:
    text = problem(takes_order, b"x", codec=Making({"id": 1}))
    assert text == (
        "The value of orders/0/17 is no Order: amount: Field required (the codec Making gave a dict)."
    )
    assert "is no Foreign" in problem(takes_foreign, b"x", codec=Making(3))


def test_a_codec_is_not_asked_about_tombstones() -> None:
    with pytest.raises(UndecodablePayload, match="is a tombstone"):
        argument(takes_order, None, codec=Making(AssertionError("asked")))


class Async:
    async def decode(self, message: KafkaMessage[bytes]) -> Any:
        """Never called."""


@pytest.mark.parametrize(
    ("codec", "named"), [(Async(), "async"), (Pairs, "is no codec"), (object(), "is no codec"), (len, "is no codec")]
)  # fmt: skip
def test_what_is_no_codec_is_refused(codec: Any, named: str) -> None:
    with pytest.raises(RegistrationError, match=named):
        binding(takes_order, codec=codec)


def test_a_codec_for_a_handler_that_takes_raw_messages_is_refused() -> None:
    with pytest.raises(RegistrationError, match=r"KafkaMessage\[Any\]"):
        binding(takes_bare_message, codec=Pairs())


# -- filters ------------------------------------------------------------------------------------


class Judge(Protocol):
    def __call__(self, value: bytes | None) -> bool: ...


def judge(when: Any, **options: Any) -> Judge:
    bound = binding(takes_any, when=when, **options)
    assert bound is not None
    assert bound.when is not None
    ask = bound.when
    return lambda value: ask(record(value))


def paid(order: Order) -> bool:
    return order.amount > 0


def test_a_filter_gets_the_message_or_what_its_own_argument_says() -> None:
    assert judge(lambda message: message.offset == 17)(None)
    assert judge(paid)(b'{"id": 1, "amount": 1}')
    assert not judge(paid)(b'{"id": 1, "amount": 0}')
    assert judge(paid, codec=Making({"id": 1, "amount": 1}))(b"x")
    assert not judge(lambda message: message.value == b"{}", codec=Making({}))(b"x")
    assert judge(Only(17))(None)
    assert judge(operator.attrgetter("value"))(b"x")


class Only:
    """A filter with a parameter."""

    def __init__(self, offset: int) -> None:
        self.offset = offset

    def __call__(self, message: KafkaMessage) -> bool:
        return message.offset == self.offset


def test_a_filter_that_cannot_judge_says_so() -> None:
    def fails(message: KafkaMessage) -> bool:
        raise KeyError("kind")

    with pytest.raises(FilterFailed) as failed:
        judge(fails)(b"x")
    assert failed.value.reason == "filter-failed"
    assert "KeyError: 'kind' (test_decoding.py:" in failed.value.message
    assert "orders/0/17" in failed.value.message
    with pytest.raises(UndecodablePayload, match=r"`when` of the consumer orders cannot be asked.*amount"):
        judge(paid)(b'{"id": 1}')


async def later(message: KafkaMessage) -> bool:
    return True


class Later:
    async def __call__(self, message: KafkaMessage) -> bool:
        return True


@pytest.mark.parametrize("when", [later, Later()])
def test_a_filter_that_is_async_is_refused(when: Any) -> None:
    with pytest.raises(RegistrationError, match="async"):
        judge(when)


def test_a_filter_that_turns_out_to_be_async_fails() -> None:
    with pytest.raises(FilterFailed, match="awaitable"):
        judge(lambda _: later(record(None)))(b"x")


@pytest.mark.parametrize(
    "when",
    ["yes", lambda: True, lambda _one, _two: True, lambda *_: True],
    ids=["text", "none", "two", "star"],
)
def test_a_filter_takes_one_argument(when: Any) -> None:
    with pytest.raises(RegistrationError, match="its `when`"):
        judge(when)

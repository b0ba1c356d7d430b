"""Each stored row names its codec; an App reads what it allows and says clearly what it does not."""

from __future__ import annotations

import json
import threading
from fractions import Fraction
from typing import Any

import pytest

from dbos_events.errors import RecordedError, SerializationError
from dbos_events.serialization import Codec, Codecs, codec_for, error_summary
from tests.unit.serialization.samples import CodedFailure, Failure, Speechless


class Shout:
    """A serializer as users of DBOS Transact write them."""

    def name(self) -> str:
        return "shout"

    def serialize(self, data: Any) -> str:
        return json.dumps(data).upper()

    def deserialize(self, serialized_data: str) -> Any:
        return json.loads(serialized_data.lower())


class Reversed(Shout):
    def name(self) -> str:
        return "reversed"

    def serialize(self, data: Any) -> str:
        return json.dumps(data)[::-1]

    def deserialize(self, serialized_data: str) -> Any:
        return json.loads(serialized_data[::-1])


class Mute(Shout):
    def serialize(self, data: Any) -> Any:
        return b""


@pytest.mark.parametrize("name", ["json", "pickle"])
def test_built_in_codecs_are_found_by_name(name: str) -> None:
    codec = codec_for(name)

    assert isinstance(codec, Codec)
    assert codec.name == name
    assert codec.decode(codec.encode({"a": (1, b"x")})) == {"a": (1, b"x")}
    found = codec.decode_error(codec.encode_error(Failure("a", 1)))
    assert type(found) is Failure
    assert found.args == ("a", 1)


def test_a_codec_that_no_one_knows() -> None:
    with pytest.raises(
        SerializationError, match="'msgpack', which no one knows here; known are json, pickle"
    ):
        codec_for("msgpack")
    with pytest.raises(SerializationError, match="'msgpack', which no one knows here; known are json"):
        Codecs().get("msgpack")
    with pytest.raises(SerializationError, match="'msgpack'"):
        Codecs(default="msgpack")


def test_json_is_the_default_and_always_readable() -> None:
    assert Codecs().default.name == "json"
    assert Codecs(default="pickle").get("json").name == "json"


def test_pickle_is_not_read_unless_it_was_opted_in() -> None:
    with pytest.raises(SerializationError, match='opt in with serializer="pickle"'):
        Codecs().get("pickle")
    with pytest.raises(SerializationError, match="opt in"):
        Codecs(default=Shout()).get("pickle")

    assert Codecs(default="pickle").get("pickle").name == "pickle"
    assert Codecs(allowed=["pickle"]).get("pickle").name == "pickle"
    assert Codecs(allowed=["pickle"]).default.name == "json"


def test_pickle_stores_what_json_refuses() -> None:
    codec = codec_for("pickle")

    assert codec.decode(codec.encode([Fraction(1, 3), range(3)])) == [Fraction(1, 3), range(3)]
    assert codec.encode("é\x00").isascii()


def test_pickle_says_clearly_what_it_cannot_do() -> None:
    codec = codec_for("pickle")

    with pytest.raises(SerializationError, match="cannot be pickled"):
        codec.encode(threading.Lock())
    for damaged in ("", "?", "AAAA", codec.encode([1, 2])[:-4]):
        with pytest.raises(SerializationError, match="cannot be read"):
            codec.decode(damaged)


def test_pickle_carries_all_attributes_of_errors_and_falls_back_to_json() -> None:
    codec = codec_for("pickle")
    error = Failure("a")
    error.part = Fraction(1, 3)  # type: ignore[attr-defined]

    found: Any = codec.decode_error(codec.encode_error(error))
    assert found.part == Fraction(1, 3)

    found = codec.decode_error(codec.encode_error(CodedFailure(5, detail=None)))  # pickle cannot rebuild it
    assert type(found) is CodedFailure
    assert found.code == 5
    assert type(codec.decode_error(codec.encode_error(Speechless()))) is not None
    assert error_summary(codec.encode_error(error))[1] == "a"


def test_json_does_not_unpickle_an_error_that_was_stored_with_pickle() -> None:
    text = codec_for("pickle").encode_error(Failure("a"))
    node = json.loads(text)
    node["pickle"] = codec_for("pickle").encode(ValueError("from pickle"))

    assert type(codec_for("json").decode_error(json.dumps(node))) is Failure


def test_a_users_serializer_is_a_codec_under_its_own_name() -> None:
    codecs = Codecs(default=Shout(), allowed=[Reversed()])

    assert codecs.default.name == "shout"
    assert codecs.default.encode(["a"]) == '["A"]'
    assert codecs.get("shout").decode('["A"]') == ["a"]
    assert codecs.get("reversed").decode("]1[") == [1]


def test_errors_pass_through_a_users_serializer_as_text() -> None:
    codec = Codecs(default=Reversed()).default

    text = codec.encode_error(CodedFailure(5, detail=(1,)))

    assert "CodedFailure" not in text
    found: Any = codec.decode_error(text)
    assert type(found) is CodedFailure
    assert found.detail == (1,)


def test_a_users_serializer_that_fails_is_named() -> None:
    codec = Codecs(default=Shout()).default

    with pytest.raises(SerializationError, match="'shout' could not write"):
        codec.encode({1, 2})
    with pytest.raises(SerializationError, match="'shout' could not read"):
        codec.decode("{")
    with pytest.raises(SerializationError, match="returned bytes instead of str"):
        Codecs(default=Mute()).default.encode(1)


def test_names_are_unique() -> None:
    class Impostor(Shout):
        def name(self) -> str:
            return "json"

    with pytest.raises(SerializationError, match="taken by a built-in"):
        Codecs(default=Impostor())
    with pytest.raises(SerializationError, match="Two codecs are named 'shout'"):
        Codecs(default=Shout(), allowed=[Mute()])


def test_what_is_no_serializer_is_told_what_it_lacks() -> None:
    given: Any = object()

    with pytest.raises(
        SerializationError, match="serialize\\(value\\), deserialize\\(text\\) and name\\(\\)"
    ):
        Codecs(default=given)


def test_a_recorded_error_survives_every_codec() -> None:
    for codec in (codec_for("json"), codec_for("pickle"), Codecs(default=Reversed()).default):
        found = codec.decode_error(codec.encode_error(RecordedError("a.B", "text")))
        assert type(found) is RecordedError
        assert found.type_name == "a.B"

"""Whatever a row holds, reading it gives a value or the typed error, and nothing else."""

import json
from contextlib import suppress
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from dbos_events.errors import SerializationError
from dbos_events.serialization import Codecs, decode_error, encode, error_summary
from dbos_events.serialization.headers import decode_headers, encode_headers
from tests.unit.serialization.strategies import values

texts = st.one_of(
    st.text(max_size=60),
    st.text(st.characters(), max_size=60),  # with surrogates
    st.text('{}[]",:$tvxnm0123456789.eE-\\u/ ', max_size=60),
    st.binary(max_size=60).map(lambda raw: raw.decode("latin-1")),
)


def damaged(text: str, data: st.DataObject) -> str:
    """The text with a piece cut out, doubled or replaced."""
    begin = data.draw(st.integers(0, len(text)))
    end = data.draw(st.integers(begin, len(text)))
    return (
        text[:begin]
        + data.draw(st.sampled_from(["", text[begin:end] * 2, "null", '"', "9" * 30]))
        + text[end:]
    )


def read(text: str) -> None:
    codec = Codecs().get("json")
    with suppress(SerializationError):
        codec.decode(text)
    with suppress(SerializationError):
        assert isinstance(decode_error(text), BaseException)
    assert len(error_summary(text)) == 3
    with suppress(SerializationError):
        decode_headers(text)


@given(texts)
@settings(max_examples=300, deadline=None)
def test_any_text(text: str) -> None:
    read(text)


@given(values, st.data())
@settings(max_examples=200, deadline=None)
def test_any_damage_to_a_stored_value(value: Any, data: st.DataObject) -> None:
    read(damaged(encode(value), data))


@given(st.text(max_size=20))
@settings(max_examples=100, deadline=None)
def test_any_name_of_a_codec(name: str) -> None:
    with suppress(SerializationError):
        assert Codecs().get(name).name == "json"


headers = st.lists(st.tuples(st.text(max_size=10), st.none() | st.binary(max_size=10)), max_size=5)


@given(headers, st.data())
@settings(max_examples=200, deadline=None)
def test_headers_come_back_or_are_refused(pairs: list[tuple[str, bytes | None]], data: st.DataObject) -> None:
    stored = encode_headers(pairs)
    assert decode_headers(stored) == (pairs or None)
    if stored is not None:
        json.dumps(stored).encode("ascii")
        with suppress(SerializationError):
            decode_headers(damaged(stored, data))

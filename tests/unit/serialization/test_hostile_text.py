"""A damaged or tampered text gets a clear error, and constructs nothing that it should not."""

from __future__ import annotations

import json
import sys
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dbos_events.errors import SerializationError
from dbos_events.serialization import decode, encode
from tests.unit.serialization.samples import NotADataclass
from tests.unit.serialization.strategies import values

HERE = "tests.unit.serialization.samples"


def refused(node: object) -> str:
    with pytest.raises(SerializationError) as caught:
        decode(node if isinstance(node, str) else json.dumps(node))
    return str(caught.value)


@pytest.mark.parametrize(
    "text", ["", "{", '{"a":', "nul", "1 2", "[1]]", "NaN", "Infinity", "\x00", '{"$":"tuple","v":[1', " 1"]
)
def test_text_that_is_not_json(text: str) -> None:
    assert "cannot be read" in refused(text)


def test_nesting_beyond_pythons_limit() -> None:
    assert "cannot be read" in refused("[" * 100_000)


@given(values, st.data())
@settings(deadline=None)
def test_a_truncated_text_is_an_error_or_a_shorter_number(value: Any, data: st.DataObject) -> None:
    text = encode(value)
    cut = text[: data.draw(st.integers(0, len(text) - 1))]
    try:
        decode(cut)
    except SerializationError:
        return
    float(cut)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["t", "v", "x", "u", "s", "a", "args"]), inner, max_size=4)
        | st.builds(
            lambda tag, node: {"$": tag, **node},
            st.sampled_from(
                [
                    "tuple",
                    "set",
                    "dict",
                    "bytes",
                    "datetime",
                    "Decimal",
                    "enum",
                    "dataclass",
                    "model",
                    "error",
                ]
            ),
            st.dictionaries(
                st.sampled_from(["t", "v", "x", "u", "n", "m", "args", "state", "call"]), inner, max_size=5
            ),
        )
    ),
    max_leaves=10,
)


@given(json_values)
@settings(max_examples=400, deadline=None)
def test_any_json_is_read_or_refused_with_the_typed_error(node: Any) -> None:
    with suppress(SerializationError):
        decode(json.dumps(node))


@pytest.mark.parametrize("tag", ["unknown", "", 1, None, ["tuple"], "object", "__class__"])
def test_unknown_tags(tag: object) -> None:
    assert "unknown tag" in refused({"$": tag, "v": []})


@pytest.mark.parametrize("tag", ["dataclass", "enum", "flag", "namedtuple", "model", "url"])
@pytest.mark.parametrize(
    "name",
    [
        "os:system",
        "builtins:eval",
        "builtins:print",
        "subprocess:Popen",
        "builtins:object",
        "builtins:dict",
        f"{HERE}:NotADataclass",
        f"{HERE}:Order.__init__",
        f"{HERE}:Order.items",
        f"{HERE}:missing",
        "no_such_module_at_all:Order",
        "os",
        "",
        ":",
        "os:",
        ".os:path",
        "os.:path",
        "os:path:join",
        "os:getcwd()",
        f"{HERE}:Order\n",
        5,
        None,
    ],
)
def test_a_name_that_leads_to_anything_but_a_class_of_that_kind(tag: str, name: object) -> None:
    assert refused({"$": tag, "t": name, "v": {}, "s": []})
    assert not NotADataclass.called


@pytest.mark.parametrize("name", ["os:system", "builtins:eval", "builtins:int", f"{HERE}:NotADataclass"])
def test_only_exceptions_are_built_as_exceptions(name: str) -> None:
    node = {
        "$": "error",
        "t": name,
        "n": "n",
        "m": "m",
        "args": ["1"],
        "state": {},
        "call": {"args": ["1"], "state": {}},
    }

    assert type(decode(json.dumps(node))).__name__ == "RecordedError"
    assert not NotADataclass.called


def test_a_malformed_name_imports_nothing() -> None:
    refused({"$": "dataclass", "t": "../antigravity:x", "v": {}})
    assert "antigravity" not in sys.modules


@pytest.mark.parametrize(
    "node",
    [
        {"$": "tuple"},
        {"$": "tuple", "v": "ab"},
        {"$": "set", "v": [[]]},
        {"$": "dict", "v": [[1]]},
        {"$": "dict", "v": [[[], 1]]},
        {"$": "dict", "v": {}},
        {"$": "bytes", "v": "?"},
        {"$": "bytes", "v": 1},
        {"$": "str", "v": "gA=="},
        {"$": "int", "v": "x"},
        {"$": "float", "v": "1.5"},
        {"$": "complex", "v": [1, 2]},
        {"$": "datetime", "v": "yesterday"},
        {"$": "datetime", "v": "2024-01-01T00:00:00", "tz": "UTC"},
        {"$": "timedelta", "v": [1, 2]},
        {"$": "timedelta", "v": [10**12, 0, 0]},
        {"$": "timezone", "v": [5, 0, 0]},
        {"$": "Decimal", "v": "one"},
        {"$": "UUID", "v": "1"},
        {"$": "ZoneInfo", "v": "../../etc/passwd"},
        {"$": "deque", "v": [], "n": -1},
        {"$": "defaultdict", "f": "eval", "v": []},
        {"$": "enum", "t": f"{HERE}:Colour", "v": "BLUE"},
        {"$": "enum", "t": f"{HERE}:Colour", "v": "__class__"},
        {"$": "flag", "t": f"{HERE}:Colour", "v": 99},
        {"$": "dataclass", "t": f"{HERE}:Order", "v": {"id": 1, "__class__": 2}},
        {"$": "dataclass", "t": f"{HERE}:Money", "v": {"amount": 1}, "x": {"__dict__": {}}},
        {"$": "namedtuple", "t": f"{HERE}:Point", "v": {}},
        {"$": "model", "t": f"{HERE}:Address", "v": {}, "s": []},
        {"$": "model", "t": f"{HERE}:Envelope", "a": ["subprocess:Popen"], "v": {"body": 1}, "s": []},
        {"$": "TzInfo", "v": "1"},
    ],
    ids=json.dumps,
)
def test_nodes_with_wrong_content(node: object) -> None:
    assert refused(node)


@pytest.mark.parametrize("text", [None, 5, b"1"])
def test_what_is_no_text(text: Any) -> None:
    with pytest.raises(SerializationError):
        decode(text)

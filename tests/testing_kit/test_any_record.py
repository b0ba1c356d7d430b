"""Whatever a record holds, its event succeeds or is put aside, and the next one succeeds."""

import json
from collections.abc import Iterator
from typing import Any

import pydantic
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dbos_events import App, KafkaMessage
from dbos_events.model.workflow import ERROR, SUCCESS
from dbos_events.testing import TestApp

ENDED = {SUCCESS, ERROR}


class Order(pydantic.BaseModel):
    id: int
    lines: list[dict[str, float | str | None]] = []


json_like = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["id", "lines", "$", ""]), inner, max_size=3)
    ),
    max_leaves=8,
)
odd = st.sampled_from([
    b"[" * 100_000, b'{"id":' + b"9" * 5000 + b"}", b'{"id":NaN}', b'{"id":1,"id":2}', b'{"id":1e999}', b"\xff\xfe", b"\0",
    b'{"id":"\\ud800"}', b'"\\u0000"', b"\xef\xbb\xbf{}", b"null", b"", b'{"id":1}' + b" " * 100_000,
])  # fmt: skip
payloads = st.none() | st.binary(max_size=30) | odd | json_like.map(lambda value: json.dumps(value).encode())
keys = (
    st.none()
    | st.binary(max_size=30)
    | st.sampled_from([b"\xff" * 1_000_000, b"\0", b"/", b"%2F", b"#", b""])
)
headers = st.none() | st.lists(st.tuples(st.text(max_size=8), st.none() | st.binary(max_size=8)), max_size=4)


def by_id(order: Order) -> int:
    return order.id


def is_known(order: Order) -> bool:
    return order.id != 7


@pytest.fixture(scope="module")
def consumers() -> tuple[App, dict[str, Any]]:
    app = App({"name": "shop"})

    @app.kafka_consumer(topics=["raw"], breaker=None)
    def raw(message: KafkaMessage) -> str:
        return f"{message.key!r}{message.value!r}{message.headers!r}"[:1000]

    @app.kafka_consumer(topics=["typed"], ordering="key", breaker=None)
    def typed(message: KafkaMessage[Order | None]) -> Any:
        return message.value

    @app.kafka_consumer(
        topics=["chosen"],
        ordering="key",
        ordering_key=by_id,
        when=is_known,
        breaker=None,
        on_failure="record",
    )
    async def chosen(order: Order) -> int:
        return order.id

    return app, {"raw": raw, "typed": typed, "chosen": chosen}


@pytest.fixture(scope="module")
def dbos(consumers: tuple[App, dict[str, Any]]) -> Iterator[TestApp]:
    with TestApp(consumers[0]) as started:
        yield started


@given(st.sampled_from(["raw", "typed", "chosen"]), payloads, keys, headers)
@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
def test_any_record_ends_and_the_next_one_succeeds(
    dbos: TestApp,
    consumers: tuple[App, dict[str, Any]],
    name: str,
    value: bytes | None,
    key: bytes | None,
    given_headers: list[tuple[str, bytes | None]] | None,
) -> None:
    handler = consumers[1][name]
    filtered = dbos.filtered(handler)
    event = dbos.deliver(handler, value, key=key, headers=given_headers)
    sound = dbos.deliver(handler, b'{"id": 8}', key=b"sound")
    dbos.run_until_idle()
    assert sound.get_status().status == SUCCESS
    if dbos.filtered(handler) == filtered:
        found = event.get_status().status
        aside = consumers[0].get_quarantined(event.workflow_id)
        behind = found == "PENDING" and key is not None  # of an earlier one that is put aside
        assert found in ENDED or behind, found
        assert (aside is not None) == (found == ERROR and name != "chosen")
        if aside is not None:
            assert (aside.key, aside.value, aside.headers) == (key, value, given_headers or None)

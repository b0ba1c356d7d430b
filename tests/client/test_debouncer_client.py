"""DebouncerClient: many calls from outside within a short time become one run."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from dbos_events import DBOSClient, DebouncerClient
from dbos_events.error import DBOSException
from tests.client.conftest import NAME, Shop

GATHER: Any = {"workflow_name": "gather", "queue_name": "orders"}


def test_the_last_call_counts_and_all_have_its_result(client: DBOSClient, shop: Shop) -> None:
    debouncer = DebouncerClient(client, GATHER)
    handles = [debouncer.debounce("k", 60, number) for number in range(5)]
    other = debouncer.debounce("other", 60, "o")
    for one in (handles[0], other):
        assert client.set_workflow_delay(one.workflow_id, delay_seconds=0)
    assert [handle.get_result() for handle in handles] == [4] * 5
    assert other.get_result() == "o"
    assert len({handle.workflow_id for handle in handles}) == 1
    assert sorted(map(str, shop.ran)) == ["4", "o"]
    assert handles[0].get_status().queue_name == "orders"


def test_all_calls_are_kept_where_that_is_asked_for(client: DBOSClient) -> None:
    debouncer = DebouncerClient(client, GATHER, debounce_timeout_sec=300, keep="all")
    handles = [debouncer.debounce("k", 60, number) for number in range(3)]
    assert client.set_workflow_delay(handles[0].workflow_id, delay_seconds=0)
    assert handles[0].get_result() == [0, 1, 2]
    with pytest.raises(DBOSException, match="each call gives one argument"):
        debouncer.debounce("k", 0.2, 1, 2)


def test_without_a_queue_any_process_runs_it(client: DBOSClient) -> None:
    for options in ({"workflow_name": "gather"}, {**GATHER, "queue_name": "_dbos_internal_queue"}):
        handle = DebouncerClient(client, options).debounce("k", 0.05, 1)
        assert handle.get_result() == 1
        assert handle.get_status().queue_name is None


def test_options_count_for_the_run(client: DBOSClient) -> None:
    options = {**GATHER, "app_version": "9", "attributes": {"a": 1}, "workflow_timeout": 5}
    status = DebouncerClient(client, options, application_name=NAME).debounce("k", 60, 1).get_status()
    assert (status.status, status.app_version, status.attributes) == ("DELAYED", "9", {"a": 1})
    assert status.workflow_timeout_ms == 5000


def test_on_a_loop(shop: Shop) -> None:
    async def use() -> None:
        async with DBOSClient(shop.url, lazy=True) as client:
            debouncer = DebouncerClient(client, GATHER, queue="tenantless")
            handles = [await debouncer.debounce_async("k", 60, number) for number in range(3)]
            assert await client.set_workflow_delay_async(handles[0].workflow_id, delay_seconds=0)
            await client.register_queue_async("tenantless", polling_interval_sec=0.02)
            assert await handles[0].get_result() == 2
            with pytest.raises(RuntimeError, match="debounce_async"):
                debouncer.debounce("k", 1, 1)

    asyncio.run(use())


def test_what_says_nothing_or_is_wrong_is_refused() -> None:
    client = DBOSClient("sqlite:///nowhere.sqlite", lazy=True)
    wrong: list[tuple[Any, Any, str]] = [
        ({**GATHER, "priority": 1}, {}, "priority says nothing"),
        ({**GATHER, "workflow_id": "w"}, {}, "workflow_id says nothing"),
        (GATHER, {"keep": "some"}, "keep must be"),
        (GATHER, {"debounce_timeout_sec": -1}, "debounce_timeout_sec"),
    ]
    for options, more, message in wrong:
        with pytest.raises(DBOSException, match=message):
            DebouncerClient(client, options, **more)


def test_a_wrong_call_is_refused(client: DBOSClient) -> None:
    debouncer = DebouncerClient(client, {})
    with pytest.raises(DBOSException, match="need workflow_name"):
        debouncer.debounce("k", 1, 1)
    debouncer = DebouncerClient(client, GATHER)
    for key, period in (("", 1), (None, 1), ("k", float("nan"))):
        with pytest.raises(DBOSException):
            debouncer.debounce(key, period, 1)  # type: ignore[arg-type]
    assert client.list_workflows() == []

"""What each suite does where a defect must show: its own machine, race or crash run, moved by hand instead of by chance."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from typing import Any

import pytest
from confluent_kafka import Message

from dbos_events import App
from dbos_events_kafka.testing import EmbeddedBroker
from dbos_events_webhooks import Limits, WebhookEvent, WebhookReceiver, providers
from dbos_events_webhooks.testing import WebhookClient
from tests.connectors.kafka.consuming import Consumers, Counting
from tests.connectors.kafka.odd import Between
from tests.crashes.running import Runs, around
from tests.faults.rows import Rows
from tests.faults.waiting import wait_until
from tests.models import test_intake, test_storage
from tests.races import test_ownership, test_parking, test_positions
from tests.races.conftest import race_on
from tests.races.interleaving import Race
from tests.storage import test_fence
from tests.storage.test_lanes_machine import lane_machine

Look = Callable[[pytest.FixtureRequest], None]
"""Raises AssertionError when the suite finds something wrong. It opens its databases itself, when the defect is in."""

FEW = 4
"""Before and after one call and its commit."""
ONE_EVENT = [[(0, True, "a", True)]] * 2


# ------------------------------------------------------------------ models


def intake_machine(request: pytest.FixtureRequest) -> Any:
    """Two members have one partition each, with two records that were taken in."""
    passing = test_intake.turned_by_hand(request.getfixturevalue("monkeypatch"))
    storage = request.getfixturevalue("opened")(request.getfixturevalue("migrated_sqlite"))
    return test_intake.machine(storage, passing)()


def a_member_dies_with_what_it_has_polled(request: pytest.FixtureRequest) -> None:
    machine = intake_machine(request)
    machine.produce(0, [True], [])
    machine.poll(0, 1)
    machine.restart(0, [])
    machine.everything_once()


def a_member_that_died_is_followed_by_another(request: pytest.FixtureRequest) -> None:
    """The same; what comes of it in the end."""
    machine = intake_machine(request)
    machine.produce(0, [True], [])
    machine.poll(0, 1)
    machine.restart(0, [])
    machine.produce(0, [True], [(0, 2, True), (0, 2, True)])
    machine.teardown()


def event_machine(request: pytest.FixtureRequest) -> Any:
    """Three processes, of which the first runs workflows, and the first two have a partition each."""
    storage = request.getfixturevalue("opened")(request.getfixturevalue("migrated_sqlite"))
    return test_storage.machine(storage, request.getfixturevalue("clock"), "none")()


def a_run_writes_that_was_resumed_elsewhere(request: pytest.FixtureRequest) -> None:
    machine = event_machine(request)
    machine.resume([0], claimed=1, late=[])
    machine.write([(0, [(0, "step")])], awaited=0, seconds=0, loses=False)


def a_former_holder_takes_in(request: pytest.FixtureRequest) -> None:
    machine = event_machine(request)
    machine.assign(1, [0])
    machine.take_in(0, ONE_EVENT, "", looks=False, loses=False)


def a_dead_process_leaves_a_lane(request: pytest.FixtureRequest) -> None:
    machine = lane_machine("key", request.getfixturevalue("dbos_template"))()
    machine.begin()
    with closing(machine.storage), machine.folder:
        machine.produce(0, [b"a", b"a", b"a"])
        machine.intake(0, [], [], [], loses=False)
        machine.die(0)
        machine.sweep_the_dead(0)
        machine.come_to_rest()


# ------------------------------------------------------------------ the connector


def a_poll_meets_an_error(request: pytest.FixtureRequest) -> None:
    """What was polled is thrown away by it, as by the client when something raises within a poll."""
    thrown, seen = [1], Counting()

    def throw_away(messages: list[Message]) -> list[Message]:
        if thrown[0] and any(one.error() is None and (one.offset() or 0) >= FEW for one in messages):
            thrown[0] -= 1
            raise RuntimeError("unforeseen")
        return messages

    url = f"sqlite:///{request.getfixturevalue('tmp_path_factory').mktemp('polled') / 'events.sqlite'}"
    with pytest.MonkeyPatch.context() as patch, EmbeddedBroker() as broker:
        Between(patch, throw_away)
        broker.create_topic("orders")
        broker.produce("orders", *[b"%d" % number for number in range(2 * FEW)])
        with Consumers(url, broker.bootstrap_servers) as consumers:
            consumers.start("orders", seen.sync_handler, config={"group.protocol": "classic"})
            wait_until(lambda: not thrown[0], "no poll met the error")
            broker.produce("orders", *[b"%d" % number for number in range(2 * FEW)])
            rows = Rows(url)
            wait_until(lambda: rows.gaps() or len(seen.executions) == 4 * FEW, "the consumer stands still")
            assert not rows.gaps(), f"records were left out: {rows.gaps()}"


# ------------------------------------------------------------------ senders


def a_sender_is_answered_while_the_database_stands_still(request: pytest.FixtureRequest) -> None:
    """Another process holds the database, and the sender is told to come again; then it does."""
    file = request.getfixturevalue("tmp_path_factory").mktemp("pushed") / "events.sqlite"
    app = App({"name": "shop", "system_database_url": f"sqlite:///{file}"})
    hooks = WebhookReceiver(app, limits=Limits(store_seconds=0.5))

    @hooks.webhook("/in", provider=providers.stripe(secret="whsec_t"))
    def on_event(event: WebhookEvent) -> None: ...

    app.launch()
    try:
        stripe, body = WebhookClient(hooks), {"id": "evt_1"}
        with closing(sqlite3.connect(file, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            told = stripe.send("/in", body).status
            other.execute("ROLLBACK")
        assert told == 503, f"{told} was told of an event that is nowhere"
        assert stripe.send("/in", body).status == 200
    finally:
        app.destroy()


# ------------------------------------------------------------------ races


@contextmanager
def race(request: pytest.FixtureRequest) -> Iterator[Race]:
    """As the fixture, but made when the defect is in."""
    yield from race_on(request.getfixturevalue("raced_database"), request.getfixturevalue("opened"))


def a_zombie_takes_in_beside_the_new_holder(request: pytest.FixtureRequest) -> None:
    with race(request) as between:
        test_positions.test_rule_7_a_zombies_intake_against_that_of_the_new_holder(between)


def a_run_that_was_resumed_elsewhere_falls_asleep(request: pytest.FixtureRequest) -> None:
    with race(request) as between:
        test_ownership.test_rule_2_what_the_old_owner_writes_is_read_by_the_new_one_or_refused(
            between, test_ownership.resume_and_claim, test_ownership.sleep
        )


def a_batch_waits_for_a_taking(request: pytest.FixtureRequest) -> None:
    with race(request) as between:
        between.reset()
        test_fence.test_rule_2_a_batch_waits_for_a_taking_from_its_executor_and_is_refused(between.other)


def a_batch_beside_a_cancel(request: pytest.FixtureRequest) -> None:
    with race(request) as between:
        test_ownership.test_rule_2_a_batch_over_several_workflows_against_a_cancel_of_some(between)


def two_claims_of_a_queue_with_a_limit(request: pytest.FixtureRequest) -> None:
    with race(request) as between:
        test_parking.test_of_two_claims_of_one_queue_each_takes_its_own_within_the_limits(
            between, "concurrency"
        )


# ------------------------------------------------------------------ crashes


def strike(request: pytest.FixtureRequest, scenario: str, defect: str, where: str) -> None:
    """Kill the process around the first calls of that name; the processes put the defect in by themselves."""
    runs: Runs = request.getfixturevalue("sqlite_runs")
    report = runs.strike(scenario, choose=lambda seen: around(where)(seen)[:FEW], defect=defect)
    assert report.struck, "no point was come by"
    assert not report.failures, "\n".join(report.failures)

"""Consumers that take nothing in: paused by an operator, or behind a breaker that a bad deploy has opened."""

from collections.abc import Iterator

import pytest

from dbos_events import Breaker, KafkaMessage
from dbos_events.app import App
from dbos_events.model.proof import GapQuestion
from dbos_events_kafka.testing import EmbeddedBroker
from tests.connectors.kafka.consuming import Consumers, Counting
from tests.faults.rows import Rows
from tests.faults.waiting import stays, wait_until

# Short enough for a test, which waits for the trial in real time.
BREAKER = Breaker(min_events=10, consecutive_failures=10, open_seconds=1.0, max_open_seconds=1.0)


@pytest.fixture
def embedded() -> Iterator[EmbeddedBroker]:
    with EmbeddedBroker() as broker:
        broker.create_topic("orders", 2)
        yield broker


@pytest.fixture
def local(migrated_sqlite: str, embedded: EmbeddedBroker) -> Iterator[Consumers]:
    with Consumers(migrated_sqlite, embedded.bootstrap_servers) as made:
        yield made


class Deploy(Counting):
    """A version of the handler; a bad one fails."""

    def __init__(self, *, bad: bool) -> None:
        super().__init__()
        self.bad = bad

    def sync_handler(self, message: KafkaMessage) -> None:
        super().sync_handler(message)
        if self.bad:
            raise ValueError("bad deploy")


def produce(embedded: EmbeddedBroker, count: int) -> None:
    for partition in range(2):
        embedded.produce("orders", *(["x"] * count), partition=partition)


def taken_in(stored: Rows) -> int:
    return sum(stored.statuses().values())


def openings(stored: Rows) -> int:
    return int(stored.one("SELECT breaker_openings FROM {t}consumers"))


def unexplained(app: App) -> list[object]:
    return list(app.launched.storage.proofs.find_gaps(GapQuestion()))


@pytest.mark.parametrize("ordering", ["none", "partition"])
def test_a_pause_stops_intake_in_all_processes_and_nothing_else(
    ordering: str, local: Consumers, embedded: EmbeddedBroker, stored: Rows
) -> None:
    handler = Deploy(bad=False)
    apps = [local.start("orders", handler.sync_handler, ordering=ordering) for _ in range(2)]
    produce(embedded, 5)
    wait_until(lambda: stored.succeeded() == 10, "the first events do not finish")
    wait_until(lambda: len({*stored.holders()}) == 2, "the partitions have no holders")

    apps[0].pause_consumer("consumer", reason="migration")
    for app in apps:
        wait_until(lambda app=app: app.health().notes, "a process does not follow", seconds=2.0)  # type: ignore[misc]
    produce(embedded, 300)
    stays(lambda: taken_in(stored) == 10, "something is taken in", seconds=2.0)
    holders = stored.holders()
    assert len(holders) == 2
    for app in apps:
        health = app.health()
        assert health.ready
        assert "migration" in health.notes[0]

    apps[1].resume_consumer("consumer")
    wait_until(lambda: stored.succeeded() == 610, "the events do not finish after the pause")
    assert handler.total == 610, "each has run once"
    assert unexplained(apps[0]) == []


def test_a_process_that_starts_while_its_consumer_is_paused_takes_nothing_in(
    local: Consumers, embedded: EmbeddedBroker, stored: Rows
) -> None:
    first = local.start("orders", Deploy(bad=False).sync_handler)
    wait_until(lambda: len(stored.holders()) == 2, "the partitions have no holders")
    first.pause_consumer("consumer")
    first.destroy()
    produce(embedded, 5)

    handler = Deploy(bad=False)
    second = local.start("orders", handler.sync_handler)
    wait_until(lambda: len(stored.holders()) == 2, "the partitions have no holders")
    stays(lambda: taken_in(stored) == 0, "something is taken in", seconds=1.0)
    second.resume_consumer("consumer")
    wait_until(lambda: stored.succeeded() == 10, "the events do not finish")


@pytest.mark.parametrize("queue", [None, "work"])
def test_a_bad_deploy_leaves_its_events_in_kafka_for_the_mended_one(
    queue: str | None, local: Consumers, embedded: EmbeddedBroker, stored: Rows
) -> None:
    bad = Deploy(bad=True)
    options = {"breaker": BREAKER, "max_in_flight": 10, "batch_size": 5, "queue_name": queue}
    app = local.start("orders", bad.sync_handler, **options)
    produce(embedded, 2000)
    wait_until(lambda: any("circuit breaker" in text for text in app.health().problems), "it does not open")
    assert not app.health().ready
    app.destroy()
    failed = len(stored.quarantined())
    assert 10 <= failed < 2000, "the watermark stands long before everything is put aside"
    assert sum(stored.watermarks().values()) == taken_in(stored)

    mended = Deploy(bad=False)
    app = local.start("orders", mended.sync_handler, **options, app_application_version="2")
    wait_until(lambda: sum(stored.watermarks().values()) == 4000, "intake does not go on", seconds=60.0)
    wait_until(
        lambda: stored.succeeded() + len(stored.quarantined()) == 4000, "not all have ended", seconds=60.0
    )
    wait_until(lambda: app.health().ready, "it is not ready again")
    assert len(stored.quarantined()) <= failed + 10, "only what the bad deploy ran was put aside"
    assert set(mended.executions.values()) == {1}
    assert unexplained(app) == []


def test_a_trial_is_not_put_behind_an_event_in_quarantine(
    local: Consumers, embedded: EmbeddedBroker, stored: Rows
) -> None:
    handler = Deploy(bad=True)
    quick = Breaker(consecutive_failures=1, open_seconds=1.0, max_open_seconds=1.0)
    local.start("orders", handler.sync_handler, ordering="partition", breaker=quick)
    embedded.produce("orders", "bad", partition=0)
    wait_until(lambda: stored.one("SELECT breaker FROM {t}consumers") == "open", "it does not open")
    handler.bad = False
    embedded.produce("orders", *["x"] * 50, partition=0)
    embedded.produce("orders", *["x"] * 5, partition=1)

    wait_until(lambda: stored.one("SELECT breaker FROM {t}consumers") is None, "the trial decides nothing")
    wait_until(lambda: stored.succeeded() == 5, "the other partition does not go on")
    assert stored.one("SELECT breaker_openings FROM {t}consumers") == 0


def test_while_the_handler_fails_one_event_at_a_time_is_tried(
    local: Consumers, embedded: EmbeddedBroker, stored: Rows
) -> None:
    """Two processes see the same breaker; each pause lets one event in, in one of them."""
    bad = Deploy(bad=True)
    options = {"breaker": BREAKER, "max_in_flight": 10, "batch_size": 5}
    apps = [local.start("orders", bad.sync_handler, **options) for _ in range(2)]
    wait_until(lambda: len(stored.holders()) == 2, "the partitions have no holders")
    produce(embedded, 200)
    for app in apps:
        wait_until(
            lambda app=app: "circuit breaker" in str(app.health().problems), "a process does not see it"
        )  # type: ignore[misc]
    wait_until(lambda: openings(stored) >= 2, "no trial is made")
    first, before = openings(stored), taken_in(stored)

    wait_until(lambda: openings(stored) >= first + 3, "no more trials are made")
    tried, made = taken_in(stored) - before, openings(stored) - first
    assert made - 1 <= tried <= made + 1, "a trial may be under way at both looks"

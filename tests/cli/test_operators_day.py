"""An operator's day on real servers: a bad deploy and its fix, poison, a redrive, everything gone and back.

After each of its hours exactly those alerts fire which docs/operations.md advises for what has happened.
"""

import json
import re
import signal
import subprocess
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from confluent_kafka import Producer

from tests.cli.service import PROGRAM, Service, clean_environment, eventually
from tests.conftest import TopicFactory

ROOT = Path(__file__).parents[2]

SHOP = """
import json
import os

from dbos_events import DBOS, Breaker, KafkaMessage

BREAKER = Breaker(min_events=1000, consecutive_failures=4, open_seconds=3, max_open_seconds=3)


@DBOS.step()
def charge(cents: int) -> str:
    return f"charged {cents}"


@DBOS.kafka_consumer(topics=[os.environ["TOPIC"]], name="on_order", breaker=BREAKER)
def on_order(message: KafkaMessage[bytes]) -> str:
    order = json.loads(message.value)
    if os.environ["DEPLOY"] == "bad":
        raise RuntimeError("the bad deploy")
    return charge(order["cents"])
"""

Row = dict[str, Any]


def lines_of_table(page: str, heading: str) -> list[list[str]]:
    """The cells of the first table below a heading, without its titles."""
    text = page.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    rows = [line for line in text.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in row.strip("|").split(" | ")] for row in rows[2:]]


class Facts(NamedTuple):
    """What the commands of docs/operations.md answer at one moment."""

    status: list[Row]
    by_broker: list[Row]
    processes: list[Row]
    unexplained: bool


ALERTS: dict[str, Callable[[Facts], bool]] = {
    "nobody reads": lambda facts: any(row["state"] in ("no process", "silent") for row in facts.status),
    "too far behind": lambda facts: sum(row["lag"] or 0 for row in facts.by_broker) > 5,
    "too old": lambda facts: any((row["oldest_seconds"] or 0) > 3600 for row in facts.status),
    "a decision waits": lambda facts: any(row["state"] == "halted" for row in facts.status),
    "events fail": lambda facts: any(row["quarantined"] for row in facts.status),
    "a breaker is not closed": lambda facts: any(row["breaker"] is not None for row in facts.status),
    "a process is silent": lambda facts: any(row["state"] == "silent" for row in facts.processes),
    "an offset is unexplained": lambda facts: facts.unexplained,
}
"""As docs/operations.md names them; a test compares."""


class Day:
    """The shop's servers, and its operator at the command line."""

    def __init__(self, folder: Path, topic: str, bootstrap: str, database: str) -> None:
        (folder / "shop.py").write_text(SHOP)
        self.folder = folder
        self.topic = topic
        self.settings = {
            "DBOS_EVENTS_NAME": "shop",
            "DBOS_SYSTEM_DATABASE_URL": database,
            "DBOS_EVENTS_KAFKA__BOOTSTRAP_SERVERS": bootstrap,
            "DBOS_EVENTS_KAFKA__SESSION_TIMEOUT_MS": "6000",
            "DBOS_EVENTS_LEASE_SECONDS": "2",
            "TOPIC": topic,
        }
        self._producer = Producer({"bootstrap.servers": bootstrap})
        self._sent = 0

    def deploy(self, what: str) -> Service:
        """Start a process of the good or the bad release."""
        return Service(self.folder, "shop.py", "--health-port", "0", **self.settings, DEPLOY=what)

    def orders(self, count: int, value: bytes = b'{"cents": 5}') -> None:
        for _ in range(count):
            self._producer.produce(self.topic, value, partition=self._sent % 2)
            self._sent += 1
        assert self._producer.flush(30) == 0

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [PROGRAM, *arguments],
            cwd=self.folder,
            env=clean_environment(**self.settings),
            capture_output=True,
            text=True,
            check=False,
        )

    def ask(self, *arguments: str) -> list[Row]:
        done = self.run(*arguments, "--json")
        assert done.returncode == 0, done.stderr
        found: list[Row] = json.loads(done.stdout)
        return found

    def status(self, *options: str) -> list[Row]:
        return [row for row in self.ask("kafka", "status", *options) if row["partition"] is not None]

    def succeeded(self) -> int:
        return len(self.ask("workflow", "list", "--status", "SUCCESS", "--limit", "1000"))

    def quarantined(self) -> int:
        return len(self.ask("quarantine", "list", "--limit", "1000"))

    def firing(self) -> set[str]:
        facts = Facts(
            self.status(),
            self.status("--broker"),
            self.ask("processes"),
            self.run("kafka", "gaps").returncode != 0,
        )
        return {name for name, fires in ALERTS.items() if fires(facts)}

    def await_alerts(self, *names: str) -> None:
        eventually(lambda: self.firing() == set(names), f"{names} fire, and no others")


@pytest.fixture
def day(tmp_path: Path, kafka_topic: TopicFactory, kafka_bootstrap: str, postgres_url: str) -> Day:
    return Day(tmp_path, kafka_topic(partitions=2), kafka_bootstrap, postgres_url)


def replaced(old: Service, new: Service) -> None:
    """A rolling restart: the old process goes when the new one is ready, and not before."""
    new.wait_until("/readyz", 200)
    old.signalled(signal.SIGTERM)
    assert old.ended() == 0


def final_failures(service: Service) -> list[Row]:
    return [record for record in service.log if "failed for good (" in record["message"]]


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_an_operators_day(day: Day) -> None:
    with ExitStack() as processes:

        def start(what: str) -> Service:
            return processes.enter_context(day.deploy(what))

        first = the_morning(day, start)
        bad = a_bad_deploy(day, start, first)
        fixed = its_fix(day, start, bad)
        poison(day, fixed)
        all_processes_are_gone(day, fixed)
        and_back(day, start)


Start = Callable[[str], Service]


def the_morning(day: Day, start: Start) -> Service:
    first = start("good")
    first.wait_until("/readyz", 200)
    day.orders(20)
    eventually(lambda: day.succeeded() == 20, "the first orders are done")
    day.await_alerts()
    assert [process["state"] for process in day.ask("processes")] == ["alive"]
    return first


def a_bad_deploy(day: Day, start: Start, before: Service) -> Service:
    """It looks ready, until events come. The breaker opens, and what comes then stays in Kafka."""
    bad = start("bad")
    replaced(before, bad)
    day.orders(4)
    problems = bad.wait_until("/readyz", 503)["problems"]
    assert any("the circuit breaker is open since" in line for line in problems), problems
    failed = final_failures(bad)
    assert len(failed) == 4, "each final failure is one line"
    assert {record["level"] for record in failed} == {"ERROR"}
    assert {record["extra"]["topic"] for record in failed} == {day.topic}
    assert {record["extra"]["error_type"] for record in failed} == {"RuntimeError"}
    day.await_alerts("events fail", "a breaker is not closed")
    day.orders(12)
    return bad


def its_fix(day: Day, start: Start, bad: Service) -> Service:
    """It becomes ready, whether or not the trial has come, so the rolling restart does not hang."""
    fixed = start("good")
    replaced(bad, fixed)
    eventually(lambda: day.succeeded() + day.quarantined() == 36, "what had stayed in Kafka has ended")
    fixed.wait_until("/readyz", 200)
    day.await_alerts("events fail")

    # What failed, with the trials, is redriven, at a rate, and its totals are told.
    failed = day.quarantined()
    assert failed >= 4
    assert f"{failed} events: handler-failed {failed}." in day.run("quarantine", "list").stderr
    redriven = day.run("quarantine", "redrive", "--error-type", "RuntimeError", "--rate", "50/s")
    assert redriven.returncode == 0, redriven.stderr
    assert f"{failed} events: run again." in redriven.stderr
    eventually(lambda: day.succeeded() == 36, "what was redriven is done")
    day.await_alerts()
    return fixed


def poison(day: Day, service: Service) -> None:
    """One event that no retry helps is edited, and redriven."""
    day.orders(1, b'{"cents": "five')
    day.await_alerts("events fail")
    [event] = day.ask("quarantine", "list")
    [line] = final_failures(service)
    assert line["extra"]["workflow_id"] == event["workflow_id"]
    assert (line["extra"]["partition"], line["extra"]["offset"]) == (event["partition"], event["offset"])
    edited = day.folder / "order.json"
    shown = day.run("quarantine", "show", event["workflow_id"], "--raw", str(edited))
    assert shown.returncode == 0, shown.stderr
    edited.write_text(edited.read_text().replace('"five', "5}"))
    done = day.run("quarantine", "redrive", event["workflow_id"], "--edit", str(edited))
    assert done.returncode == 0, done.stderr
    eventually(lambda: day.succeeded() == 37, "the edited order is done")
    day.await_alerts()


def all_processes_are_gone(day: Day, service: Service) -> None:
    """They are killed in the night, and records come."""
    service.process.kill()
    service.process.wait()
    day.orders(10)
    day.await_alerts("nobody reads", "too far behind", "a process is silent")
    assert {row["state"] for row in day.status()} == {"no process"}
    assert {row["lag"] for row in day.status()} == {None}, "nobody knows it"
    assert sum(row["lag"] for row in day.status("--broker")) == 10, "but Kafka does"
    shown = day.run("processes")
    assert "silent" in shown.stdout
    assert "no heartbeat" in shown.stdout


def and_back(day: Day, start: Start) -> None:
    again = start("good")
    again.wait_until("/readyz", 200)
    eventually(lambda: day.succeeded() == 47, "the orders of the night are done")
    day.await_alerts()
    again.signalled(signal.SIGTERM)
    assert again.ended() == 0


def test_the_documents_advise_these_alerts() -> None:
    page = (ROOT / "docs" / "operations.md").read_text()
    advised = [re.sub(r"[`*]", "", row[0]) for row in lines_of_table(page, "What to watch")]
    assert advised == list(ALERTS)

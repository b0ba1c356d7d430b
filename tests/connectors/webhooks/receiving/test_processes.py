"""Receivers in processes of their own, `dbos-events run billing.py --http`, on both databases."""

from __future__ import annotations

import json
import os
import random
import signal
import sqlite3
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import create_engine, text

from dbos_events_webhooks import providers
from tests.cli.service import Service, eventually
from tests.cli.warm import WarmService, command
from tests.connectors.webhooks.receiving.rawhttp import RawReply, exchange, wire_of

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

EVERY_MOMENT = bool(os.environ.get("DBOS_EVENTS_TEST_EVERY_MOMENT"))
FEW = 3

BILLING = """
import os
import time
from pathlib import Path

from dbos_events import DBOS
from dbos_events_webhooks import Limits, WebhookEvent, WebhookReceiver, providers

hooks = WebhookReceiver(limits=Limits(store_seconds=2.0))


@DBOS.step()
def book(event_id: str) -> None:
    with Path("effects").open("a") as file:
        file.write(event_id + "\\n")


@hooks.webhook("/stripe", provider=providers.stripe(secret="whsec_t"), name="on_stripe")
def on_stripe(event: WebhookEvent[dict]) -> None:
    if event.data.get("fails") and not Path("mended").exists():
        raise RuntimeError("not mended")
    while event.data.get("waits") and not Path("let-go").exists():
        time.sleep(0.01)
    book(event.id)
"""

STRUCK = """
import os, signal, threading
from pathlib import Path
from billing import *
from tests.crashes.drivers import Names, watch_postgres, watch_sqlite


class Striking:
    # Ends the process before or after a call of the driver that accepts a request, the n-th of these moments.
    def __init__(self) -> None:
        self.at = int(os.environ["STRIKE_AT"])
        self.passed = 0

    def around(self, name, call, lose=None):
        self._pass()
        answer = call()
        self._pass()
        return answer

    def _pass(self) -> None:
        if threading.current_thread().name == "dbos-inbox" and Path("armed").exists():
            self.passed += 1
            Path("passed").write_text(str(self.passed))
            if self.passed == self.at:
                os.kill(os.getpid(), signal.SIGKILL)

    def after(self, name, answer):
        return answer

    def became_durable(self) -> None:
        pass


watch_sqlite(Striking(), Names())
watch_postgres(Striking(), Names())
"""


class Billing:
    """The folder of the program, and its processes."""

    def __init__(self, folder: Path, url: str, stack: ExitStack) -> None:
        self.folder = folder
        self.url = url
        self._stack = stack
        (folder / "billing.py").write_text(BILLING)
        (folder / "struck.py").write_text(STRUCK)

    def start(self, program: str = "billing.py", **environment: str) -> Service:
        service = self._stack.enter_context(
            WarmService(
                self.folder, program, "--http", "127.0.0.1:0", "--health-port", "0",
                DBOS_SYSTEM_DATABASE_URL=self.url, DBOS_EVENTS_NAME="billing", DBOS_EVENTS_LEASE_SECONDS="2",
                PYTHONPATH=str(Path(__file__).parents[4]), **environment,
            )
        )  # fmt: skip
        service.wait_for("HTTP: http://")
        return service

    def statuses(self) -> dict[str, str]:
        engine = create_engine(self.url.replace("postgresql://", "postgresql+psycopg://"))
        schema = "" if self.url.startswith("sqlite") else "dbos_events."
        try:
            with engine.connect() as connection:
                rows = connection.execute(text(f"SELECT id, status FROM {schema}workflows"))
                return {str(row.id): str(row.status) for row in rows}
        finally:
            engine.dispose()

    @property
    def effects(self) -> Counter[str]:
        file = self.folder / "effects"
        return Counter(file.read_text().split() if file.exists() else [])

    def command(self, *words: str, code: int = 0) -> str:
        environment = {"DBOS_SYSTEM_DATABASE_URL": self.url, "DBOS_EVENTS_NAME": "billing"}
        ended, said = command(self.folder, "webhook", *words, **environment)
        assert ended == code, said
        return said


@pytest.fixture
def billing(tmp_path: Path, database_url: str) -> Iterator[Billing]:
    with ExitStack() as stack:
        yield Billing(tmp_path, database_url, stack)


def port_of(service: Service) -> int:
    port: int = service.wait_for("HTTP: http://")["extra"]["port"]
    return port


def signed(event_id: str, **more: Any) -> bytes:
    body = json.dumps({"id": event_id, "type": "paid", **more}).encode()
    request = providers.stripe(secret="whsec_t").sign(body, path="/stripe")
    return wire_of(request)


def deliver(service: Service, event_id: str, **more: Any) -> RawReply:
    return exchange(port_of(service), signed(event_id, **more))


def some_of(moments: Sequence[int]) -> Sequence[int]:
    seed = int(os.environ.get("DBOS_EVENTS_CRASH_SEED", "0")) or random.randrange(1, 1_000_000)
    sys.stdout.write(f"seed {seed}: DBOS_EVENTS_CRASH_SEED={seed} chooses the same moments\n")
    return sorted(random.Random(seed).sample(moments, FEW))


def all_done(billing: Billing, count: int) -> bool:
    statuses = billing.statuses()
    return len(statuses) == count and set(statuses.values()) == {"SUCCESS"}


def test_fifty_identical_deliveries_at_once_to_four_processes_start_one_workflow(billing: Billing) -> None:
    services = [billing.start() for _ in range(4)]
    wire = signed("evt_1")
    replies: list[RawReply] = []
    barrier = threading.Barrier(50)

    def send(number: int) -> None:
        barrier.wait()
        replies.append(exchange(port_of(services[number % 4]), wire))

    threads = [threading.Thread(target=send, args=(number,)) for number in range(50)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert Counter(reply.status for reply in replies) == {200: 50}
    told = Counter(json.loads(reply.body)["status"] for reply in replies)
    assert told == {"accepted": 1, "duplicate": 49}
    eventually(lambda: all_done(billing, 1), "the workflow ends")
    assert set(billing.statuses()) == {"webhook/billing.on_stripe/evt_1"}
    assert billing.effects == {"evt_1": 1}


def test_a_process_that_dies_at_any_statement_of_an_acceptance_leaves_one_execution(
    billing: Billing,
) -> None:
    """Some of the moments, chosen by the printed seed; all of them in `make crash-points`."""
    (billing.folder / "armed").touch()
    sound = billing.start("struck.py", STRIKE_AT="0")
    assert deliver(sound, "evt_0").status == 200
    moments = range(1, int((billing.folder / "passed").read_text()) + 1)
    assert len(moments) >= 4
    struck = moments if EVERY_MOMENT else some_of(moments)
    for moment in struck:
        service = billing.start("struck.py", STRIKE_AT=str(moment))
        assert deliver(service, f"evt_{moment}").status == 0
        assert service.ended() == -signal.SIGKILL
    events = [f"evt_{moment}" for moment in (0, *struck)]
    (billing.folder / "armed").unlink()
    for event in events:
        assert deliver(sound, event).status == 200
    eventually(lambda: all_done(billing, len(events)), "all workflows end")
    assert billing.effects == dict.fromkeys(events, 1)


def test_a_service_that_is_told_to_stop_answers_what_is_under_way_and_turns_away_the_rest(
    billing: Billing,
) -> None:
    service = billing.start()
    assert deliver(service, "evt_1", waits=True).status == 200
    eventually(lambda: "webhook/billing.on_stripe/evt_1" in billing.statuses(), "it is taken in")
    service.signalled(signal.SIGTERM)
    service.wait_for("draining")
    service.wait_until("/readyz", 503)

    def turned_away() -> bool:
        reply = deliver(service, "evt_2")
        return reply.status == 503 and b"retry-after" in reply.head

    eventually(turned_away, "a request gets a 503")
    (billing.folder / "let-go").touch()
    assert service.ended() == 0
    assert billing.effects == {"evt_1": 1}
    assert len(billing.statuses()) == 1


def test_a_program_without_endpoints_is_told(billing: Billing) -> None:
    (billing.folder / "nothing.py").write_text(
        "from dbos_events import DBOS\n\n@DBOS.workflow()\ndef w():\n    ...\n"
    )
    words = ["run", "nothing.py", "--http", ":0", "--database", billing.url, "--name", "nothing"]
    code, said = command(billing.folder, *words)
    assert code == 1
    assert "nothing to serve with --http" in said


def test_events_are_listed_shown_and_replayed_by_commands(billing: Billing) -> None:
    service = billing.start()
    assert deliver(service, "evt_1").status == 200
    assert deliver(service, "evt_2", fails=True).status == 200
    bad = "webhook/billing.on_stripe/evt_2"
    eventually(lambda: billing.statuses().get(bad) == "ERROR", "it is put aside")
    assert "RuntimeError" in json.loads(billing.command("show", bad, "--json"))["error"]
    listed = json.loads(billing.command("list", "--json"))
    assert {each["workflow_id"] for each in listed} == {bad, "webhook/billing.on_stripe/evt_1"}
    shown = json.loads(billing.command("show", bad, "--json"))
    assert (shown["id"], shown["type"], shown["endpoint"], shown["provider"]) == (
        "evt_2",
        "paid",
        "/stripe",
        "stripe",
    )
    assert json.loads(shown["body"])["fails"] is True
    assert "stripe-signature" not in shown["headers"]
    assert "evt_2" in billing.command("show", bad)
    (billing.folder / "mended").touch()
    assert "runs again" in billing.command("replay", bad)
    eventually(lambda: all_done(billing, 2), "the mended one ends")
    assert "is not in quarantine" in billing.command("replay", bad, code=1)
    again = billing.command(
        "replay", bad, "--to", f"http://127.0.0.1:{port_of(service)}/stripe", "--secret", "whsec_t"
    )
    assert '"duplicate"' in again
    assert "no workflow" in billing.command("show", "webhook/none", code=1).lower()
    (route,) = json.loads(billing.command("routes", "billing.py", "--json"))
    assert route == {
        "path": "/stripe", "provider": "stripe", "handlers": ["on_stripe"], "max_body": 1024 * 1024, "retired": False
    }  # fmt: skip


def test_a_database_that_does_not_answer_is_a_503_within_three_seconds(tmp_path: Path) -> None:
    file = tmp_path / "held.sqlite"
    with ExitStack() as stack:
        billing = Billing(tmp_path, f"sqlite:///{file}", stack)
        service = billing.start()
        assert deliver(service, "evt_1").status == 200
        holder = sqlite3.connect(file, isolation_level=None)
        holder.execute("BEGIN IMMEDIATE")
        try:
            began = time.monotonic()
            reply = deliver(service, "evt_2")
            took = time.monotonic() - began
        finally:
            holder.execute("ROLLBACK")
            holder.close()
        assert (reply.status, b"retry-after" in reply.head.lower()) == (503, True)
        assert took < 3.0
        eventually(lambda: deliver(service, "evt_2").status == 200, "it recovers")
        eventually(lambda: all_done(billing, 2), "both end")
        assert billing.effects == {"evt_1": 1, "evt_2": 1}

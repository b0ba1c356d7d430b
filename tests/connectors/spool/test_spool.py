"""A connector for a log that somebody else might have written: exactly once, in order, with the commands of every log."""

import ast
import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel
from typer.testing import CliRunner

import dbos_events.connect
from dbos_events import App, Quarantine, Retry
from dbos_events.cli.root import app as command_line
from dbos_events.connect import LogOptions
from dbos_events.errors import DBOSInitializationError, RegistrationError
from tests.connectors.spool.connector import Line, spool_consumer, write

HERE = Path(__file__).parent
PLACES = {"dbos_events.connect": set(vars(dbos_events.connect)), "dbos_events.errors": None}
"""Where the connector may import from, with the names that are public there; None: all."""


def wait_until(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not true():
        assert time.monotonic() < deadline, "it did not become true"
        time.sleep(0.01)


class Shop:
    """An App, its folder, and what its handlers have seen."""

    def __init__(self, url: str, folder: Path) -> None:
        self.url = url
        self.folder = folder
        self.seen: list[Any] = []
        self.broken = True
        self.app = App({"name": "shop", "system_database_url": url, "spool": {"folder": str(folder)}})

    def commands(self, *arguments: str) -> Any:
        """What a command says; as JSON where it was asked for so."""
        options = ["--database", self.url, "--application", "shop"]
        done = CliRunner().invoke(command_line, [*arguments, *options])
        assert done.exit_code == 0, done.output
        return json.loads(done.stdout) if "--json" in arguments else done.stdout


@pytest.fixture
def shop(database_url: str, tmp_path: Path) -> Iterator[Shop]:
    shop = Shop(database_url, tmp_path)
    yield shop
    shop.app.destroy()


# ------------------------------------------------------------------ what it is made of


@pytest.mark.parametrize("file", ["connector.py", "commands.py"])
def test_it_imports_public_names_of_the_package_alone(file: str) -> None:
    for node in ast.walk(ast.parse((HERE / file).read_text())):
        if isinstance(node, ast.Import):
            assert not any(alias.name.startswith("dbos_events") for alias in node.names)
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("dbos_events"):
            assert node.module in PLACES, node.module
            names = {alias.name for alias in node.names}
            assert PLACES[node.module] is None or names <= PLACES[node.module]
            assert not any(name.startswith("_") for name in names)


# ------------------------------------------------------------------ records become workflows


def test_a_line_becomes_a_workflow_whose_id_names_where_it_lies(shop: Shop) -> None:
    @spool_consumer(shop.app, "orders", name="orders")
    def on_order(line: Line[bytes]) -> None:
        shop.seen.append((line.number, line.key, line.value))

    write(shop.folder, "orders", 3, "anna\tbook", "pen")
    shop.app.launch()
    wait_until(lambda: len(shop.seen) == 2)

    assert sorted(shop.seen) == [(0, b"anna", b"book"), (1, None, b"pen")]
    ids = sorted(one.workflow_id for one in shop.app.list_workflows())
    assert [one.rpartition("/")[2] for one in ids] == ["0", "1"]
    assert all(one.startswith("spool/") and "/orders/" in one for one in ids)


class Order(BaseModel):
    name: str
    pieces: int


def test_the_annotation_says_what_a_handler_gets(shop: Shop) -> None:
    class Local(BaseModel):
        name: str

    def several(order: Order) -> bool:
        return order.pieces > 1

    @spool_consumer(shop.app, "orders", when=several)
    def on_order(order: Order) -> None:
        shop.seen.append(order)

    @spool_consumer(shop.app, "people")
    def on_person(line: Line[Local]) -> None:
        shop.seen.append(line.value)

    write(shop.folder, "orders", 0, '{"name": "pen", "pieces": 1}', '{"name": "pen", "pieces": 3}')
    write(shop.folder, "people", 0, '{"name": "Anna"}')
    shop.app.launch()
    wait_until(lambda: len(shop.seen) == 2)

    assert Order(name="pen", pieces=3) in shop.seen
    assert Local(name="Anna") in shop.seen


@pytest.mark.parametrize("ordering", ["partition", "key"])
def test_lines_of_a_lane_run_one_after_the_other(shop: Shop, ordering: str) -> None:
    at_work: dict[str, int] = {}
    lock = threading.Lock()

    @spool_consumer(shop.app, "orders", ordering=ordering)
    def on_order(line: Line[bytes]) -> None:
        lane = str(line.partition) if ordering == "partition" else (line.key or b"").decode()
        with lock:
            at_work[lane] = at_work.get(lane, 0) + 1
            shop.seen.append((lane, line.number, at_work[lane]))
        time.sleep(0.001)
        with lock:
            at_work[lane] -= 1

    for partition in (0, 1):
        write(shop.folder, "orders", partition, *(f"key{partition}{n % 3}\t{n}" for n in range(30)))
    shop.app.launch()
    wait_until(lambda: len(shop.seen) == 60)

    assert {together for _, _, together in shop.seen} == {1}
    for lane in at_work:
        numbers = [number for one, number, _ in shop.seen if one == lane]
        assert numbers == sorted(numbers)


def test_what_fails_is_put_aside_holds_its_lane_and_is_redriven(shop: Shop) -> None:
    @spool_consumer(
        shop.app,
        "orders",
        name="orders",
        ordering="key",
        breaker=None,
        retries=Retry(2, interval_seconds=0.01),
    )
    def on_order(line: Line[bytes]) -> None:
        if line.value == b"poison" and shop.broken:
            raise Quarantine("cannot be sold")
        shop.seen.append(line.value)

    write(shop.folder, "orders", 0, "a\tpoison", "a\tbehind", "b\tother")
    shop.app.launch()
    wait_until(lambda: len(shop.app.list_quarantined()) == 1 and shop.seen == [b"other"])

    listed = shop.commands("quarantine", "list", "--json")
    shop.broken = False
    shop.commands("quarantine", "redrive", listed[0]["workflow_id"])
    wait_until(lambda: len(shop.seen) == 3)

    assert shop.seen == [b"other", b"poison", b"behind"]
    assert shop.app.list_quarantined() == []


def test_records_may_be_published_without_a_workflow(shop: Shop) -> None:
    declare = spool_consumer(
        shop.app, "payments", name="payments", publishes=lambda line: ("paid", line.value.decode())
    )
    declare(None)

    @shop.app.workflow()
    def waits() -> None:
        shop.app.wait_for("paid", "o-1", timeout_seconds=60)

    write(shop.folder, "payments", 0, "o-1")
    shop.app.launch()
    shop.app.start_workflow(waits).get_result()

    assert [one.name.rpartition(".")[2] for one in shop.app.list_workflows()] == ["waits"]


# ------------------------------------------------------------------ exactly once


def process(shop: Shop, effects: Path) -> "subprocess.Popen[str]":
    """A worker that has launched."""
    command = [
        sys.executable,
        "-m",
        "tests.connectors.spool.worker",
        shop.url,
        str(shop.folder),
        str(effects),
    ]
    worker = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert worker.stdout is not None
    assert worker.stdout.readline().startswith("ready")
    return worker


def told(effects: Path, what: str) -> list[tuple[int, int, str]]:
    lines = effects.read_text().splitlines() if effects.exists() else []
    return [tuple(rest) for kind, *rest in map(json.loads, lines) if kind == what]  # type: ignore[misc]


def test_every_line_is_processed_once_and_in_order_through_a_kill(shop: Shop, tmp_path: Path) -> None:
    shop.app = App({"name": "spool", "system_database_url": shop.url})
    effects = tmp_path / "effects"
    for partition in (0, 1):
        write(shop.folder, "orders", partition, *(f"p{partition}k{n % 4}\t{n}" for n in range(100)))
    first = process(shop, effects)
    wait_until(lambda: len(told(effects, "ends")) >= 20)
    first.kill()
    first.communicate()
    cut_off = {each for each in told(effects, "begins") if each not in told(effects, "ends")}
    with process(shop, effects) as second:
        write(shop.folder, "orders", 0, *(f"p0k{n % 4}\t{n}" for n in range(100, 120)))
        wait_until(lambda: len(set(told(effects, "ends"))) == 220)
        second.communicate(timeout=60)

    ends = told(effects, "ends")
    twice = {each for each in ends if ends.count(each) > 1}
    assert len(cut_off) <= 8, "one of each key at most"
    assert len(twice) <= 8, "a step whose end was not recorded when the process died runs again"
    begun = list(dict.fromkeys(told(effects, "begins")))
    for key in {each[2] for each in begun}:
        numbers = [number for _, number, lane in begun if lane == key]
        assert numbers == sorted(numbers)
    with shop.app:
        assert len(shop.app.list_workflows()) == 220
        assert {one.status for one in shop.app.list_workflows()} == {"SUCCESS"}


def test_another_file_in_the_place_of_one_that_was_read_is_not_read_before_somebody_decides(
    shop: Shop,
) -> None:
    def launch() -> App:
        app = App({"name": "shop", "system_database_url": shop.url, "spool": {"folder": str(shop.folder)}})

        @spool_consumer(app, "orders", name="orders", breaker=None)
        def on_order(line: Line[bytes]) -> None:
            shop.seen.append(line.value)

        app.launch()
        return app

    write(shop.folder, "orders", 0, "a", "b")
    with launch():
        wait_until(lambda: len(shop.seen) == 2)
    (shop.folder / "orders" / "0.log").write_text("x\ny\nz\n")
    with launch():
        wait_until(lambda: shop.commands("spool", "status", "--json")[0]["state"] == "halted")
        assert sorted(shop.seen) == [b"a", b"b"]

        shop.commands("spool", "resolve-truncation", "orders", "orders", "0", "--from-offset", "0")
        wait_until(lambda: len(shop.seen) == 5)

    assert sorted(shop.seen[2:]) == [b"x", b"y", b"z"]


# ------------------------------------------------------------------ commands


def test_the_commands_of_every_log_name_it(shop: Shop) -> None:
    @spool_consumer(shop.app, "orders", shop.folder, name="orders")
    def on_order(line: Line[bytes]) -> None:
        shop.seen.append(line.number)

    write(shop.folder, "orders", 0, "a", "b", "c")
    shop.app.launch()
    wait_until(lambda: len(shop.seen) == 3)
    wait_until(lambda: shop.commands("spool", "status", "--json")[0]["watermark"] == 3)

    (row,) = shop.commands("spool", "status", "--broker", "--json")
    assert (row["consumer"], row["topic"], row["partition"], row["end_offset"]) == ("orders", "orders", 0, 3)
    traced = shop.commands("spool", "trace", "orders", "0", "1", "--json")
    assert "spool/" in json.dumps(traced)
    shop.commands("spool", "pause", "orders", "--reason", "stock-taking")
    wait_until(lambda: "stock-taking" in json.dumps(shop.app.health().notes))
    write(shop.folder, "orders", 0, "d")
    shop.commands("spool", "resume", "orders")
    wait_until(lambda: shop.seen[-1] == 3)


# ------------------------------------------------------------------ what is refused


@pytest.mark.parametrize(
    ("options", "why"),
    [
        (LogOptions([]), "names no topic"),
        (LogOptions("a b"), "cannot be the name of a topic"),
        (LogOptions("orders", ordering="lane"), "spool_consumer: ordering must be one of"),  # type: ignore[arg-type]
        (LogOptions("orders", ordering="key", queue_name="q"), "goes with ordering='none'"),
        (LogOptions("orders", ordering_key=len), "ordering_key=... says what ordering='key' orders by"),
        (LogOptions("orders", priority=len), "priority=... is about its queue, so it needs queue_name"),
        (LogOptions("orders", batch_size=0), "must be at least 1"),
    ],
)
def test_an_option_that_is_wrong_is_refused_at_the_declaration(options: LogOptions, why: str) -> None:
    def on_order(line: Line[bytes]) -> None: ...

    with pytest.raises(RegistrationError, match=why):
        App({}).log_consumer("spool", options)(on_order)


def test_a_connector_that_is_not_there_or_of_the_other_size_is_refused() -> None:
    def on_order(line: Any) -> None: ...

    with pytest.raises(RegistrationError, match="There is no connector called 'nats'"):
        App({}).log_consumer("nats", LogOptions("orders"))(on_order)
    with pytest.raises(RegistrationError, match="is a PushConnector, not a Connector"):
        App({}).log_consumer("webhooks", LogOptions("orders"))(on_order)


def test_a_consumer_is_declared_before_launch(shop: Shop) -> None:
    shop.app.launch()

    def on_order(line: Line[bytes]) -> None: ...

    with pytest.raises(DBOSInitializationError, match="declared after launch"):
        spool_consumer(shop.app, "orders")(on_order)

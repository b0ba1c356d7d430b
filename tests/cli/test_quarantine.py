"""`dbos-events quarantine`: what an operator sees of an event that failed, and what becomes of it."""

import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from dbos_events import App, KafkaMessage, Retry
from dbos_events.cli.root import app as command_line
from dbos_events.testing import ManualClock, TestApp

Run = Callable[..., Result]


class Shop:
    """A consumer whose events fail until it is mended: three of them are in quarantine."""

    def __init__(self, dbos: TestApp, app: App) -> None:
        self.dbos = dbos
        self.app = app
        self.broken = True
        self.seen: list[bytes] = []

        @app.step(name="charge")
        def charge(value: bytes) -> None:
            if self.broken:
                raise (
                    ValueError("no such customer\nat all")
                    if value == b"\xff\x00"
                    else TimeoutError("the bank")
                )

        @app.kafka_consumer(
            None, "orders", name="on_order", ordering="partition", retries=Retry(2, 60, jitter=0)
        )
        def on_order(msg: KafkaMessage[bytes]) -> None:
            self.seen.append(msg.value)
            charge(msg.value)

        self.handler = on_order

    def fail(self) -> None:
        for partition, value in enumerate((b"one", b"\xff\x00", b"three")):
            self.dbos.deliver(
                self.handler, value, partition=partition, key="k", headers={"trace": b"7", "raw": b"\xff"}
            )
        self.dbos.advance(minutes=2)
        self.dbos.deliver(self.handler, "behind", partition=0)
        self.dbos.run_until_idle()

    def mend(self) -> None:
        self.broken = False
        self.seen.clear()


@pytest.fixture
def shop(migrated_sqlite: str) -> Iterator[Shop]:
    app = App()
    dbos = TestApp(app, database_url=migrated_sqlite, clock=ManualClock(datetime(2020, 1, 1, tzinfo=UTC)))
    shop = Shop(dbos, app)
    with dbos:
        shop.fail()
        yield shop


@pytest.fixture
def run(migrated_sqlite: str, monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.setenv("DBOS_SYSTEM_DATABASE_URL", migrated_sqlite)
    runner = CliRunner()
    return lambda *arguments, **more: runner.invoke(command_line, ["quarantine", *arguments], **more)


def answer(result: Result) -> Any:
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def event(partition: int, offset: int = 0) -> str:
    return f"kafka/test.on_order/orders/1/{partition}/{offset}"


def ids(result: Result) -> list[str]:
    return [one["workflow_id"] for one in answer(result)]


# ------------------------------------------------------------------ list


@pytest.mark.parametrize(
    ("filters", "partitions"),
    [
        ((), [0, 1, 2]),
        (("--limit", "2"), [0, 1]),
        (("--partition", "1", "--partition", "2"), [1, 2]),
        (("--error-type", "TimeoutError"), [0, 2]),
        (("--error-text", "customer", "--consumer", "on_order"), [1]),
        (("--quarantine-reason", "attempts-exhausted", "--topic", "orders"), [0, 1, 2]),
        (("--quarantine-reason", "cancelled"), []),
        (("--first-offset", "1"), []),
        (("--last-offset", "0", "--application", "test"), [0, 1, 2]),
        (("--application", "other"), []),
        (("--until", "2019-12-31T00:00:00Z"), []),
    ],
    ids=lambda value: " ".join(map(str, value)),
)
def test_list_shows_those_that_fit(
    shop: Shop, run: Run, filters: tuple[str, ...], partitions: list[int]
) -> None:
    assert sorted(ids(run("list", *filters, "--json"))) == [event(partition) for partition in partitions]


def test_list_is_a_table_with_one_line_for_each(shop: Shop, run: Run) -> None:
    result = run("list", "--limit", "2")

    lines = result.stdout.splitlines()
    assert lines[0].split() == ["ID", "CONSUMER", "REASON", "ATTEMPTS", "SINCE", "LANE", "RELEASED", "ERROR"]
    assert lines[1].split()[:4] == [event(0), "on_order", "attempts-exhausted", "2"]
    assert lines[1].endswith("TimeoutError: the bank")
    assert lines[2].endswith("ValueError: no such customer")
    assert "--limit" in result.stderr


# ------------------------------------------------------------------ show


def test_show_tells_all_that_is_known(shop: Shop, run: Run) -> None:
    found = answer(run("show", event(1), "--json"))

    assert found["event"]["attempts"] == 2
    assert found["event"]["lane"] == "1"
    assert found["key"] == "k"
    assert found["value"] == {"base64": "/wA="}
    assert found["headers"] == [["trace", "7"], ["raw", {"base64": "/w=="}]]
    assert found["error"] == {"type": "ValueError", "message": "no such customer\nat all"}
    assert "in charge\n" in found["traceback"]
    assert "ValueError: no such customer\nat all" in found["traceback"]
    (ended,) = found["generations"]
    assert (ended["ended_as"], ended["attempt"], ended["steps"]) == ("retry", 1, [[1, "charge"]])
    assert found["edits"] == found["decisions"] == []


def test_show_is_readable(shop: Shop, run: Run) -> None:
    run("redrive", event(1), "--reason", "ticket 7", "--by", "ada")
    shop.dbos.advance(minutes=2)
    text = run("show", event(1)).stdout

    for line in ("value                0xff00", "error                ValueError: no such customer"):
        assert line in text
    assert "Generations:" in text
    assert "1 charge" in text
    assert "Decisions:" in text
    assert "ticket 7" in text
    assert "Traceback:\n  Traceback (most recent call last):" in text
    assert "value                one" in run("show", event(0)).stdout


def test_show_writes_the_bytes_as_they_were_received(shop: Shop, run: Run, tmp_path: Path) -> None:
    file = tmp_path / "value"
    result = run("show", event(1), "--raw", str(file))

    assert (result.exit_code, result.stdout) == (0, "")
    assert file.read_bytes() == b"\xff\x00"
    assert run("show", event(1), "--raw", "-").stdout_bytes == b"\xff\x00"
    assert run("show", event(1), "--raw", "-", "--edited").exit_code == 1


@pytest.mark.parametrize(
    ("workflow_id", "says"), [("nobody", "no workflow with the id"), (event(0, 1), "never was")]
)
def test_show_fails_for_what_was_never_put_aside(shop: Shop, run: Run, workflow_id: str, says: str) -> None:
    result = run("show", workflow_id)

    assert (result.exit_code, result.stdout) == (1, "")
    assert says in result.stderr


# ------------------------------------------------------------------ redrive


def test_redrive_runs_events_again(shop: Shop, run: Run) -> None:
    shop.mend()
    result = run("redrive", event(0), event(0, 1))

    assert result.stdout.splitlines() == [
        f"{event(0)}: runs again.",
        f"{event(0, 1)}: is not in quarantine.",
    ]
    shop.dbos.run_until_idle()
    assert shop.seen == [b"one", b"behind"]
    assert sorted(ids(run("list", "--json"))) == [event(1), event(2)]
    assert sorted(ids(run("list", "--json", "--released"))) == [event(0), event(1), event(2)]


def test_redrive_takes_filters_and_tells_before_it_does(shop: Shop, run: Run) -> None:
    shop.mend()
    asked = ("redrive", "--error-type", "TimeoutError", "--json")
    assert answer(run(*asked, "--dry-run"))["dry_run"] is True
    assert len(ids(run("list", "--json"))) == 3
    assert sorted(answer(run(*asked, "--rate", "1000/s"))["changed"]) == [event(0), event(2)]
    shop.dbos.run_until_idle()
    assert sorted(shop.seen) == [b"behind", b"one", b"three"]


def test_redrive_of_all_has_to_be_said(shop: Shop, run: Run) -> None:
    result = run("redrive")
    assert result.exit_code == 2
    assert "--all" in result.stderr
    assert len(answer(run("redrive", "--all", "--json"))["changed"]) == 3
    assert run("redrive", "--all").stdout == "No event fits.\n"


def test_redrive_with_an_edited_value_shows_both(shop: Shop, run: Run, tmp_path: Path) -> None:
    shop.mend()
    file = tmp_path / "mended"
    file.write_bytes(b"mended")
    assert answer(run("redrive", event(1), "--edit", str(file), "--by", "ada", "--json"))["changed"] == [
        event(1)
    ]
    shop.dbos.run_until_idle()
    assert shop.seen == [b"mended"]

    found = answer(run("show", event(1), "--json"))
    assert found["value"] == {"base64": "/wA="}
    assert [(edit["value"], edit["edited_by"]) for edit in found["edits"]] == [("mended", "ada")]
    assert found["decisions"][0]["details"] == {"edited_bytes": 6}
    assert "edited value         mended" in run("show", event(1)).stdout
    assert run("show", event(1), "--raw", "-", "--edited").stdout == "mended"


def test_redrive_reads_an_edited_value_from_standard_input(shop: Shop, run: Run) -> None:
    shop.mend()
    run("redrive", event(2), "--edit", "-", input="from a pipe")
    shop.dbos.run_until_idle()
    assert shop.seen == [b"from a pipe"]


@pytest.mark.parametrize(("option", "keys"), [("--same-key", "same"), ("--new-key", "new")])
def test_redrive_says_under_which_key_a_step_with_other_arguments_goes_out(
    shop: Shop, run: Run, option: str, keys: str
) -> None:
    run("redrive", event(1), option)
    assert answer(run("show", event(1), "--json"))["decisions"][0]["details"] == {"keys": keys}


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (("--rate", "fast", "--all"), 2, "no rate"),
        (("--rate", "0/s", "--all"), 2, "no rate"),
        (("--from-step", "0", "--all"), 2, "greater than or equal to 1"),
        (("--from-step", "2", "--fresh", "--all"), 1, "fresh"),
        (("--same-key", "--new-key", "--all"), 1, "same_key, new_key"),
        (("--edit", "missing", event(0)), 2, "cannot be read"),
        (("--edit", "-", "--all"), 1, "one event"),
        ((event(0), "nobody"), 1, "'nobody'"),
        (("--since", "yesterday"), 2, "'yesterday' is neither"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_redrive_refuses_what_cannot_be_meant(
    shop: Shop, run: Run, arguments: tuple[str, ...], code: int, says: str
) -> None:
    result = run("redrive", *arguments)

    assert result.exit_code == code, result.output
    assert says in result.stderr
    assert len(ids(run("list", "--json"))) == 3


# ------------------------------------------------------------------ discard


def test_discard_lets_the_next_of_the_lane_run(shop: Shop, run: Run) -> None:
    shop.mend()
    result = run("discard", event(0), "--reason", "a test order")

    assert result.stdout == f"{event(0)}: is discarded.\n"
    shop.dbos.run_until_idle()
    assert shop.seen == [b"behind"]
    (decision,) = answer(run("show", event(0), "--json"))["decisions"]
    assert (decision["decision"], decision["reason"]) == ("discard", "a test order")
    assert "@" in decision["decided_by"]
    text = run("show", event(0)).stdout
    assert "released as          discarded" in text


def test_discard_needs_a_reason(shop: Shop, run: Run) -> None:
    assert run("discard", event(0)).exit_code == 2
    assert run("discard", event(0), "--reason", " ").exit_code == 1
    assert len(ids(run("list", "--json"))) == 3


@pytest.mark.parametrize("command", ["list", "show", "redrive", "discard"])
def test_each_command_has_examples(run: Run, command: str) -> None:
    assert f"dbos-events quarantine {command}" in run(command, "--help").stdout

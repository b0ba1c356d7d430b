"""Each example runs by itself, ends by itself, and shows what its first lines say."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples"
SECONDS = 90
FOLDERS = sorted(path.parent.name for path in EXAMPLES.glob("*/__main__.py") if path.parent.name != "demo")


def run(name: str, *arguments: str) -> str:
    """Run an example as a reader would; gives what it prints."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith("DBOS")}
    done = subprocess.run(
        [sys.executable, "-m", f"examples.{name}", *arguments],
        cwd=ROOT,
        env=kept | {"PYTHONUNBUFFERED": "1"},
        capture_output=True,
        text=True,
        check=False,
        timeout=SECONDS,
    )
    assert done.returncode == 0, f"{done.stdout}{done.stderr}"
    return done.stdout


@pytest.mark.parametrize("name", FOLDERS)
def test_an_example_says_what_it_is_and_how_to_run_it(name: str) -> None:
    text = (EXAMPLES / name / "__main__.py").read_text()

    assert text.startswith('"""')
    assert f"python -m examples.{name}" in text


@pytest.mark.parametrize("name", [*FOLDERS, "demo", "consumer.py", "embedded.py"])
def test_the_list_of_examples_names_each_of_them(name: str) -> None:
    assert f"({name})" in (EXAMPLES / "README.md").read_text()


def test_a_plain_handler_runs_its_steps_for_a_record() -> None:
    reserved = "2 x lamp reserved under kafka/example.on_order/orders/1/0/0:reserve"
    assert run("plain_handler").splitlines() == [
        f"to Ada: {reserved}",
        f"kafka/example.on_order/orders/1/0/0: SUCCESS, '{reserved}'",
        f"  step 1: reserve -> '{reserved}'",
        "  step 2: notify -> None",
    ]


def test_an_async_handler_runs_steps_side_by_side_and_retries_one_that_hangs() -> None:
    assert sorted(run("async_handler").splitlines()) == [
        "chair: 50 each, 5 left",
        "lamp: 40 each, 4 left",
        "table: 50 each, 5 left",
        "the shop was asked 4 times for 3 prices",
    ]


def test_a_failed_event_holds_its_own_partition_only() -> None:
    assert run("partition_order").splitlines() == [
        "partition 0, offset 0: ada has 10",
        "partition 0, offset 1: ada has 30",
        "partition 0, offset 2: ada has 60",
        "partition 1, offset 0: berta has 5",
        "quarantined: kafka/example.on_booking/bookings/1/1/1: there is no account nobody",
        "held behind it: kafka/example.on_booking/bookings/1/1/2",
        "partition 0, offset 3: ada has 100",
    ]


def test_typed_handlers_get_what_fits_and_the_rest_is_put_aside() -> None:
    asked = "`when` of the consumer on_order cannot be asked"
    value = "The value of orders/0/2 is no Placed | Cancelled: placed.total: Input should be a valid decimal."
    assert run("typed_payloads").splitlines() == [
        "called directly: 1 x chair",
        "order 1 over 250.00",
        "order 1 is cancelled",
        "ada moved to Turin",
        "ada is forgotten",
        "2 x lamp",
        f"quarantined: {asked}: {value}",
    ]


def test_a_failed_event_is_tried_again_put_aside_and_redriven_or_discarded() -> None:
    assert run("failure_and_redrive").splitlines() == [
        "  A: reserved",
        "  A: the bank does not answer",
        "  A: the bank does not answer",
        "after 2 retries: A paid 5.00",
        "  B: reserved",
        "in quarantine after 3 attempts: TypeError",
        "redriven: B paid 7.00",
        "ada: discard, a test order",
    ]


def test_a_failed_event_holds_its_own_key_only() -> None:
    assert run("key_order").splitlines() == [
        "quarantined: kafka/example.on_booking/bookings/1/0/0: there is no account nobody",
        "offset 3: ada has 10",
        "offset 4: ada has 30",
        "offset 5: ada has 60",
        "offset 6: berta has 5",
        "offset 7: berta has 12",
        "held behind it: kafka/example.on_booking/bookings/1/0/1, kafka/example.on_booking/bookings/1/0/2",
    ]


def test_sleeping_workflows_need_few_threads_and_survive_the_process() -> None:
    first, second, third = run("long_sleep").splitlines()

    threads = re.fullmatch(r"200 workflows sleep, and (\d+) threads are there to run them", first)
    assert threads is not None
    assert int(threads[1]) <= 8
    assert second == "the program has ended; reminders so far: 0"
    assert third == "started again: 200 reminders, 200 different ones"


def test_schedules_fire_each_second_skip_what_overlaps_and_explain_every_tick() -> None:
    assert run("schedules").splitlines() == [
        "counted every second until the pause",
        "crawled less often than its schedule fired",
        "count: all ticks explained: paused, ran",
        "crawl: all ticks explained: ran, skipped",
    ]


def test_progress_goes_on_where_a_connection_was_lost() -> None:
    assert run("progress_over_sse").splitlines() == [
        'event 0: {"file": "orders.csv", "done": 1, "of": 4}',
        'event 1: {"file": "lines.csv", "done": 2, "of": 4}',
        "the connection is lost",
        'event 2: {"file": "prices.csv", "done": 3, "of": 4}',
        'event 3: {"file": "stock.csv", "done": 4, "of": 4}',
        "the stream has ended",
        "3800 rows",
    ]


def test_a_queue_keeps_its_limits() -> None:
    first, second = run("queue_with_limit").splitlines()

    most = re.fullmatch(r"12 images, at most (\d) at once", first)
    took = re.match(r"their starts took ([\d.]+) s", second)
    assert most is not None
    assert int(most[1]) <= 2
    assert took is not None
    assert float(took[1]) >= 1.9


def test_a_reminder_comes_after_days_and_what_is_not_answered_ends_at_its_deadline() -> None:
    lines = run("reminder").splitlines()
    assert sorted(lines[:3]) == [f"{name}: sent" for name in "ABC"]
    assert lines[3] == "the program has ended; it starts again"
    assert sorted(lines[4:7]) == [f"{name}: reminder" for name in "ABC"]
    assert lines[7:] == ["B: accepted", "offer-A: withdrawn, timeout", "offer-C: withdrawn, timeout"]


def test_options_of_enqueues_say_what_starts_first_and_what_is_one() -> None:
    assert run("queue_options").splitlines() == [
        "a second alarm is refused: True",
        "sent: alarm, invoice, newsletter",
        "the small tenant came before the end of the big one's backlog: True",
        "pages indexed by each call's run: [3, 3, 3]",
    ]


def test_an_approval_survives_the_process_and_a_double_click() -> None:
    lines = run("approval").splitlines()
    assert sorted(lines[:3]) == [f"{name}: who decides?" for name in "ABC"]
    assert lines[3] == "the program has ended; it starts again"
    assert sorted(lines[4:]) == [
        "A: approved by Ada",
        "A: paid",
        "B: declined by Ada",
        "C: nobody decided in time",
    ]


def test_orders_and_payments_meet_and_the_rest_is_counted() -> None:
    assert run("order_meets_payment").splitlines() == [
        "two payments are there, and no order",
        "order 1: paid 12.50",
        "order 2: paid 7.00",
        "order 3: not paid in time",
        "payments: {'open': 1, 'taken': 2}",
    ]

"""Values and streams between processes: signals, and a writer that is killed (protocol, rules 17 and 18)."""

import json
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from dbos_events import App, SetWorkflowID, StreamReset

ROOT = Path(__file__).parents[2]
PUBLISHER = Path(__file__).with_name("publisher.py")
FAR = 60.0
"""Seconds of a poll that no test waits for."""


class Publisher:
    """One process that publishes."""

    def __init__(self, url: str, life: int) -> None:
        self.process = subprocess.Popen(
            [sys.executable, str(PUBLISHER), json.dumps({"url": url, "life": life})],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def wait_until_it_holds(self) -> None:
        assert self.process.stdout is not None
        assert self.process.stdout.readline().strip() == "holds"

    def go_on(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()


@pytest.fixture
def publishers() -> Iterator[list[Publisher]]:
    started: list[Publisher] = []
    yield started
    for publisher in started:
        publisher.process.kill()
        publisher.process.communicate()


@pytest.fixture
def reader(database_url: str) -> Iterator[App]:
    """An App of another name, in this process, which only reads."""
    app = App({"name": "reader", "system_database_url": database_url, "run_migrations": True})
    with app:
        yield app


class Read(threading.Thread):
    """Reads a stream on a thread; `got` is what it has so far."""

    def __init__(self, app: App, mode: Any) -> None:
        super().__init__(daemon=True)
        self.app = app
        self.mode = mode
        self.got: list[Any] = []

    def run(self) -> None:
        self.got.extend(self.app.read_stream("w", "s", mode=self.mode))


@pytest.mark.slow
def test_a_writer_that_is_killed_and_taken_up_elsewhere_writes_nothing_twice_for_who_reads_what_counts(
    database_url: str, reader: App, publishers: list[Publisher]
) -> None:
    publishers.append(Publisher(database_url, 1))
    publishers[0].wait_until_it_holds()
    assert reader.get_event("w", "life") == 1, "a step publishes at once"
    threads = {mode: Read(reader, mode) for mode in ("all", "live", "committed")}
    for thread in threads.values():
        thread.start()
    publishers[0].process.kill()
    publishers.append(Publisher(database_url, 2))
    publishers[1].wait_until_it_holds()
    assert reader.get_event("w", "life") == 2
    assert threads["committed"].got in ([], [0, 1, 2]), "the step has not ended"
    publishers[1].go_on()
    for thread in threads.values():
        thread.join(30)
    first, second = ["x1", "y1", "z1"], ["x2", "y2", "z2"]
    assert threads["all"].got == [0, 1, 2, *first, *second, "end"]
    assert threads["live"].got == [0, 1, 2, *first, StreamReset(4, 3), *second, "end"]
    assert threads["committed"].got == [0, 1, 2, *second, "end"]


@pytest.mark.postgres
def test_readers_in_another_process_are_woken_by_signals(migrated_postgres: str) -> None:
    """No poll comes in time; an App of its own hears only what goes through the database."""
    writer, reader = (
        App({"name": name, "system_database_url": migrated_postgres}) for name in ("writer", "reader")
    )

    @writer.workflow()
    def writes() -> None:
        for number in range(20):
            writer.write_stream("s", (number, time.monotonic()))
            writer.sleep(0.01)
        writer.close_stream("s")

    @reader.workflow()
    def reads() -> list[Any]:
        return list(reader.read_stream("w", "s", polling_interval_sec=FAR))

    with writer, reader:
        with SetWorkflowID("w"):
            writer.start_workflow(writes)
        handle = reader.start_workflow(reads)
        began = time.monotonic()
        late = [time.monotonic() - at for _, at in reader.read_stream("w", "s", polling_interval_sec=FAR)]
        assert len(late) == len(handle.get_result()) == 20
        assert time.monotonic() - began < FAR / 2
        assert sorted(late)[10] < 1.0


@pytest.mark.postgres
def test_a_parked_reader_in_another_process_is_woken_by_the_value_and_by_the_end(
    migrated_postgres: str,
) -> None:
    writer = App({"name": "writer", "system_database_url": migrated_postgres, "run_migrations": True})
    reader = App({"name": "reader", "system_database_url": migrated_postgres, "park_after_seconds": 0.0})
    goes_on = threading.Event()

    @writer.step()
    def waits() -> None:
        goes_on.wait(30)

    @writer.workflow()
    def publishes() -> None:
        waits()
        writer.set_event("k", "value")

    @reader.workflow()
    def reads(key: str) -> Any:
        return reader.get_event("w", key, 3600)

    with writer, reader:
        with SetWorkflowID("w"):
            writer.start_workflow(publishes)
        handles = [reader.start_workflow(reads, key) for key in ("k", "never")]
        while len(reader.core.runner.active) > 0:
            time.sleep(0.01)
        goes_on.set()
        began = time.monotonic()
        assert [handle.get_result(polling_interval_sec=0.05) for handle in handles] == ["value", None]
        assert time.monotonic() - began < 20

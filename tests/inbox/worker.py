"""A process with pushed consumers: `python -m tests.inbox.worker DATABASE_URL EFFECTS_FILE`.

It reads orders as lines of JSON, `[[consumer, id, payload, lane], ...]` for each thread that is to accept at once, and
answers each with a line of outcomes. Its handlers leave a line in the file when they begin and when they end.
"""

import json
import logging
import os
import sys
import threading
import time
from pathlib import Path
from typing import Any

from dbos_events import App
from tests.connectors.folder.connector import File, event, folder_consumer, inbox_of


def declare(app: App, effects: Path) -> None:
    """The consumers `plain` and `slow`, whose events do one step."""

    def leave(what: str, name: str) -> None:
        with effects.open("a") as file:
            file.write(json.dumps([what, name, os.getpid()]) + "\n")

    @app.step()
    def work(name: str, seconds: float) -> None:
        leave("begins", name)
        time.sleep(seconds)
        leave("ends", name)

    @folder_consumer(app, name="plain", breaker=None)
    def on_plain(file: File) -> str:
        work(file.name, 0.0)
        return file.name

    @folder_consumer(app, name="slow", breaker=None)
    def on_slow(file: File) -> str:
        work(file.name, 0.02)
        return file.name


def accept(app: App, orders: list[list[Any]]) -> list[Any]:
    """Have each order accepted by a thread of its own, all at once."""
    inbox = inbox_of(app)
    barrier = threading.Barrier(len(orders))
    answers: list[Any] = [None] * len(orders)

    def one(number: int, order: list[Any]) -> None:
        events = [event(consumer, id_, payload.encode(), lane=lane) for consumer, id_, payload, lane in order]
        barrier.wait()
        answers[number] = [
            [outcome.kind, outcome.workflow_id, outcome.cause] for outcome in inbox.accept(events)
        ]

    threads = [threading.Thread(target=one, args=(number, order)) for number, order in enumerate(orders)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return answers


def say(answer: object) -> None:
    sys.stdout.write(json.dumps(answer) + "\n")
    sys.stdout.flush()


def main() -> None:
    logging.basicConfig(level=logging.WARNING, stream=sys.stderr)
    app = App({"name": "shop", "system_database_url": sys.argv[1], "lease_seconds": 2.0})
    declare(app, Path(sys.argv[2]))
    with app:
        say("ready")
        for line in sys.stdin:
            say(accept(app, json.loads(line)))


if __name__ == "__main__":
    main()

"""When the testing kit takes everything to be at rest."""

import threading

import pytest

from dbos_events import App, KafkaMessage
from dbos_events.testing.plugin import MakeTestApp

PATIENCE = 10.0
ROUNDS = 8
"""Looks for as many rounds as end when there was nothing to do."""


def test_the_next_event_of_a_lane_is_waited_for_while_the_last_one_makes_way(
    dbos_test_app: MakeTestApp, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the two no run is there: the first has left, and the other begins when all answers are told."""
    app = App()
    handled: list[int] = []
    both = threading.Event()

    @app.kafka_consumer(topics="orders", ordering="partition")
    def handle(message: KafkaMessage) -> None:
        assert both.wait(PATIENCE)
        handled.append(message.offset)

    dbos = dbos_test_app(app)
    looked = threading.Event()
    empty: list[int] = []
    busy, follow = dbos._busy, dbos.core.committer._after_batch

    def look() -> object:
        found = busy()
        if not found and handled:
            empty.append(len(handled))
        if len(empty) > ROUNDS:
            looked.set()
        return found

    def follow_late() -> None:
        assert looked.wait(PATIENCE)
        follow()

    monkeypatch.setattr(dbos, "_busy", look)
    monkeypatch.setattr(dbos.core.committer, "_after_batch", follow_late)
    for _ in range(2):
        dbos.deliver(handle, b"value")
    both.set()
    dbos.run_until_idle()
    assert handled == [0, 1]

"""The client that questions to the cluster go through."""

from typing import Any, cast

import pytest

from dbos_events.connect import Intake
from dbos_events_kafka import topics
from dbos_events_kafka.settings import DEFAULTS, ConsumerSettings


def test_it_asks_every_second_who_answers_for_the_cluster_whatever_the_consumer_does(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What becomes of it when that node dies, `tests/faults/test_unclean_election.py` sees; it takes brokers that die."""
    made: list[dict[str, Any]] = []
    monkeypatch.setattr(topics, "AdminClient", made.append)
    settings = ConsumerSettings({**DEFAULTS, "bootstrap.servers": "127.0.0.1:1"}, "group", "earliest")
    topics.Topics(cast("Intake", None), settings).client()
    assert settings.client["topic.metadata.refresh.interval.ms"] == 60000
    assert [client["topic.metadata.refresh.interval.ms"] for client in made] == [1000]

"""What the core finds under the entry point `kafka`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dbos_events.connect import Connector, Intake, Source
from dbos_events.model.event import ConsumerOptions
from dbos_events_kafka.ends import ask_ends
from dbos_events_kafka.message import KafkaMessages
from dbos_events_kafka.rules import check_config
from dbos_events_kafka.settings import ConsumerSettings
from dbos_events_kafka.source import KafkaSource


def _check(options: ConsumerOptions) -> None:
    check_config(options.config, options.name)


def _open(intake: Intake, settings: Mapping[str, Any]) -> Source:
    return KafkaSource(intake, ConsumerSettings.merge(intake, settings))


connector = Connector("kafka", _check, _open, KafkaMessages(), ask_ends)

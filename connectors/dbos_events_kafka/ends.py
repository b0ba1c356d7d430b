"""What the cluster itself says of the ends of topics, for a command that runs beside no consumer."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any

from confluent_kafka import IsolationLevel, KafkaException, TopicCollection, TopicPartition
from confluent_kafka.admin import AdminClient
from confluent_kafka.admin._listoffsets import OffsetSpec

from dbos_events.connect import Ends
from dbos_events.errors import ConfigurationError, ConnectorError
from dbos_events_kafka.client import reason_of
from dbos_events_kafka.masking import Mask, is_secret
from dbos_events_kafka.settings import admin_settings, dotted
from dbos_events_kafka.topics import id_of

TIMEOUT = 10.0


def ask_ends(
    given: Mapping[str, Any], stored: Mapping[str, str], partitions: Mapping[str, Sequence[int]]
) -> Ends:
    """The end of each partition that the cluster has, and the id of each topic.

    Args:
        given: Client settings from the environment or the settings file; they win.
        stored: Those that the consumer was last launched with, where secrets are left out.
        partitions: Numbers by topic.

    Raises:
        ConfigurationError: No broker is named.
        ConnectorError: The cluster does not answer, or refuses.
    """
    known = {key: value for key, value in stored.items() if not is_secret(key)}
    settings = admin_settings({**known, **dotted(given)})
    if not (settings.get("bootstrap.servers") or settings.get("metadata.broker.list")):
        raise ConfigurationError("No broker is named. Set DBOS_EVENTS_KAFKA__BOOTSTRAP_SERVERS.")
    mask = Mask(settings)
    try:
        return _asked(AdminClient({**settings, "log_level": 0}, logger=_SILENT), partitions)
    except (KafkaException, TypeError, ValueError) as error:
        raise ConnectorError(
            f"The Kafka cluster at {settings.get('bootstrap.servers')} does not tell the ends of its topics: "
            f"{mask(reason_of(error))}. Client settings of this command come from DBOS_EVENTS_KAFKA__... or the "
            "settings file."
        ) from None  # what it says may quote a secret


def _asked(client: AdminClient, partitions: Mapping[str, Sequence[int]]) -> Ends:
    ids: dict[str, str] = {}
    ends: dict[tuple[str, int], int] = {}
    if not partitions:
        return Ends(ids, ends)
    client.list_topics(
        timeout=TIMEOUT
    )  # the questions below would wait for a cluster that is away far longer
    described = client.describe_topics(TopicCollection(sorted(partitions)), request_timeout=TIMEOUT)
    wanted = []
    for topic, answer in described.items():
        try:
            description = answer.result(TIMEOUT)
        except KafkaException:
            continue  # there is no such topic, or no right to see it: its end is not known
        ids[topic] = id_of(description)
        there = {partition.id for partition in description.partitions}
        wanted += [TopicPartition(topic, number) for number in partitions[topic] if number in there]
    latest = OffsetSpec._latest  # noqa: SLF001 - what `latest()` gives, which has no types
    question: dict[TopicPartition, OffsetSpec] = {} if latest is None else dict.fromkeys(wanted, latest)
    answers = (
        client.list_offsets(question, isolation_level=IsolationLevel.READ_COMMITTED, request_timeout=TIMEOUT)
        if wanted
        else {}
    )
    for place, answer in answers.items():
        try:
            ends[place.topic, place.partition] = answer.result(TIMEOUT).offset
        except KafkaException:
            continue
    return Ends(ids, ends)


_SILENT = logging.Logger("silent", logging.CRITICAL + 1)  # noqa: LOG001 - what the client says is raised

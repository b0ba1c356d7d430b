"""Looks after what the client reports the beginning of, and never the end: topics, rights, brokers."""

from __future__ import annotations

import warnings

from confluent_kafka import KafkaError, KafkaException, TopicCollection, TopicPartition
from confluent_kafka.admin._acl import AclOperation

from dbos_events.connect import Intake
from dbos_events.errors import ConnectorError
from dbos_events_kafka.advice import CLUSTER, GROUP_RIGHT
from dbos_events_kafka.pollwork import Commands
from dbos_events_kafka.settings import ConsumerSettings
from dbos_events_kafka.state import EVERY_TOPIC, SourceState
from dbos_events_kafka.topics import Topics

ANSWER_SECONDS = 2.0
GROUP_SECONDS = 8.0
"""The client repeats that it has no right to the group; what it has just said is not asked about."""
_UUID = "00000000-0000-0000-0000-000000000000"
_UNKNOWN = (KafkaError.UNKNOWN_TOPIC_OR_PART, KafkaError._UNKNOWN_TOPIC)  # noqa: SLF001


class Doubts:
    """Asks on the intake thread, about once a second, and only while there is a reason to."""

    def __init__(
        self,
        intake: Intake,
        settings: ConsumerSettings,
        topics: Topics,
        commands: Commands,
        state: SourceState,
    ) -> None:
        self._settings = settings
        self._topics = topics
        self._commands = commands
        self._state = state
        self._named = {topic for topic in intake.options.topics if not topic.startswith("^")}
        self._unseen = set(self._named)

    def look(self, assigned: set[str]) -> None:
        """Ask about what is in doubt; `assigned` are topics that partitions were assigned of."""
        doubtful = self._state.take_doubtful()
        self._unseen |= self._named if EVERY_TOPIC in doubtful else doubtful & (self._named | assigned)
        gone = self._unseen - self._named - assigned  # a pattern does not stand for it any more
        self._unseen -= gone
        self._state.mended(*map(_cause, gone))
        self._unseen -= {topic for topic in assigned - doubtful if not self._state.has(_cause(topic))}
        if self._state.suspects_cluster:
            self._ask_cluster()
        if self._state.has(CLUSTER):
            return  # every other question would wait for an answer, too
        for topic in sorted(self._unseen):
            self._ask_topic(topic)
        if self._state.has(GROUP_RIGHT, unrepeated=GROUP_SECONDS):
            self._ask_group()
        self._state.expire()
        if not assigned and not self._unseen:
            self._state.standing_by()

    def instance_is_free(self) -> bool:
        """Whether no other member has our group.instance.id now; False when nobody says so.

        Only the groups of the classic protocol are asked for so: the other one has a broker that gives no place away.
        """
        own = str(self._settings.client.get("group.instance.id"))
        try:
            with warnings.catch_warnings(action="ignore", category=DeprecationWarning):
                # The call that it tells to use can end the process.
                groups = self._topics.client().list_groups(self._settings.group, timeout=ANSWER_SECONDS)
        except (KafkaException, ConnectorError):
            return False
        if any(group.error is not None for group in groups):
            return False
        return not any(_is_of_instance(str(member.id), own) for group in groups for member in group.members)

    # -- questions ----------------------------------------------------------------------------

    def _ask_cluster(self) -> None:
        try:
            self._topics.client().describe_cluster(request_timeout=ANSWER_SECONDS).result()
        except KafkaException as error:
            self._state.confirm(error.args[0])
        else:
            self._state.cluster_answers()

    def _ask_topic(self, topic: str) -> None:
        try:
            answers = self._topics.client().describe_topics(
                TopicCollection([topic]),
                request_timeout=ANSWER_SECONDS,
                include_authorized_operations=True,
            )
            allowed = answers[topic].result().authorized_operations
        except KafkaException as error:
            self._note_topic(topic, error.args[0])
            return
        if _lacks_read(allowed):
            self._state.trouble(self._no_right_to(topic), _cause(topic))
            return
        self._unseen.discard(topic)
        if self._state.has(_cause(topic)):
            self._commands.created(topic)  # by itself the client looks for it once a minute
            self._state.mended(_cause(topic))

    def _note_topic(self, topic: str, error: KafkaError) -> None:
        if error.code() in _UNKNOWN:
            self._state.trouble(
                f"the topic {topic} does not exist; create it, reading begins by itself then", _cause(topic)
            )
        elif error.code() == KafkaError.TOPIC_AUTHORIZATION_FAILED:
            self._state.trouble(self._no_right_to(topic), _cause(topic))

    def _no_right_to(self, topic: str) -> str:
        return (
            f"no right to read the topic {topic}; grant {self._settings.principal} Read on it, "
            "reading begins by itself then"
        )

    def _ask_group(self) -> None:
        """Whether we may use the group by now: a group that is empty tells it by nothing else.

        The group's offsets are read, for which Describe is enough; whoever may do that and not read the group hears it
        again from the client, which goes on trying to join. To describe the group could end the process.
        """
        topic = min(self._named, default="none")  # any will do
        try:
            found = self._topics.asker().committed([TopicPartition(topic, 0)], timeout=ANSWER_SECONDS)
        except KafkaException:
            return
        refused = [place.error for place in found if place.error is not None]
        if not any(error.code() == KafkaError.GROUP_AUTHORIZATION_FAILED for error in refused):
            self._state.mended(GROUP_RIGHT)


def _is_of_instance(member_id: str, instance: str) -> bool:
    """Whether the broker has given this id to a member of that group.instance.id: it is the instance, and a UUID."""
    return member_id[: -len(_UUID) - 1] == instance and member_id[-len(_UUID) - 1 : -len(_UUID)] == "-"


def _cause(topic: str) -> str:
    return f"topic {topic}"


def _lacks_read(allowed: list[AclOperation] | None) -> bool:
    """Brokers without rights, and old ones, name no operations at all."""
    return bool(allowed) and not {AclOperation.READ, AclOperation.ALL} & set(allowed or ())

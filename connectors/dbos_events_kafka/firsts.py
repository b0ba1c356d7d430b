"""First positions: where a partition begins that has no watermark yet."""

from __future__ import annotations

from collections.abc import Collection

from confluent_kafka import KafkaException

from dbos_events.connect import Intake, TopicHistory, logger
from dbos_events.model.subscription import covers, is_pattern
from dbos_events_kafka.advice import TOPICS, cause_of
from dbos_events_kafka.settings import ConsumerSettings
from dbos_events_kafka.topics import Life, Topics


class Firsts:
    """Writes them, with their reason, before the first fetch.

    The group's committed offsets and `auto.offset.reset` count once: for the partitions that exist when the
    consumer registers for a topic or a pattern. What appears later begins at its first record.
    """

    def __init__(self, intake: Intake, settings: ConsumerSettings, topics: Topics) -> None:
        self._intake = intake
        self._settings = settings
        self._topics = topics
        self._registered: frozenset[str] | None = None

    @property
    def pending(self) -> bool:
        """Whether a subscription is not registered yet."""
        return self._registered is None or not set(self._intake.options.topics) <= self._registered

    def is_registered(self, topic: str) -> bool:
        """Whether the topic belongs to a subscription whose first positions are written."""
        own = set(self._registered or ()) & set(self._intake.options.topics)
        return covers(own, topic)

    def forget(self) -> None:
        """Ask the database again what is registered: it may be another one."""
        self._registered = None

    def register(self) -> None:
        """Write the first positions of all that exists. Raises KafkaException when that cannot be known."""
        if not self.pending:
            return
        self._registered = self._intake.registered()
        refused: KafkaException | None = None
        for subscription in self._intake.options.topics:
            if subscription in self._registered:
                continue
            try:
                self._register(subscription)
            except KafkaException as error:
                if cause_of(error.args[0]) != TOPICS:
                    raise
                refused = error  # a right to one topic that is missing holds up no other
            else:
                self._registered |= {subscription}
        if refused is not None:
            raise refused

    def _register(self, subscription: str) -> None:
        for topic in self._topics.matching(subscription):
            self.ensure(topic, self._topics.look(topic), (), first=True)
        self._intake.register(subscription)

    def ensure(self, topic: str, life: Life, partitions: Collection[int], *, first: bool = False) -> str:
        """See that every partition of the topic has a watermark; gives what somebody should know about it."""
        known = self._intake.known_partitions(life.incarnation) | set(life.branches)
        wanted = life.partitions | set(partitions)
        if wanted <= known:
            return ""
        missing = sorted(wanted - known)
        history = self._intake.history(topic)
        gate: dict[int, int] | None = None
        positions = self._positions(topic, missing, history, first=first and not known and not history.known)
        if known:
            alarm = self._added(topic, len(known), len(wanted))
            positions = dict.fromkeys(missing, (0, "partition added later"))
            if (
                self._intake.options.strict_key_order
            ):  # whatever a key has in its former partition lies below its end
                bounds = self._topics.bounds(topic, sorted(known))
                gate = {number: end for number, (_, end) in bounds.items()}
        elif history.known:
            alarm = self._made_again(topic, life)
            positions = dict.fromkeys(missing, (0, "topic made again"))
        else:
            alarm = ""
            if not first and any(map(is_pattern, self._intake.options.topics)):
                logger.info(
                    "%s: the topic %s fits a pattern and is read from now on.",
                    self._intake.options.name,
                    topic,
                )
        self._intake.begin(life.incarnation, positions, gate)
        return alarm

    def _positions(
        self, topic: str, partitions: list[int], history: TopicHistory, *, first: bool
    ) -> dict[int, tuple[int, str]]:
        if not first and not history.adopted:
            return dict.fromkeys(partitions, (0, "topic created later"))
        committed = self._topics.committed(topic, partitions)
        bounds = self._topics.bounds(topic, partitions)
        positions = {}
        for number in partitions:
            if number in history.inherited:
                positions[number] = (history.inherited[number], "continued from another cluster")
            elif number in committed:
                positions[number] = (committed[number].offset, "committed offset of the group")
            elif history.adopted:
                positions[number] = (bounds[number][0], "another cluster, from its beginning")
            elif self._settings.start == "latest":
                positions[number] = (bounds[number][1], "auto.offset.reset=latest")
            else:
                positions[number] = (bounds[number][0], "auto.offset.reset=earliest")
        return positions

    def _added(self, topic: str, before: int, now: int) -> str:
        text = (
            f"partitions were added ({before} before, {now} now), so keys go to other partitions than before"
        )
        name = self._intake.options.name
        logger.warning("%s: %s: %s.", name, topic, text, extra={"consumer": name, "topic": topic})
        return text

    def _made_again(self, topic: str, life: Life) -> str:
        text = (
            f"the topic was deleted and made again; it is read from its beginning as incarnation {life.incarnation}, and "
            "what was not read of the one before is lost"
        )
        name = self._intake.options.name
        logger.error("%s: %s: %s.", name, topic, text, extra={"consumer": name, "topic": topic})
        return text

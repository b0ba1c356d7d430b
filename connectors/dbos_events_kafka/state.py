"""What a source is doing and what it waits for, for people and probes; each change is said once."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Collection

from confluent_kafka import KafkaError

from dbos_events.connect import Recurring, logger
from dbos_events_kafka.advice import (
    CLIENT,
    CLUSTER,
    GROUP,
    GROUP_RIGHT,
    ONE_BROKER,
    TOPICS,
    advise,
    cause_of,
)
from dbos_events_kafka.buffers import Place, shown

FRESH_SECONDS = 60.0
STANDBY_SECONDS = 5.0
FLAPPING_SECONDS = 10.0
"""A trouble that is back so soon is the same one: it is counted, not said."""
EXPIRY_SECONDS = 30.0
"""What the client has not repeated for that long is over, when nothing else tells its end."""
CONNECTING = "connecting"
INTAKE = "intake"
TOKENS = "tokens"
POLLING = "polling"
MAKING = "client is made"
EVERY_TOPIC = ""
_BY_ITSELF = (CLUSTER, GROUP, GROUP_RIGHT, CLIENT)
"""What is over when records or assignments arrive. A topic may be missing while another one is read."""

_GENERAL = (*_BY_ITSELF, INTAKE, TOKENS, POLLING, MAKING)
OF_TOPICS = ("topic", "position of", "identity of")
"""Such causes are followed by the topic's name."""
OF_PARTITIONS = ("partition", "damage of")
"""Such causes are followed by the partition's name."""


class Holding:
    """The partitions that a process has, for its log."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._held: set[Place] = set()

    def moved(self, how: str, places: Collection[Place]) -> None:
        """Partitions were `assigned`, or `revoked` or `lost`: say which, and what this process has now."""
        if how == "assigned":
            self._held.update(places)
        else:
            self._held.difference_update(places)
        logger.info(
            "%s: %s %s; this process now has %s",
            *(self._name, how, shown(places), shown(self._held)),
            extra={
                "consumer": self._name,
                how: [f"{place.topic}[{place.partition}]" for place in sorted(places)],
                "partitions": [f"{place.topic}[{place.partition}]" for place in sorted(self._held)],
            },
        )


class SourceState:
    """Troubles by their cause, since they begin and end independently of each other.

    `detail` is all of them in one line, empty when nothing is wrong.
    """

    def __init__(self, name: str, mask: Callable[[str], str] = str) -> None:
        self._name = name
        self._mask = mask
        self._lock = threading.Lock()
        self._troubles: dict[str, str] = {}
        self._repeated_at: dict[str, float] = {}
        self._ended_at: dict[str, float] = {}
        self._loud: set[str] = set()
        self._said: dict[str, dict[str, Recurring]] = {}
        self._doubtful: set[str] = set()
        self._suspicion: KafkaError | None = None
        self._clue = ""
        self._polled_at = self._began_at = time.monotonic()
        self.joined = False
        self.holding = Holding(name)

    # -- what it is ---------------------------------------------------------------------------

    def polled(self) -> None:
        """The poll loop is alive."""
        self._polled_at = time.monotonic()

    @property
    def is_polling(self) -> bool:
        return time.monotonic() - self._polled_at < FRESH_SECONDS

    @property
    def activity(self) -> str:
        """What the source does when nothing is wrong."""
        return "reading" if self.joined else CONNECTING

    @property
    def name(self) -> str:
        """One word for the status."""
        return "waiting" if self._troubles else self.activity

    @property
    def idle_name(self) -> str:
        """The same, for a member without a partition."""
        return "standing by" if self.name == "reading" else self.name

    @property
    def detail(self) -> str:
        with self._lock:
            return "; ".join(self._troubles.values()) or ("" if self.joined else CONNECTING)

    def of(self, place: Place) -> tuple[str, str | None]:
        """Name and detail for one partition: without what is about other partitions and topics."""
        own = {
            *(f"{word} {place.topic}" for word in OF_TOPICS),
            *(f"{word} {place.topic}[{place.partition}]" for word in OF_PARTITIONS),
        }
        with self._lock:
            texts = [text for cause, text in self._troubles.items() if cause in own or cause in _GENERAL]
        return ("waiting", "; ".join(texts)) if texts else (self.activity, None)

    def has(self, cause: str, *, unrepeated: float = 0.0) -> bool:
        """Whether there is a trouble of this cause, which nobody has repeated for so many seconds."""
        return cause in self._troubles and time.monotonic() - self._repeated_at.get(cause, 0.0) >= unrepeated

    # -- what goes wrong ----------------------------------------------------------------------

    def error(self, error: KafkaError, topic: str | None = None, *, otherwise: str = CLIENT) -> None:
        """The client reports an error; it goes on by itself unless it is fatal.

        `otherwise` is the cause of an error that is about neither cluster, topics nor group.
        """
        cause = cause_of(error)
        if cause == TOPICS:
            # Whether it is the topic or a right, and when it is mended, only a question can tell.
            self._doubtful.add(topic or EVERY_TOPIC)
        elif cause == ONE_BROKER:
            self._suspicion = error  # the others may do; whoever asks the cluster knows
        elif error.code() == KafkaError._ALL_BROKERS_DOWN:  # noqa: SLF001
            self.confirm(error)
        else:
            if cause == CLUSTER:
                self._suspicion = error
            self.trouble(advise(error), otherwise if cause == CLIENT else cause)

    def confirm(self, error: KafkaError | None = None) -> None:
        """No broker does: say why, as far as one of them told."""
        why = self._suspicion or error
        if why is not None:
            self.trouble(advise(why, self._clue), CLUSTER)

    def clue(self, text: str) -> None:
        """What the client logged of a connection that ended: the error that follows may not say why."""
        self._clue = text

    def trouble(self, text: str, cause: str = INTAKE, *, decision: bool = False, quiet: bool = False) -> None:
        """Something stands in the way until `mended` is called for the same cause.

        `decision` says that it waits for an operator, who is told as an error, and reminded; `quiet` that the log has it
        from somebody else.
        """
        text = self._mask(text)
        with self._lock:
            if any(_head(other) == _head(text) for key, other in self._troubles.items() if key != cause):
                return  # the client reports it of a broker and of all brokers
            now = time.monotonic()
            if (
                cause not in self._troubles
                and now - self._ended_at.get(cause, -FLAPPING_SECONDS) >= FLAPPING_SECONDS
            ):
                self._said.pop(cause, None)
                if not quiet:
                    self._loud.add(cause)
            self._troubles[cause] = text
            self._repeated_at[cause] = now
            # The same trouble again, with other numbers or times in the client's words, is only counted.
            said = self._said.setdefault(cause, {}).setdefault(_head(text), Recurring(decision=decision))
        if not quiet:
            said.say("%s: %s", self._name, text, extra={"consumer": self._name, "cause": cause})

    def take_doubtful(self) -> set[str]:
        """Topics that the client complained about; EVERY_TOPIC when it did not say which."""
        with self._lock:
            doubtful, self._doubtful = self._doubtful, set()
        return doubtful

    @property
    def suspects_cluster(self) -> bool:
        """Whether somebody should ask if the cluster answers."""
        return self._suspicion is not None or CLUSTER in self._troubles

    # -- what is mended -----------------------------------------------------------------------

    def well(self) -> None:
        """Records or assignments arrive: the cluster, the group and the client do their work."""
        self.mended(*_BY_ITSELF)
        self._suspicion = None

    def mended(self, *causes: str) -> None:
        """These are over."""
        if not self._troubles:
            return
        for cause in causes:
            with self._lock:
                text = self._troubles.pop(cause, None)
                level = logging.INFO if cause in self._loud else logging.DEBUG
                self._loud.discard(cause)
                if text is not None:
                    self._ended_at[cause] = time.monotonic()
            if text is not None:
                logger.log(
                    level,
                    "%s: goes on, this is over: %s",
                    *(self._name, text),
                    extra={"consumer": self._name, "cause": cause},
                )

    def cluster_answers(self) -> None:
        """What the client does not tell the end of, unless records arrive."""
        self._suspicion = None
        self.mended(CLUSTER)

    def expire(self) -> None:
        """Forget what the client never tells the end of."""
        limit = time.monotonic() - EXPIRY_SECONDS
        self.mended(*(cause for cause in (GROUP, CLIENT) if self._repeated_at.get(cause, limit) < limit))

    def standing_by(self) -> None:
        """Nothing is assigned: with more members than partitions that stays so, and the client says nothing."""
        if not self.joined and not self._troubles and time.monotonic() - self._began_at >= STANDBY_SECONDS:
            self.joined = True

    def say(self, message: str, *details: object) -> None:
        logger.info(f"%s: {message}", self._name, *details)


def _head(text: str) -> str:
    """What is wrong, without the client's own words."""
    return text.split(" (", 1)[0]

"""Whether what was polled comes from the life of the topic that it is taken for.

A record does not say which life it is of, and a client that reads a topic while it is deleted and made again
goes on in the new one at its old offset. Ids of topics are never used twice. So when a description that was
asked for after a poll names the id that was named before the partition was positioned, the topic had
that id all the time, and what was polled is of that life. Nothing is taken in before.

One question covers everything that was polled until it was asked, and it is under way while the batch before is
written. So it costs a quiet topic one round trip, and a busy one nothing.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import Future

from confluent_kafka import KafkaException
from confluent_kafka.admin._topic import TopicDescription

from dbos_events_kafka.buffers import Buffers, Mark
from dbos_events_kafka.state import SourceState
from dbos_events_kafka.topics import Topics, id_of

PAUSE_SECONDS = 0.01
"""Between two questions about a topic: at most a hundred a second."""
REPEAT_SECONDS = 0.25
"""Until a question that was answered by an error is asked again."""
ANSWER_SECONDS = 15.0
"""An answer that takes longer is not waited for."""


class Confirming:
    """Asks in the background; answers arrive on a thread of the admin client.

    Args:
        changed: Called with a topic that has another id than its partitions were positioned with.
        state: Told when a question cannot be answered, and when one can again.
    """

    def __init__(
        self,
        topics: Topics,
        buffers: Buffers,
        changed: Callable[[str], None],
        state: SourceState,
    ) -> None:
        self._topics = topics
        self._buffers = buffers
        self._changed = changed
        self._state = state
        self._failing: set[str] = set()
        self._next: dict[str, float] = {}
        self._under_way: dict[str, object] = {}

    def ask(self) -> float | None:
        """Ask about all that was polled and not asked about; gives when to call again at the latest, in seconds.

        Called by the intake thread.
        """
        now = time.monotonic()
        marks: dict[str, Mark] = {}
        soonest: float | None = None
        for topic, mark in self._buffers.unconfirmed().items():
            if not self._topics.has_id(topic):
                self._buffers.confirm(mark)
                continue
            due = self._next.get(topic, 0.0)
            if due <= now:
                marks[topic] = mark
            elif soonest is None or due - now < soonest:
                soonest = due - now
        self._ask(marks, now)
        return soonest

    def look(self, topics: list[str]) -> None:
        """See whether these topics still have their ids, though nothing was polled of them."""
        self._ask({topic: [] for topic in topics if self._topics.has_id(topic)}, time.monotonic())

    def _ask(self, marks: dict[str, Mark], now: float) -> None:
        if not marks:
            return
        answers = self._topics.describe_soon(list(marks))
        for topic, answer in answers.items():
            self._next[topic] = now + ANSWER_SECONDS
            question = self._under_way[topic] = object()
            expected = self._topics.current(topic).topic_id
            answer.add_done_callback(self._reader(topic, expected, marks[topic], question))

    def _reader(
        self, topic: str, expected: str, mark: Mark, question: object
    ) -> Callable[[Future[TopicDescription]], None]:
        def read(answer: Future[TopicDescription]) -> None:
            pause = PAUSE_SECONDS
            try:
                same = id_of(answer.result()) == expected
            except KafkaException as error:
                pause = REPEAT_SECONDS
                self._failing.add(topic)
                self._state.error(error.args[0])
            else:
                if topic in self._failing:
                    self._failing.discard(topic)
                    self._state.well()
                if same:
                    self._buffers.confirm(mark)
                else:
                    pause = REPEAT_SECONDS
                    self._changed(topic)
            if self._under_way.get(topic) is question:
                self._next[topic] = time.monotonic() + pause

        return read

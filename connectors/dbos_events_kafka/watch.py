"""A second look at partitions of which nothing is heard.

A client may stop reading without a word when a topic is made again. So it is seen to, every few seconds, that
the topics have their ids still, and that no log goes on beyond what was polled of it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection
from concurrent.futures import Future

from confluent_kafka import KafkaException
from confluent_kafka.admin._listoffsets import ListOffsetsResultInfo

from dbos_events_kafka.buffers import Buffers, Place
from dbos_events_kafka.confirming import Confirming
from dbos_events_kafka.pollwork import Commands
from dbos_events_kafka.topics import Topics

LOOK_SECONDS = 5.0
SILENT_LOOKS = 3
"""So many looks without a record, though the log has more, and the partition is positioned anew."""


class Watch:
    """Asks in the background, called by the intake thread.

    Args:
        reposition: Called with partitions that are silent.
    """

    def __init__(
        self,
        topics: Topics,
        confirming: Confirming,
        buffers: Buffers,
        commands: Commands,
        reposition: Callable[[Collection[Place]], None],
    ) -> None:
        self._topics = topics
        self._confirming = confirming
        self._buffers = buffers
        self._commands = commands
        self._reposition = reposition
        self._look_at = 0.0
        self._seen: dict[Place, int] = {}
        self._silent: dict[Place, int] = {}
        self._answers: dict[Place, Future[ListOffsetsResultInfo]] = {}

    def look(self, places: Collection[Place], halted: Collection[Place] = ()) -> None:
        """Look when it is time at these partitions, which are assigned and positioned; of the halted at the topic only.

        A topic that was made again has a life of its own, in which none of its partitions is halted.
        """
        if time.monotonic() < self._look_at:
            return
        self._look_at = time.monotonic() + LOOK_SECONDS
        self._confirming.look(sorted({place.topic for place in (*places, *halted)}))
        progress = self._buffers.progress()
        self._compare(progress)
        quiet = [place for place in places if place in progress and self._seen.get(place) == progress[place]]
        self._seen = dict(progress)
        answers = self._topics.ends_soon(quiet) if quiet else {}
        self._answers = {Place(where.topic, where.partition): answer for where, answer in answers.items()}

    def _compare(self, progress: dict[Place, int]) -> None:
        """Whether the ends that were asked for at the last look lie beyond what has been polled by now."""
        behind = set()
        for place, answer in self._answers.items():
            try:
                end = answer.result(0).offset
            except (KafkaException, TimeoutError):
                continue
            if place in progress and self._seen.get(place) == progress[place]:
                if end > self._commands.ends.get(place, 0):
                    self._commands.ends[place] = end
                if progress[place] < end and end > 0:
                    behind.add(place)
        self._silent = {place: self._silent.get(place, 0) + 1 for place in behind}
        again = {place for place, looks in self._silent.items() if looks == SILENT_LOOKS}
        if again:
            self._reposition(again)
        if any(looks >= 2 * SILENT_LOOKS for looks in self._silent.values()):
            self._silent = {}
            self._commands.renew()

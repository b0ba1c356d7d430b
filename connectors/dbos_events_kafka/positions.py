"""Where partitions are read: in which life of the topic, from which offset, or not at all."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable

from confluent_kafka import KafkaException

from dbos_events.connect import Intake, Position, logger
from dbos_events.errors import ClusterChanged, ConnectorError, RegistrationError, StaleTopic
from dbos_events_kafka.advice import CLUSTER
from dbos_events_kafka.buffers import Buffers, Place
from dbos_events_kafka.firsts import Firsts
from dbos_events_kafka.pollwork import Commands, Target
from dbos_events_kafka.settings import ConsumerSettings, metadata_of
from dbos_events_kafka.state import SourceState
from dbos_events_kafka.topics import Committed, Life, Topics
from dbos_events_kafka.truncation import first_new_offset, is_truncation, reason_of

RETRY_SECONDS = 1.0
SUBSCRIPTION = "subscription"


class Positions:
    """The assigned partitions. All methods belong to the intake thread."""

    def __init__(
        self,
        intake: Intake,
        settings: ConsumerSettings,
        topics: Topics,
        buffers: Buffers,
        commands: Commands,
        state: SourceState,
    ) -> None:
        self._intake = intake
        self._settings = settings
        self._topics = topics
        self._buffers = buffers
        self._commands = commands
        self._state = state
        self._firsts = Firsts(intake, settings, topics)
        self._numbers: dict[Place, int] = {}
        self._former: dict[Place, set[int]] = {}
        self._moved: set[Place] = set()
        self._retry_at = 0.0
        self.assigned: set[Place] = set()
        self.unpositioned: set[Place] = set()
        self.halted: dict[Place, str] = {}

    def incarnation_of(self, place: Place) -> int:
        """The number of the life, or of its branch, that the partition is read in."""
        return self._numbers[place]

    # -- assignments --------------------------------------------------------------------------

    def assign(self, places: Iterable[Place]) -> None:
        self.assigned |= set(places)
        self.unpositioned |= set(places)
        self._retry_at = 0.0

    def again(self, places: Iterable[Place]) -> None:
        """Drop what is buffered of these partitions, if they are ours, and position them anew."""
        again = set(places) & self.assigned
        self._buffers.drop(again)
        self._commands.forget(again)
        self.unpositioned |= again
        self._release(again)

    def out_of_range(self, places: Iterable[Place], why: str) -> None:
        """The client could not read on where it stood: position anew, or halt when the log was cut."""
        for place in places:
            if self._was_cut(place, why):
                self.halt(place, reason_of(why), first_new_offset(why))
            else:
                self.again([place])

    def _was_cut(self, place: Place, why: str) -> bool:
        """Whether the client has found the log truncated by its leader epochs, in the life that we read."""
        if not is_truncation(why) or place not in self.assigned - self.unpositioned:
            return False
        try:
            return self._topics.still(place.topic)
        except KafkaException:
            return False  # positioned anew, it is found again

    def topic_changed(self, topic: str) -> None:
        """The topic has another id than its partitions were positioned with."""
        places = {place for place in self.assigned if place.topic == topic}
        if places - self.unpositioned:
            self.again(places)
            self._retry_at = 0.0

    def forget(self, places: Collection[Place], give_up: Callable[[int, Collection[int]], None]) -> None:
        """These partitions are not ours any more, nor what is unfinished of the lives before."""
        self._commands.forget(places)
        self._buffers.drop(places)
        self._release(places)
        for place in places:
            self.assigned.discard(place)
            self.unpositioned.discard(place)
            number = self._numbers.pop(place, None)
            numbers = self._former.pop(place, set()) | ({number} if number is not None else set())
            for each in sorted(numbers):
                give_up(each, [place.partition])

    # -- positioning --------------------------------------------------------------------------

    def look_at_firsts_again(self) -> None:
        """The database may be another one than that which held the first positions."""
        self._firsts.forget()

    def position(self) -> None:
        """Become holder of what was assigned, and tell the poll thread where to read on.

        A topic that cannot be positioned now is tried again, and holds up no other.
        """
        if time.monotonic() < self._retry_at or not (self.unpositioned or self._firsts.pending):
            return
        if self._state.has(CLUSTER):
            return  # each question would wait in vain; who looks after the cluster tells when it answers
        self._retry_at = time.monotonic() + RETRY_SECONDS
        self._try("", self._firsts.register)
        for topic in sorted({place.topic for place in self.unpositioned}):
            self._try(topic, lambda topic=topic: self._position(topic))  # type: ignore[misc]

    def _try(self, topic: str, work: Callable[[], object]) -> None:
        """Do what belongs to one topic, or to the subscriptions as a whole when it names none."""
        cause = f"position of {topic}" if topic else SUBSCRIPTION
        try:
            work()
        except KafkaException as error:
            self._state.error(error.args[0], topic or None, otherwise=cause)
        except (ConnectorError, RegistrationError) as error:
            self._state.trouble(error.message, cause, decision=isinstance(error, ClusterChanged))
        else:
            self._state.mended(cause)

    def _position(self, topic: str) -> None:
        if not self._firsts.is_registered(topic):
            return
        before = self._topics.known(topic)
        life = self._topics.look(topic)
        if before is not None and before.incarnation != life.incarnation:
            self._leave(topic, before)
        partitions = sorted(place.partition for place in self.unpositioned if place.topic == topic)
        alarm = self._firsts.ensure(topic, life, partitions)
        by_number: dict[int, list[int]] = {}
        for partition in partitions:
            by_number.setdefault(life.incarnation_of(partition), []).append(partition)
        for number, group in by_number.items():
            self._begin(topic, number, group)
        for partition in partitions if alarm else ():
            self._intake.alarm(life.incarnation_of(partition), partition, alarm)
        self._take_over(topic, life, partitions)

    def _leave(self, topic: str, before: Life) -> None:
        """The topic was made again while we read it: position all of its partitions in the new life."""
        places = {place for place in self.assigned if place.topic == topic}
        self.again(places)
        self._commands.abandon(places)
        for place in places:
            number = self._numbers.pop(place, None)
            if number is not None:
                self._intake.revoke(number, [place.partition])

    def _begin(self, topic: str, number: int, partitions: list[int]) -> None:
        found = self._intake.assign(number, topic, partitions)
        bounds = self._topics.bounds(topic, partitions)
        committed = self._topics.committed(topic, partitions)
        targets = {}
        for position in found:
            place = Place(topic, position.partition)
            self._numbers[place] = number
            target = self._target(place, position, bounds[place.partition], committed.get(place.partition))
            if target is not None:
                targets[place] = target
        self.unpositioned.difference_update(Place(topic, position.partition) for position in found)
        self._commands.position(targets)
        if targets:
            shown = ", ".join(f"{p.topic}[{p.partition}] from {t.next_offset}" for p, t in targets.items())
            self._state.say("reading %s", shown)

    def _take_over(self, topic: str, life: Life, partitions: list[int]) -> None:
        """Finish what earlier lives of these partitions have left unfinished, in order.

        Partitions that the topic has no longer go with its first one.
        """
        for number, unfinished in self._intake.unfinished(life.incarnation).items():
            mine = unfinished & set(partitions)
            if 0 in partitions:
                mine |= unfinished - life.partitions
            if mine:
                self._intake.assign(number, topic, sorted(mine))
            for partition in mine:
                self._former.setdefault(Place(topic, partition), set()).add(number)

    # -- where to read ------------------------------------------------------------------------

    def _target(
        self, place: Place, position: Position, bounds: tuple[int, int], committed: Committed | None
    ) -> Target | None:
        """Where to read: at the watermark, or where the log begins when it has overtaken us; None: nowhere."""
        if position.halted is not None:
            self._stop(place, position.halted)
            return None
        low, high = bounds
        offset = position.next_offset
        if committed is not None and self._is_regression(place, position, committed):
            return None
        if not low <= offset <= high:
            low, high = self._bounds_again(place)
        if offset > high:
            reason = f"the watermark {offset} lies beyond the end of the log {high}: the topic was truncated"
            self.halt(place, reason, None)  # others may have been written below the end: that proves nothing
            return None
        if offset < low:
            if not self._skip(place, offset, low):
                self._commands.prove([place])
                return None
            return Target(low, None, low, self._numbers[place])
        witness = position.witness
        start = witness if witness is not None and low <= witness else offset
        return Target(start, position.leader_epoch, offset, self._numbers[place])

    def _bounds_again(self, place: Place) -> tuple[int, int]:
        """Look twice before anything is given up: the topic may have been made again since it was described."""
        if not self._topics.still(place.topic):
            raise StaleTopic(f"{place.topic} was made again meanwhile; it is positioned anew.")
        return self._topics.bounds(place.topic, [place.partition])[place.partition]

    def _skip(self, place: Place, offset: int, low: int) -> bool:
        text = f"the offsets {offset} to {low - 1} were deleted by retention before they were read"
        logger.error(
            "%s: %s[%d]: %s. The gap is recorded; reading goes on at %d.",
            self._intake.options.name, place.topic, place.partition, text, low, extra=self._about(place),
        )  # fmt: skip
        return self._intake.skip(self._numbers[place], place.partition, low, text)

    def _about(self, place: Place) -> dict[str, object]:
        """What the log has of a partition beside the message."""
        return {"consumer": self._intake.options.name, "topic": place.topic, "partition": place.partition}

    def _is_regression(self, place: Place, position: Position, committed: Committed) -> bool:
        """See whether the database went back; True when the partition is halted for it.

        Asked for after the assignment, so no former holder can have moved the watermark since.
        """
        number, offset = self._numbers[place], position.next_offset
        if committed.offset <= offset or committed.offset <= (position.regression or 0):
            return False
        if committed.metadata != metadata_of(number):
            if place not in self._moved:
                self._moved.add(place)
                logger.warning(
                    "%s: %s[%d]: somebody else has committed the offset %d for the group in Kafka. It counts for "
                    "nothing: reading goes on at the watermark %d.",
                    self._intake.options.name, place.topic, place.partition, committed.offset, offset,
                    extra=self._about(place),
                )  # fmt: skip
            return False
        text = (
            f"this consumer committed the offset {committed.offset} to Kafka, and the watermark is {offset}: the database "
            "went back (restored, or failed over with a loss)"
        )
        halts = self._intake.options.on_regression == "halt"
        does = "nothing is read until an operator decides" if halts else "the events between are read again"
        self._intake.alarm(number, place.partition, f"{text}; {does}", committed.offset)
        if halts:
            self.halt(place, text, None)
        else:
            logger.error(
                "%s: %s[%d]: %s; %s.",
                self._intake.options.name,
                place.topic,
                place.partition,
                text,
                does,
                extra=self._about(place),
            )
        return halts

    # -- halts --------------------------------------------------------------------------------

    def halt(self, place: Place, reason: str, divergence: int | None) -> None:
        """Do not read this partition until an operator has decided."""
        self._intake.halt(self._numbers[place], place.partition, reason, divergence)
        self._stop(place, reason)

    def halt_unread(self, place: Place, reason: str) -> None:
        """Do so for a record that cannot be read, if the partition is ours still."""
        if place in self.assigned and place in self._numbers:
            self.halt(place, reason, None)
            self.unpositioned.discard(place)

    def _stop(self, place: Place, reason: str) -> None:
        self.halted[place] = reason
        self._buffers.drop([place])
        self._commands.forget([place])
        self._tell(place)

    def _tell(self, place: Place) -> None:
        text = f"{place.topic}[{place.partition}] is halted: {self.halted[place]}"
        self._state.trouble(text, _cause(place), decision=True)

    def _release(self, places: Iterable[Place]) -> None:
        """These partitions are not halted any more, or not ours."""
        for place in places:
            if self.halted.pop(place, None) is not None:
                self._state.mended(_cause(place))

    def look_at_halts(self) -> None:
        """Read on what an operator has decided about; remind of the rest."""
        numbers: dict[int, set[Place]] = {}
        for place in self.halted:
            numbers.setdefault(self._numbers[place], set()).add(place)
        for number, places in numbers.items():
            still = self._intake.halted(number)
            decided = {place for place in places if place.partition not in still}
            for place in places - decided:
                self._tell(place)
            if decided:
                self.again(decided)
                self._retry_at = 0.0


def _cause(place: Place) -> str:
    return f"partition {place.topic}[{place.partition}]"

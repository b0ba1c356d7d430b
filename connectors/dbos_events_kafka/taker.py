"""The intake thread: everything slow, so that the poll thread never waits for the database.

It positions partitions that were assigned, makes polled records durable, and releases what was
revoked. What it decides reaches the poll thread as commands.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Collection

from confluent_kafka import KafkaException

from dbos_events.connect import Intake, PartitionReport, TakenIn, logger
from dbos_events.errors import DBOSException, ExecutorFenced
from dbos_events_kafka.buffers import Buffers, Place
from dbos_events_kafka.commands import Commands
from dbos_events_kafka.settings import ConsumerSettings
from dbos_events_kafka.state import INTAKE, SourceState
from dbos_events_kafka.topics import Topics
from dbos_events_kafka.watch import Watch

REPORT_SECONDS = 1.0
RETRY_SECONDS = 1.0


class Taker:
    """Runs jobs in order; between jobs it takes in what is buffered."""

    def __init__(
        self,
        intake: Intake,
        settings: ConsumerSettings,
        buffers: Buffers,
        commands: Commands,
        state: SourceState,
    ) -> None:
        self._intake = intake
        self._settings = settings
        self._buffers = buffers
        self._commands = commands
        self._state = state
        self._topics = Topics(intake, settings)
        self._jobs: deque[Callable[[], None]] = deque()
        self._unpositioned: set[Place] = set()
        self._assigned: set[Place] = set()
        self._halted: dict[Place, str] = {}
        self._watch = Watch(intake, settings, self._topics.client, commands, state)
        self._told: tuple[int, str, str | None] | None = None
        self._session = 0
        self._pausing = False
        self._stopped = False
        self._retry_at = 0.0
        self._report_at = 0.0
        self._thread = threading.Thread(target=self._work, name="dbos-kafka-intake", daemon=True)

    # -- called by the poll thread ------------------------------------------------------------

    def open(self) -> None:
        """Register the consumer, before anything joins its group.

        Raises:
            RegistrationError: Another consumer reads the topic in this group, or this one's group changed.
        """
        self._intake.open(self._settings.group, self._intake.options.topics, self._settings.masked())
        self._session = self._intake.session

    def start(self) -> None:
        self._thread.start()

    def take_no_more(self) -> None:
        """Leave to Kafka what is not taken in yet."""
        self._pausing = True

    @property
    def alive(self) -> bool:
        return self._thread.is_alive()

    def instance_is_free(self) -> bool:
        """Whether no other member has our group.instance.id; asks the cluster."""
        return self._watch.instance_is_free()

    def assigned(self, places: Collection[Place]) -> None:
        """Position these partitions as soon as the database answers."""
        self._post(lambda: self._assign(places))

    def revoked(self, places: Collection[Place], seconds: float) -> None:
        """Give these partitions up; waits for the intake under way, at most `seconds`."""
        done = threading.Event()

        def job() -> None:
            try:
                self._forget(places, self._intake.revoke)
            finally:
                done.set()

        self._post(job)
        done.wait(seconds)

    def lost(self, places: Collection[Place]) -> None:
        """These partitions may be another member's already."""
        self._post(lambda: self._forget(places, self._intake.lose))

    def stop(self, seconds: float) -> None:
        with self._buffers.changed:
            self._stopped = True
            self._buffers.changed.notify_all()
        if self._thread.is_alive():
            self._thread.join(seconds)

    def _post(self, job: Callable[[], None]) -> None:
        with self._buffers.changed:
            self._jobs.append(job)
            self._buffers.changed.notify_all()

    # -- the thread ---------------------------------------------------------------------------

    def _work(self) -> None:
        while not self._stopped or self._jobs:
            try:
                self._turn()
            except ExecutorFenced:
                self._pause(0.2)  # this process registers anew; then `session` has changed
            except KafkaException as error:
                self._state.error(error.args[0], otherwise=INTAKE)
                self._tell_of_trouble()
                self._pause(RETRY_SECONDS)
            except DBOSException as error:
                if not self._stopped:
                    self._state.trouble(f"intake failed and is tried again: {error}")
                self._pause(RETRY_SECONDS)
            except Exception:  # noqa: BLE001 - a defect must not stop the other partitions
                logger.exception(
                    "%s: intake met an unexpected error and tries again.", self._intake.options.name
                )
                self._pause(RETRY_SECONDS)

    def _turn(self) -> None:
        self._run_jobs()
        if self._session != self._intake.session:
            self._assign_again(self._assigned)
            self._session = self._intake.session
        if self._unpositioned and time.monotonic() >= self._retry_at:
            self._position()
        took = self._take_in()
        self._state.mended(INTAKE)
        self._report()
        if not took:
            self._idle()

    def _run_jobs(self) -> None:
        while self._jobs:
            self._jobs.popleft()()

    def _idle(self) -> None:
        """Wait for records, room or a job."""
        with self._buffers.changed:
            if self._jobs or self._stopped:
                return
            if not self._buffers.waiting:
                self._buffers.changed.wait(0.2 if self._unpositioned else REPORT_SECONDS)
                return
        self._intake.wait_for_room(0.05)

    def _pause(self, seconds: float) -> None:
        with self._buffers.changed:
            if not self._stopped:
                self._buffers.changed.wait(seconds)

    # -- positions ----------------------------------------------------------------------------

    def _assign(self, places: Collection[Place]) -> None:
        self._assigned |= set(places)
        self._unpositioned |= set(places)
        self._retry_at = 0.0

    def _assign_again(self, places: Collection[Place]) -> None:
        """Drop what is buffered of these partitions and position them anew."""
        again = set(places)
        self._buffers.drop(again)
        self._commands.forget(again)
        self._unpositioned |= again

    def _forget(self, places: Collection[Place], give_up: Callable[[int, Collection[int]], None]) -> None:
        self._commands.forget(places)
        self._buffers.drop(places)
        for topic, partitions in _by_topic(places).items():
            positioned = [number for number in partitions if Place(topic, number) not in self._unpositioned]
            for number in partitions:
                self._assigned.discard(Place(topic, number))
                self._unpositioned.discard(Place(topic, number))
                self._release(Place(topic, number))
            if positioned:
                give_up(self._topics.known_incarnation(topic), positioned)

    def _position(self) -> None:
        """Become holder of what was assigned, and tell the poll thread where to read on."""
        self._retry_at = time.monotonic() + RETRY_SECONDS
        for topic, partitions in _by_topic(self._unpositioned).items():
            self._topics.ensure_positions(topic, partitions)
            found = self._intake.assign(self._topics.incarnation(topic), topic, partitions)
            bounds = self._topics.bounds(topic, partitions)
            positions = {}
            for position in found:
                place = Place(topic, position.partition)
                offset = self._within_log(place, position.next_offset, bounds[position.partition])
                if offset is not None:
                    positions[place] = (offset, position.leader_epoch)
                self._unpositioned.discard(place)
            self._commands.position(positions)
            if positions:
                self._state.say(
                    "reading %s",
                    ", ".join(f"{p.topic}[{p.partition}] from {o}" for p, (o, _) in positions.items()),
                )

    def _within_log(self, place: Place, offset: int, bounds: tuple[int, int]) -> int | None:
        """Where to read: at the watermark, or where the log begins when it has overtaken us."""
        low, high = bounds
        if offset < low:
            logger.error(
                "%s: %s[%d]: the offsets %d to %d were deleted by retention before they were read. The gap is "
                "recorded; reading goes on at %d.",
                self._intake.options.name, place.topic, place.partition, offset, low - 1, low,
            )  # fmt: skip
            return low
        if offset > high:
            self._halt(
                place,
                f"the watermark {offset} lies beyond the end of the log {high}: the topic was truncated",
            )
            return None
        return offset

    def _halt(self, place: Place, reason: str) -> None:
        self._halted[place] = reason
        self._buffers.drop([place])
        self._state.trouble(f"{place.topic}[{place.partition}] is halted: {reason}", _cause(place))

    def _release(self, place: Place) -> None:
        """The partition is not halted any more, or not ours."""
        if self._halted.pop(place, None) is not None:
            self._state.mended(_cause(place))

    def out_of_range(self, places: Collection[Place]) -> None:
        """The client could not read on where it stood; look at the log and position anew."""
        self._post(lambda: self._assign_again(set(places) & self._assigned))

    # -- intake -------------------------------------------------------------------------------

    def _take_in(self) -> bool:
        """Take one batch in; False when there is none, or no room for it, or no more is wanted."""
        if self._pausing:
            return False
        most = min(self._intake.options.batch_size, self._intake.free)
        taken = self._buffers.take(self._room, most)
        for topic, records in taken.items():
            incarnation = self._topics.known_incarnation(topic)
            result = self._intake.take_in(incarnation, records)
            self._commands.durable(
                {Place(topic, partition): offset for partition, offset in result.next_offsets.items()}
            )
            self._follow_up(topic, result)
        return bool(taken)

    def _room(self, place: Place) -> int:
        return self._intake.room(self._topics.known_incarnation(place.topic), place.partition)

    def _follow_up(self, topic: str, result: TakenIn) -> None:
        for partition, reason in (result.halted or {}).items():
            self._halt(Place(topic, partition), reason)
        stale = {Place(topic, partition) for partition in result.stale}
        if stale:
            self._buffers.drop(stale)
            self._commands.prove(stale & self._assigned)

    def proved(self, places: Collection[Place]) -> None:
        """The coordinator has confirmed that these partitions are ours after all."""
        self._post(lambda: self._assign_again(set(places) & self._assigned))

    def _report(self) -> None:
        if time.monotonic() < self._report_at:
            return
        self._report_at = time.monotonic() + REPORT_SECONDS
        self._tell()
        for topic, partitions in _by_topic(self._assigned - self._unpositioned).items():
            reports = [self._report_of(Place(topic, number)) for number in partitions]
            self._intake.report(self._topics.known_incarnation(topic), reports)

    def _tell(self) -> None:
        """Look after what stands in the way, and store it for the status, where a partition is not needed."""
        self._watch.look({place.topic for place in self._assigned})
        told = (
            self._session,
            self._state.name if self._assigned else self._state.idle_name,
            self._state.detail,
        )
        if told != self._told:
            self._intake.report_source(told[1], told[2] or None)
            self._told = told

    def _tell_of_trouble(self) -> None:
        try:
            self._tell()
        except (KafkaException, DBOSException) as error:
            logger.debug("%s: the state could not be stored: %s", self._intake.options.name, error)

    def _report_of(self, place: Place) -> PartitionReport:
        end = self._commands.ends.get(place)
        reason = self._halted.get(place)
        if reason is not None:
            return PartitionReport(place.partition, end, "halted", reason)
        return PartitionReport(place.partition, end, *self._state.of(place))


def _by_topic(places: Collection[Place]) -> dict[str, list[int]]:
    topics: dict[str, list[int]] = {}
    for place in sorted(places):
        topics.setdefault(place.topic, []).append(place.partition)
    return topics


def _cause(place: Place) -> str:
    return f"partition {place.topic}[{place.partition}]"

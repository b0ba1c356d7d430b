"""The intake thread: everything slow, so that the poll thread never waits for the database.

It positions partitions that were assigned, makes polled records durable, and releases what was
revoked. What it decides reaches the poll thread as commands.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Collection, Mapping

from confluent_kafka import KafkaException

from dbos_events.connect import Intake, PartitionReport, Record, TakenIn, logger
from dbos_events.errors import DBOSException, ExecutorFenced, StorageUnavailable
from dbos_events_kafka.advice import CLUSTER
from dbos_events_kafka.buffers import Buffers, Place
from dbos_events_kafka.client import Clients
from dbos_events_kafka.confirming import Confirming
from dbos_events_kafka.doubts import Doubts
from dbos_events_kafka.pollwork import Commands, Durable
from dbos_events_kafka.positions import Positions
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
        clients: Clients | None = None,
    ) -> None:
        self._intake = intake
        self._settings = settings
        self._buffers = buffers
        self._commands = commands
        self._state = state
        self._topics = Topics(intake, settings)
        self._topics.clients = clients
        self._positions = Positions(intake, settings, self._topics, buffers, commands, state)
        self._confirming = Confirming(self._topics, buffers, self._topic_changed, state)
        self._watch = Watch(self._topics, self._confirming, buffers, commands, self.out_of_range)
        self._jobs: deque[Callable[[], None]] = deque()
        self._doubts = Doubts(intake, settings, self._topics, commands, state)
        self._told: tuple[int, str, str | None] | None = None
        self._session = 0
        self._pausing = False
        self._stopped = False
        self._ask_again: float | None = None
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
        return self._doubts.instance_is_free()

    def assigned(self, places: Collection[Place]) -> None:
        """Position these partitions as soon as the database answers."""
        self._post(lambda: self._positions.assign(places))

    def revoked(self, places: Collection[Place], seconds: float) -> None:
        """Give these partitions up; waits for the intake under way, at most `seconds`."""
        done = threading.Event()

        def job() -> None:
            try:
                self._positions.forget(places, self._intake.revoke)
            finally:
                done.set()

        self._post(job)
        done.wait(seconds)

    def lost(self, places: Collection[Place]) -> None:
        """These partitions may be another member's already."""
        self._post(lambda: self._positions.forget(places, self._intake.lose))

    def lost_all(self) -> None:
        """The same for all that there are."""
        self._post(lambda: self._positions.forget(tuple(self._positions.assigned), self._intake.lose))

    def reread(self, stopped: Mapping[Place, str]) -> None:
        """Something may have been left out: read all partitions from their watermarks. Some stop, and why."""

        def job() -> None:
            others = self._positions.assigned - set(self._positions.halted) - set(self._buffers.opened())
            self._positions.again(others)  # the rest follows when it is drained
            for place, reason in stopped.items():
                self._positions.halt_unread(place, reason)

        self._post(job)

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
                    away = (
                        isinstance(error, StorageUnavailable) and error.away
                    )  # the core says so, once for all
                    self._state.trouble(f"intake failed and is tried again: {error}", quiet=away)
                self._pause(RETRY_SECONDS)
            except BaseException as error:  # noqa: BLE001 - neither a defect nor a user's SystemExit stops the others
                if not self._state.has(INTAKE):
                    logger.exception(
                        "%s: intake met an unexpected error and tries again.", self._intake.options.name
                    )
                self._state.trouble(f"intake met an unexpected error and tries again: {type(error).__name__}")
                self._pause(RETRY_SECONDS)
        self._topics.close()

    def _turn(self) -> None:
        self._run_jobs()
        if drained := self._buffers.drained():
            self._positions.again(drained)
        if self._session != self._intake.session:
            self._begin_anew()
        self._report()  # before anything is asked of the cluster that would wait in vain
        self._positions.position()
        self._ask_again = self._confirming.ask()
        took = self._take_in()
        self._state.mended(INTAKE)
        if not took:
            self._idle()

    def _begin_anew(self) -> None:
        """This process had to register anew, maybe in a database that was restored or made again: so must its consumer."""
        session = self._intake.session
        self._positions.again(self._positions.assigned)
        self._intake.open(self._settings.group, self._intake.options.topics, self._settings.masked())
        self._positions.look_at_firsts_again()
        self._session = session

    def _run_jobs(self) -> None:
        while self._jobs:
            self._jobs.popleft()()

    def _idle(self) -> None:
        """Wait for records, room or a job."""
        with self._buffers.changed:
            if self._jobs or self._stopped:
                return
            if not self._buffers.waiting:
                self._buffers.changed.wait(self._patience)
                return
        self._intake.wait_for_room(0.05)

    @property
    def _patience(self) -> float:
        """How long to wait for a signal."""
        if self._ask_again is not None:
            return self._ask_again
        return 0.2 if self._positions.unpositioned else REPORT_SECONDS

    def _pause(self, seconds: float) -> None:
        with self._buffers.changed:
            if not self._stopped:
                self._buffers.changed.wait(seconds)

    def _topic_changed(self, topic: str) -> None:
        self._post(lambda: self._positions.topic_changed(topic))

    def out_of_range(self, places: Collection[Place], why: str = "") -> None:
        """The client could not read on where it stood; look at the log and position anew."""
        self._post(lambda: self._positions.out_of_range(places, why))

    def proved(self, places: Collection[Place]) -> None:
        """The coordinator has confirmed that these partitions are ours after all."""
        self._post(lambda: self._positions.again(places))

    # -- intake -------------------------------------------------------------------------------

    def _take_in(self) -> bool:
        """Take one batch in; False when there is none, or no room for it, or no more is wanted."""
        if self._pausing:
            return False
        most = min(self._intake.options.batch_size, self._intake.free)
        taken = self._buffers.take(self._room, most)
        try:
            self._take_in_all(taken)
        except BaseException:
            # They have left the buffers: without reading them again the next ones would seem to follow a gap.
            self._positions.again({Place(topic, one.partition) for topic in taken for one in taken[topic]})
            raise
        return bool(taken)

    def _take_in_all(self, taken: Mapping[str, list[Record]]) -> None:
        for topic, records in taken.items():
            for incarnation, group in self._by_incarnation(topic, records).items():
                result = self._intake.take_in(incarnation, group)
                self._commands.durable(_durable(topic, incarnation, group, result))
                self._follow_up(topic, result)

    def _by_incarnation(self, topic: str, records: list[Record]) -> dict[int, list[Record]]:
        """One group, unless a partition has left the topic's life for a branch of it."""
        numbers = {
            number: self._positions.incarnation_of(Place(topic, number))
            for number in {record.partition for record in records}
        }
        groups: dict[int, list[Record]] = {number: [] for number in sorted(set(numbers.values()))}
        if len(groups) == 1:
            return dict.fromkeys(groups, records)
        for record in records:
            groups[numbers[record.partition]].append(record)
        return groups

    def _room(self, place: Place) -> int:
        return self._intake.room(self._positions.incarnation_of(place), place.partition)

    def _follow_up(self, topic: str, result: TakenIn) -> None:
        for partition, reason in (result.halted or {}).items():
            self._positions.halt(Place(topic, partition), reason, result.next_offsets.get(partition))
        self._prove({Place(topic, partition) for partition in result.stale})
        if result.refused:  # what was not taken in has left the buffers
            self._positions.again({Place(topic, partition) for partition in result.refused})

    def _prove_again(self, incarnation: int, read: Collection[Place]) -> None:
        """Partitions that were assigned elsewhere, though nothing was taken in to learn it by."""
        fenced = self._intake.fenced(incarnation)
        places = {place for place in read if place.partition in fenced} if fenced else set()
        self._prove({place for place in places if self._positions.incarnation_of(place) == incarnation})

    def _prove(self, stale: Collection[Place]) -> None:
        if stale:
            self._buffers.drop(stale)
            self._commands.prove(set(stale) & self._positions.assigned)

    def _report(self) -> None:
        if time.monotonic() < self._report_at:
            return
        self._report_at = time.monotonic() + REPORT_SECONDS
        self._tell()
        self._positions.look_at_halts()
        read = self._positions.assigned - self._positions.unpositioned
        if not self._pausing:
            halted = read & set(self._positions.halted)
            self._watch.look(read - halted, halted)
        reports: dict[int, list[PartitionReport]] = {}
        for place in sorted(read):
            reports.setdefault(self._positions.incarnation_of(place), []).append(self._report_of(place))
        for incarnation, rows in reports.items():
            self._intake.report(incarnation, rows)
        for incarnation in reports:
            self._prove_again(incarnation, read)

    def _tell(self) -> None:
        """Look after what stands in the way, and store it for the status, where a partition is not needed."""
        assigned = self._positions.assigned
        self._doubts.look({place.topic for place in assigned})
        told = (
            self._session,
            self._state.name if assigned else self._state.idle_name,
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
        end = None if self._state.has(CLUSTER) else self._commands.ends.get(place)
        reason = self._positions.halted.get(place)
        if reason is not None:
            return PartitionReport(place.partition, end, "halted", reason)
        reached = self._buffers.reached(place)
        return PartitionReport(place.partition, end, *self._state.of(place), reached)


def _durable(topic: str, incarnation: int, records: list[Record], result: TakenIn) -> dict[Place, Durable]:
    """What may be committed to Kafka now, with the leader epoch of the last record where it was taken in."""
    epochs = {(record.partition, record.offset + 1): record.leader_epoch for record in records}
    return {
        Place(topic, partition): Durable(offset, epochs.get((partition, offset)), incarnation)
        for partition, offset in result.next_offsets.items()
    }

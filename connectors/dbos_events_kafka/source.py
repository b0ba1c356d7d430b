"""The poll thread: keeps the membership in the group, and moves records into the buffers."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

from dbos_events.connect import Intake, SourceHealth, logger
from dbos_events.errors import ConnectorError
from dbos_events_kafka.advice import FENCED, GROUP, is_fenced
from dbos_events_kafka.buffers import Buffers, Place, shown
from dbos_events_kafka.client import Clients, reason_of
from dbos_events_kafka.damage import Damage
from dbos_events_kafka.pollwork import Commands, Durable
from dbos_events_kafka.reading import Reading
from dbos_events_kafka.settings import ConsumerSettings, metadata_of
from dbos_events_kafka.state import MAKING, POLLING, SourceState
from dbos_events_kafka.taker import Taker

Rebalance = Callable[[Consumer, list[TopicPartition]], None]

COMMIT_SECONDS = 1.0
BLOCKED_SECONDS = 1.0
"""A partition is paused when it has had no space for that long: pausing throws away what the
client has fetched ahead, so short jams are waited out."""
OVERRUN = 4.0
"""How many times its limit a buffer may hold before its partition is paused at once."""
REVOKE_SECONDS = 5.0
RECONNECT_SECONDS = 5.0
PROVE_SECONDS = 1.0
AGAIN = "polling failed; what was polled is read again from the watermarks, so nothing is left out"


class KafkaSource:
    """Reads the topics of one consumer, from where the database says."""

    def __init__(self, intake: Intake, settings: ConsumerSettings) -> None:
        options = intake.options
        self.name = options.name
        self._options = options
        self._settings = settings
        self._state = SourceState(options.name, settings.mask)
        self._fenced = False
        self._buffers = Buffers(max(options.batch_size * 2, 100))
        self._commands = Commands()
        self._clients = Clients(options.name, settings, self._state)
        self._reading = Reading(options.batch_size, self._buffers)
        self._taker = Taker(intake, settings, self._buffers, self._commands, self._state, self._clients)
        self._stopping = threading.Event()
        self._pausing = False
        self._failed = False
        self._outdated = False
        self._paused: set[Place] = set()
        self._astray: set[Place] = set()
        self._damage = Damage(self._state)
        self._full_since: dict[Place, float] = {}
        self._commit_at = 0.0
        self._prove_at = 0.0
        self._consumer: Consumer
        self._thread = threading.Thread(target=self._work, name="dbos-kafka-poll", daemon=True)

    # -- the contract -------------------------------------------------------------------------

    def start(self) -> None:
        self._clients.check(self._options.topics)
        self._taker.open()
        self._taker.start()
        self._thread.start()

    def pause(self) -> None:
        self._pausing = True
        self._taker.take_no_more()

    def stop(self, seconds: float) -> None:
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join(seconds)

    def health(self) -> SourceHealth:
        live = self._thread.is_alive() and self._taker.alive and self._state.is_polling
        detail = self._state.detail if live else "its threads have stopped"
        return SourceHealth(live, self._state.joined and not detail, detail or self._state.activity)

    # -- the thread ---------------------------------------------------------------------------

    def _work(self) -> None:
        while not self._stopping.is_set():
            try:
                self._belong()
            except BaseException as error:  # noqa: BLE001 - whatever it is, the next client may do better
                self._failed = True
                self._state.trouble(f"the membership ended and begins anew ({reason_of(error)})", POLLING)
            self._stopping.wait(RECONNECT_SECONDS if self._failed else 0.0)
        self._taker.stop(REVOKE_SECONDS)

    def _belong(self) -> None:
        """Be a member of the group with one client, from its making to its end."""
        if not self._may_join():
            return
        self._failed = self._outdated = self._fenced = False
        try:
            self._state.polled()
            self._consumer = self._clients.member()
        except ConnectorError as error:
            self._failed = True
            self._state.trouble(error.message, MAKING)
            return
        self._state.mended(MAKING)
        try:
            self._subscribe()
            self._turn_until_done()
        finally:
            self._leave()

    def _may_join(self) -> bool:
        """Wait for our group.instance.id to be free; False when the source is stopped.

        A classic group gives the place to whoever comes last: two processes of one id that both insist
        would throw each other out for ever.
        """
        while self._fenced and not self._taker.instance_is_free():
            self._state.polled()
            self._state.trouble(FENCED, GROUP)
            if self._stopping.wait(RECONNECT_SECONDS):
                return False
        return not self._stopping.is_set()

    def _turn_until_done(self) -> None:
        """Turn until the source is stopped, or its client has failed for good and must be replaced."""
        while not self._stopping.is_set() and not self._failed and not self._outdated:
            try:
                self._turn()
            except BaseException as error:  # noqa: BLE001 - whatever it is must not end the membership
                self._go_on_after(error)
                self._stopping.wait(1.0)

    def _go_on_after(self, error: BaseException) -> None:
        """An error nobody has foreseen may have thrown records away: read all partitions from their watermarks."""
        self._taker.reread(self._reading.interrupted(self._consumer, reason_of(error)))
        self._paused.update(self._buffers.opened())
        if isinstance(error, KafkaException) and isinstance(error.args[0], KafkaError):
            self._note_error(error.args[0])
        else:
            self._state.trouble(f"{AGAIN} ({reason_of(error)})", POLLING)
            logger.debug("%s: polling failed.", self.name, exc_info=error)

    def _note_error(self, error: KafkaError, topic: str | None = None) -> None:
        self._state.error(error, topic)
        self._fenced = self._fenced or is_fenced(error)
        if error.fatal() or error.code() == KafkaError._FATAL:  # noqa: SLF001 - one that was polled is not marked
            logger.debug("%s: the Kafka client has failed for good and is replaced.", self.name)
            self._failed = True

    def _subscribe(self) -> None:
        self._consumer.subscribe(
            list(self._options.topics),
            on_assign=self._guarded(self._on_assign),
            on_revoke=self._guarded(self._on_revoke),
            on_lost=self._guarded(self._on_lost),
        )

    def _turn(self) -> None:
        self._state.polled()
        self._outdated = self._commands.take_renewal()
        self._look_at_topics()
        self._seek()
        self._pause_and_resume()
        self._commit()
        self._prove()
        if self._buffers.wait_for_space(0.2) or self._paused:
            self._poll()

    def _poll(self) -> None:
        """One blocking poll for the first record, then whatever is there already."""
        polled = self._reading.poll(self._consumer)
        if not self._reading.careful:
            self._state.mended(POLLING)
        if polled is None:
            return
        if polled.records:
            self._buffers.add(polled.records)
            self._state.well()
            if self._damage:
                self._damage.repaired({place for place, _ in polled.records})
        if polled.errors:
            self._handle_errors(polled.errors)

    def _handle_errors(self, errors: list[tuple[Message, KafkaError]]) -> None:
        for message, error in errors:
            place = Place(message.topic() or "", message.partition() or 0)
            if error.code() == KafkaError._PARTITION_EOF:  # noqa: SLF001
                self._buffers.at_end(place, message.offset() or 0)
            elif error.code() == KafkaError._AUTO_OFFSET_RESET:  # noqa: SLF001
                self._go_astray(place, error)
            elif not self._damage.notes(place, message.offset(), error):
                self._note_error(error, message.topic())

    def _go_astray(self, place: Place, error: KafkaError) -> None:
        """The offset is out of the log's range. Before a partition is positioned that says nothing."""
        self._astray.add(place)
        if place in self._buffers.opened():
            self._note_error(error)
            self._taker.out_of_range([place], error.str())

    # -- positions and pauses -----------------------------------------------------------------

    def _seek(self) -> None:
        """Begin to read what the intake thread has positioned; all positioning goes through here."""
        positioned = []
        for place, target in self._commands.take_positions().items():
            try:
                self._buffers.drop([place])
                self._go_to(place, _at(place, target.offset, target.leader_epoch))
            except KafkaException as error:  # not fetched yet: the assignment is still being served
                logger.debug("%s: seek of %s is repeated: %s", self.name, shown([place]), error)
                self._commands.position({place: target})
                continue
            self._buffers.open(place)
            positioned.append(place)
        if not self._pausing:
            self._resume(positioned)

    def _go_to(self, place: Place, target: TopicPartition) -> None:
        """Seek. A partition that went astray must be assigned anew: the client neither fetches nor seeks in it."""
        if place not in self._astray:
            self._consumer.seek(target)
        elif self._settings.cooperative:
            self._consumer.incremental_unassign([target])
            self._consumer.incremental_assign([target])
            self._astray.discard(place)
        else:
            self._outdated = True  # an eager assignment is made anew as a whole, by a new client

    def _look_at_topics(self) -> None:
        """Have the client notice a topic that was created only now; by itself it looks once a minute."""
        for topic in self._commands.take_created():
            with contextlib.suppress(KafkaException):
                self._consumer.list_topics(topic, timeout=1.0)

    def _resume(self, places: list[Place]) -> None:
        """Let the client fetch these partitions now.

        Left to itself it may sleep for up to a second first; any question to the partitions' leaders
        wakes it, also when there is no time for the answer.
        """
        if not places:
            return
        self._consumer.resume([TopicPartition(*place) for place in places])
        self._paused.difference_update(places)
        with contextlib.suppress(KafkaException):
            self._consumer.offsets_for_times([TopicPartition(*place, -1) for place in places], timeout=0.005)

    def _pause_and_resume(self) -> None:
        now = time.monotonic()
        relieved = []
        for place, fullness in self._buffers.fullness().items():
            if fullness < 1 and not self._pausing:
                self._full_since.pop(place, None)
            else:
                self._full_since.setdefault(place, now)
            overrun = fullness >= OVERRUN or (fullness >= 1 and self._buffers.swollen(place))
            overrun = overrun or now - self._full_since.get(place, now) >= BLOCKED_SECONDS
            jammed = self._pausing or overrun
            if jammed and place not in self._paused:
                self._consumer.pause([TopicPartition(*place)])
                self._paused.add(place)
            elif place in self._paused and not self._pausing and fullness <= 0.5:
                relieved.append(place)
        self._resume(relieved)

    # -- commits ------------------------------------------------------------------------------

    def _commit(self, *, final: bool = False) -> None:
        """Tell Kafka what the database has; a hint, for lag tools and for the next registration."""
        now = time.monotonic()
        if not final and now < self._commit_at:
            return
        self._commit_at = now + COMMIT_SECONDS
        self._note_ends()
        offsets = [_committing(place, durable) for place, durable in self._commands.take_durable().items()]
        if not offsets:
            return
        try:
            if final:
                self._consumer.commit(offsets=offsets, asynchronous=False)
            else:
                self._consumer.commit(offsets=offsets)
        except KafkaException as error:
            logger.debug(
                "%s: offsets were not committed to Kafka, the database has them: %s", self.name, error
            )

    def _note_ends(self) -> None:
        """Keep the ends of the partitions, as the last fetch told them, for the status."""
        for place in self._buffers.opened():
            _, high = self._consumer.get_watermark_offsets(TopicPartition(*place), cached=True)
            if high >= 0:
                self._commands.fetched(place, high)

    def _prove(self) -> None:
        """Whether partitions that the database gave to another process are still ours by the group.

        The coordinator checks the generation before it commits anything. Without that proof, a
        zombie that was just resumed would take the partition away from its true owner.
        """
        now = time.monotonic()
        if now < self._prove_at:
            return
        self._prove_at = now + PROVE_SECONDS
        for place, durable in self._commands.take_doubtful().items():
            try:
                self._consumer.commit(offsets=[_committing(place, durable)], asynchronous=False)
            except KafkaException as error:  # another member's, or a rebalance is under way: that will tell
                logger.debug("%s: %s may be another member's now: %s", self.name, shown([place]), error)
                self._commands.prove([place])
            else:
                self._taker.proved([place])

    # -- rebalances (called within poll) ------------------------------------------------------

    def _guarded(self, callback: Rebalance) -> Rebalance:
        """An error out of a callback would lose a record and make `close` hang for ever.

        What was done of the rebalance is not known then: the partitions are given up, and a new client joins.
        """

        def guarded(consumer: Consumer, partitions: list[TopicPartition]) -> None:
            try:
                callback(consumer, partitions)
            except BaseException as error:  # noqa: BLE001
                places = [Place(one.topic, one.partition) for one in partitions]
                self._buffers.drop(places)
                self._taker.lost(places)
                self._outdated = True
                self._state.trouble(
                    f"a rebalance failed; this process joins its group anew ({reason_of(error)})", POLLING
                )

        return guarded

    def _on_assign(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        places = [Place(one.topic, one.partition) for one in partitions]
        self._state.holding.moved("assigned", places)
        # `_seek` follows. No logical offset: its late answer would move the position away again.
        targets = [TopicPartition(*place, self._commands.last_position(place)) for place in places]
        if self._settings.cooperative:
            consumer.incremental_assign(targets)
        else:
            consumer.assign(targets)
        if targets:
            consumer.pause(targets)
        self._state.joined = True
        self._state.well()
        self._taker.assigned(places)

    def _on_revoke(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        places = [Place(one.topic, one.partition) for one in partitions]
        self._state.holding.moved("revoked", places)
        self._buffers.drop(places)
        self._taker.revoked(places, REVOKE_SECONDS)
        self._commit(final=True)
        self._let_go(places)

    def _on_lost(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        places = [Place(one.topic, one.partition) for one in partitions]
        self._state.holding.moved("lost", places)
        self._buffers.drop(places)
        self._taker.lost(places)
        self._let_go(places)

    def _let_go(self, places: list[Place]) -> None:
        self._commands.abandon(places)
        self._paused.difference_update(places)
        self._astray.difference_update(places)
        self._damage.repaired(places)

    # -- the end ------------------------------------------------------------------------------

    def _leave(self) -> None:
        try:
            self._consumer.close()  # revokes, commits and leaves the group
        except BaseException as error:  # noqa: BLE001 - another client joins, or the process ends
            logger.warning("%s: leaving the group failed: %s", self.name, reason_of(error))
        self._buffers.drop(self._buffers.opened())
        self._taker.lost_all()


def _at(place: Place, offset: int, leader_epoch: int | None) -> TopicPartition:
    return TopicPartition(*place, offset, leader_epoch=-1 if leader_epoch is None else leader_epoch)


def _committing(place: Place, durable: Durable) -> TopicPartition:
    epoch = -1 if durable.leader_epoch is None else durable.leader_epoch
    metadata = metadata_of(durable.incarnation)
    return TopicPartition(*place, durable.offset, metadata=metadata, leader_epoch=epoch)

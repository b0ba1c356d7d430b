"""Starts the workflows of schedules: one service, however many schedules."""

from __future__ import annotations

import time
from collections.abc import Sequence

from dbos_events.engine.core import Core
from dbos_events.engine.timetable import data_versions
from dbos_events.errors import BadWrite, DBOSException, StorageUnavailable
from dbos_events.model.queue import channel_of
from dbos_events.model.schedule import CHANNEL, ScheduleSpec, jitter_of
from dbos_events.runtime.service import Service
from dbos_events.runtime.taken import Taken
from dbos_events.runtime.ticks import UNUSABLE, Planner, Postponed
from dbos_events.serialization.raised import text_of
from dbos_events.storage.apart import refuses
from dbos_events.storage.subjects.schedulerows import DecidedTicks, ScheduleRow, Server
from dbos_events.telemetry.log import logger

BATCH = 100
HORIZON_MS = 1_000
FOREVER_MS = 2**50
AGAIN_SECONDS = 30.0
"""After which a schedule that cannot be served here is tried again."""

DECLARE_SECONDS = 5.0
ROUNDS = 100
"""Batches in one go: a schedule that was changed goes on by its next spec in the next one."""

BETWEEN_OTHERS = 0.05
"""Seconds after which a process looks again when another one decides what is due."""

MOST_BUFFERED = 1000
"""Schedules with a waiting tick that are looked at in one go, beside those that are due."""

JUMP_MS = 60_000
MENTIONED = 10


class ScheduleService(Service):
    """Looks once a second, and when the next tick is due: one query over an index, whatever there is.

    Every process serves all schedules whose functions it has; the rows decide who decides a tick.
    """

    name = "schedules"
    takes_work = True
    signals = (CHANNEL,)

    def __init__(self, core: Core, taken: Taken) -> None:
        super().__init__(interval=1.0)
        self._core = core
        self._taken = taken
        self._planner = Planner(core)
        self._failing: dict[str, tuple[float, str]] = {}
        self._refused: set[str] = set()
        self._declared_at = 0.0
        self._seen: tuple[int, float] | None = None
        self._watched: dict[str, _RunEnded] = {}
        self._due = False
        self._buffered = 0
        self._expected = False
        """Whether the last pause ends when a tick is due: then it is not asked once more."""

    # -- at launch ----------------------------------------------------------------------------

    def declare(self) -> None:
        """Store the schedules of this process's code, and look whether fire times have moved.

        Raises:
            DBOSException: A schedule cannot be read, or its zone is not known here.
        """
        for spec in self._core.registry.schedules.values():
            self._declare(spec)
        self._compare_data()

    def add(self, spec: ScheduleSpec) -> None:
        """Serve a schedule that was declared after launch."""
        self._declare(spec)
        self.wake()

    def _declare(self, spec: ScheduleSpec) -> None:
        core = self._core
        begin = self._planner.begin(spec, core.storage.now_ms())
        if core.storage.schedules.declare(
            core.application, core.version, spec, begin, by=f"version {core.version}"
        ):
            self._refused.discard(spec.name)
            return
        if spec.name not in self._refused:
            logger.warning(
                "Schedule %r is left as newer code of a live process has declared it. This version's declaration counts "
                "when no process of the newer one lives.",
                spec.name,
            )
        self._refused.add(spec.name)

    def _declare_again(self) -> None:
        if not self._refused or time.monotonic() - self._declared_at < DECLARE_SECONDS:
            return
        self._declared_at = time.monotonic()
        for name in sorted(self._refused):
            self._declare(self._core.registry.schedules[name])

    def _compare_data(self) -> None:
        """Tell of fire times that another cron library, or other zone data, has moved; and move them."""
        core = self._core
        if core.storage.schedules.next_due(self._server(), FOREVER_MS)[0] is None:
            return
        own = data_versions()
        names = {f"{key}/{core.application}": value for key, value in own.items()}
        noted = core.storage.schedules.facts(sorted(names))
        if noted == names:
            return
        if noted:
            self._retime(noted, names)
        core.storage.schedules.note(names)

    def _retime(self, noted: dict[str, str], names: dict[str, str]) -> None:
        changes = ", ".join(
            f"{name.split('/')[0]} was {noted.get(name)!r} and is {value!r}"
            for name, value in names.items()
            if noted.get(name) != value
        )
        moved = []
        for row in self._core.storage.schedules.find(self._core.application):
            try:
                at = self._moved_to(row)
            except DBOSException as error:
                moved.append(f"{row.spec.name}: {error.message}")
                continue
            if at != row.next_at:
                moved.append(f"{row.spec.name}: {_utc(row.next_at)} becomes {_utc(at)}")
        if moved:
            more = f" and {len(moved) - MENTIONED} more" if len(moved) > MENTIONED else ""
            logger.warning(
                "What fire times depend on has changed (%s), and %s schedules fire at other times: %s%s.",
                changes, len(moved), "; ".join(moved[:MENTIONED]), more,
            )  # fmt: skip
        else:
            logger.info("What fire times depend on has changed (%s); no schedule moves.", changes)

    def _moved_to(self, row: ScheduleRow) -> int | None:
        """When the next tick is by the data that is here; stored, where that is another time."""
        from datetime import datetime

        if row.next_at is None:
            return None
        table = self._planner.timetable(row.spec)
        fire = next(table.after(datetime.fromisoformat(row.position), row.repeat), None)
        if fire is None or fire.at_ms != row.next_at:
            jitter = 0 if fire is None else jitter_of(row.spec, self._core.application, fire)
            at = None if fire is None else fire.at_ms
            self._core.storage.schedules.retime(row, None if at is None else at + jitter, at)
            return at
        return row.next_at

    # -- ticking ------------------------------------------------------------------------------

    @property
    def warnings(self) -> Sequence[str]:
        """One line for each schedule that cannot be served here."""
        return [f"schedule {name}: {why}" for name, (_, why) in tuple(self._failing.items())]

    def next_due(self) -> int | None:
        left, _ = self._core.storage.schedules.next_due(self._server(), FOREVER_MS)
        return None if left is None or left <= 0 else self._core.clock.now_ms() + left

    def tick(self) -> float | None:
        self._declare_again()
        if not self._expected:
            pause = self._pause()
            if not self._due:
                return pause
        self._expected = False
        for _ in range(ROUNDS):
            try:
                decided = self._decide(BATCH + self._buffered)
            except Exception as error:
                if not refuses(error):
                    raise
                decided = self._decide_one_by_one(error)
            self._tell(decided)
            if len(decided.decided) < BATCH and not decided.again:
                return self._pause()
        return 0.0

    def _pause(self) -> float:
        """Seconds until something is due, or until it may have become so."""
        left, buffered = self._core.storage.schedules.next_due(self._server(), HORIZON_MS)
        self._watch_the_clock()
        self._buffered = min(buffered, MOST_BUFFERED)
        self._due = buffered > 0 or (left is not None and left <= 0)
        self._expected = left is not None and left > 0
        if left is None:
            return self.interval
        return min(self.interval, left / 1000 + 0.0005) if left > 0 else BETWEEN_OTHERS

    def _server(self) -> Server:
        core = self._core
        now = time.monotonic()
        for name, (until, _) in tuple(self._failing.items()):
            if until <= now and not core.clock.manual:
                del self._failing[name]
        names = core.registry.names()
        declared = [
            spec.name
            for spec in tuple(core.registry.schedules.values())
            if spec.name not in self._refused and spec.workflow_name in names
        ]
        return Server(
            core.executor,
            core.application,
            core.version,
            names,
            sorted(declared),
            sorted(self._failing),
        )

    def _decide(self, count: int, only: str | None = None) -> DecidedTicks:
        core = self._core
        with self._taken.taking():
            decided = core.storage.schedules.decide(self._server(), self._planner.plan, count, only)
            self._taken.start(decided.taken)
        postponed = [error for error in decided.problems.values() if isinstance(error, Postponed)]
        if postponed:  # one at a time, so that the others do not wait for all
            self._planner.prepare(postponed[0].due)
            for one in postponed:
                del decided.problems[one.due.spec.name]
            decided.again = True
        return decided

    def _decide_one_by_one(self, first: Exception) -> DecidedTicks:
        """Something of one schedule is refused by the database: it must not stop the others."""
        together = DecidedTicks()
        went_well = False
        for row in self._core.storage.schedules.find(self._core.application):
            name = row.spec.name
            try:
                one = self._decide(1, name)
            except Exception as error:
                if not refuses(error):
                    raise
                together.problems[name] = error
                continue
            went_well = True
            together.queues |= one.queues
            together.cancelled += one.cancelled
            together.decided += one.decided
            together.problems |= one.problems
            together.alarms |= one.alarms
            together.waiting |= one.waiting
            together.again |= one.again
        if not went_well and not isinstance(first, BadWrite):  # it is no schedule that is to blame
            raise first
        return together

    def _tell(self, decided: DecidedTicks) -> None:
        core = self._core
        for queue in sorted(decided.queues):
            core.signal(channel_of(queue))
        for workflow_id in decided.cancelled:
            run = core.runner.active.get(workflow_id)
            if run is not None and run.proposed is None:
                run.stop(run.cancellation())
            core.signal(f"workflow:{workflow_id}")
        for name, alarm in decided.alarms.items():
            logger.error("Schedule %r: %s", name, alarm)
        for name, error in decided.problems.items():
            self._failed(name, error)
        waited_for = set(decided.waiting.values())
        for run_id in self._watched.keys() - waited_for:  # it has ended elsewhere
            self._watched.pop(run_id).forget()
        for run_id in waited_for - self._watched.keys():
            self._watched[run_id] = _RunEnded(self, run_id)

    def _failed(self, name: str, error: Exception) -> None:
        why = text_of(error)
        if name not in self._failing:
            logger.error("Schedule %r cannot be served here; the others go on: %s", name, why)
        self._failing[name] = (time.monotonic() + AGAIN_SECONDS, why)
        try:
            self._core.storage.schedules.sound_alarm(self._core.application, name, f"{UNUSABLE}{why}")
        except (BadWrite, StorageUnavailable) as refused:
            logger.debug("The alarm of schedule %r could not be noted: %s", name, refused)

    def _watch_the_clock(self) -> None:
        """Say so when the database's clock has moved by more, or less, than the time that has passed here."""
        core = self._core
        now, here = core.clock.now_ms(), time.monotonic()
        before, self._seen = self._seen, (now, here)
        if before is None or core.clock.manual:
            return
        jump = (now - before[0]) - round((here - before[1]) * 1000)
        if abs(jump) > JUMP_MS:
            logger.error(
                "The database's clock has jumped by %s s. Ticks of schedules that lie in between follow their catch_up; "
                "after a jump back none runs a second time.",
                round(jump / 1000),
            )

    def run_ended(self, workflow_id: str) -> None:
        """A run for which a buffered tick waited has left this process."""
        self._watched.pop(workflow_id, None)
        self.wake()


class _RunEnded:
    """A hub subscriber, for one signal."""

    def __init__(self, service: ScheduleService, workflow_id: str) -> None:
        self._service = service
        self._workflow_id = workflow_id
        self._hub = service._core.hub  # noqa: SLF001 - a part of the service
        self._channel = f"workflow:{workflow_id}"
        self._hub.subscribe(self._channel, self)

    def wake(self) -> None:
        self.forget()
        self._service.run_ended(self._workflow_id)

    def forget(self) -> None:
        """Listen no more."""
        self._hub.unsubscribe(self._channel, self)


def _utc(at_ms: int | None) -> str:
    from datetime import UTC, datetime

    return "never" if at_ms is None else f"{datetime.fromtimestamp(at_ms / 1000, UTC):%Y-%m-%dT%H:%M:%SZ}"

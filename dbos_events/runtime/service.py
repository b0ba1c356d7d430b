"""A duty that is done again and again on a thread of its own."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from dbos_events.errors import DBOSException, ExecutorFenced, StorageUnavailable
from dbos_events.telemetry.log import Recurring, logger
from dbos_events.telemetry.outages import Outages
from dbos_events.telemetry.threads import start_thread

if TYPE_CHECKING:
    from dbos_events.engine.core import Core

LONGEST_PAUSE = 5.0


class Service:
    """Calls `tick` at least every `interval` seconds, sooner when woken.

    A tick that fails does not end the service: an unreachable database is said once and waited
    for, a defect is logged, and the next tick tries again.

    A service declares what it is called, which signals wake it, whether it takes work, and when it is next due. What
    launches services, stops them and moves them in tests goes by that, and knows none of them by name.
    """

    name = "service"

    takes_work = False
    """Whether it makes this process the owner of work; such services stop first."""

    in_tests = True
    """Whether the testing kit ticks it."""

    outages: Outages | None = None
    """Where it is told that the database cannot be reached: one outage is one message, whoever notices it."""

    def __init__(self, interval: float) -> None:
        self.interval = interval
        self.last_tick = time.monotonic()
        self._wake = threading.Event()
        self._stopped = False
        self._outage = Recurring()
        self._thread: threading.Thread | None = None
        self.problem: str | None = None
        """Why the last tick failed, while none has gone well since."""

    @property
    def pause(self) -> float:
        """Seconds until the next tick after one that failed."""
        return min(max(1.0, self.interval), LONGEST_PAUSE)

    def tick(self) -> float | None:
        """Do the duty once; gives the seconds until the next time, None for `interval`."""
        raise NotImplementedError

    def start(self) -> None:
        self._thread = start_thread(self._work, name=f"dbos-{self.name}", unless=lambda: self._stopped)

    @property
    def signals(self) -> Sequence[str]:
        """The channels of the hub that concern it."""
        return ()

    def heard(self) -> None:
        """One of its signals came; called from any thread, so it must be quick."""
        self.wake()

    def next_due(self) -> int | None:
        """When, by the clock, time alone gives it something to do; None when nothing waits for a time."""
        return None

    @property
    def warnings(self) -> Sequence[str]:
        """What health says beside `problem`; none of it makes the process unready."""
        return ()

    def wake(self) -> None:
        """Tick soon; may be called from any thread."""
        self._wake.set()

    def let_go(self) -> None:
        """Begin no further tick; does not wait for the one under way."""
        self._stopped = True
        self._wake.set()

    def stop(self, seconds: float = 5.0) -> None:
        self.let_go()
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join(seconds)

    @property
    def running(self) -> bool:
        return self._thread is not None and self._thread.is_alive()

    def revive(self) -> bool:
        """Start the thread anew if it has ended without having been stopped; gives whether it had."""
        if self._stopped or self._thread is None or self.running:
            return False
        self.start()
        return True

    def _work(self) -> None:
        while not self._stopped:
            self._wake.clear()
            pause = self._tick_safely()
            if not self._stopped:
                self._wake.wait(self.interval if pause is None else pause)

    def _tick_safely(self) -> float | None:
        try:
            pause = self.tick()
        except StorageUnavailable as error:
            self.problem = f"the {self.name} service waits for the database: {error}"
            if error.away and self.outages is not None:
                self.outages.away(self, error)
            else:
                self._outage.say("The %s service waits for the database: %s", self.name, error)
            return self.pause
        except ExecutorFenced:
            return self.interval  # the lease service sees to it
        except DBOSException as error:
            if not self._stopped:
                self.problem = f"the {self.name} service fails and tries again: {error}"
                self._outage.say("The %s service failed and tries again: %s", self.name, error)
            return self.pause
        except BaseException as error:  # noqa: BLE001 - neither a defect nor what code of a user raises ends the duty
            if self.problem is None:
                logger.exception("The %s service met an unexpected error and tries again.", self.name)
            self.problem = f"the {self.name} service fails and tries again: {type(error).__name__}: {error}"
            self._outage.say("%s", self.problem)
            return self.pause
        self.problem = None
        self.last_tick = time.monotonic()
        self._outage.over("The %s service is back at work.", self.name)
        if self.outages is not None:
            self.outages.back(self)
        return pause


class DueService(Service):
    """A duty that is due at times that stand in the database: it sleeps until the next one, at most `interval`."""

    def __init__(self, core: Core, interval: float) -> None:
        super().__init__(interval)
        self._core = core

    def left(self) -> int | None:
        """Milliseconds until something is due, by the database's clock; None when nothing waits for a time."""
        raise NotImplementedError

    def serve(self) -> float:
        """Do what is due; gives the seconds until the next look."""
        raise NotImplementedError

    def next_due(self) -> int | None:
        left = self.left()
        return None if left is None or left <= 0 else self._core.clock.now_ms() + left

    def tick(self) -> float | None:
        left = self.left()
        if left is None:
            return self.interval
        return min(self.interval, left / 1000 + 0.001) if left > 0 else self.serve()


class Hearing:
    """A hub subscriber that tells a service of its signal."""

    def __init__(self, service: Service) -> None:
        self._service = service

    def wake(self) -> None:
        self._service.heard()

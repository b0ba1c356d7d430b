"""Where a run takes place: both servers, the proxies before them, and the slots that workers are in."""

import threading
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from types import TracebackType
from typing import Self

import psycopg

from tests.chaos.audit import FILLABLE, Audit
from tests.chaos.crew import Crew
from tests.chaos.operators import ROLE, Operators
from tests.chaos.plan import SESSION_SECONDS
from tests.chaos.proxy import Loop, Proxy
from tests.chaos.strikes import Strike
from tests.faults.workers import Worker
from tests.servers import KafkaServer, PostgresServer
from tests.servers.process import free_port

RETRY_SECONDS = 0.2
DATABASE_SETTINGS = {"max_connections": "600", "track_commit_timestamp": "on"}
BROKER_SETTINGS = {
    "group.consumer.session.timeout.ms": str(int(SESSION_SECONDS * 1000)),
    "group.consumer.heartbeat.interval.ms": "300",
    "num.network.threads": "1",
}


def free_ports(count: int) -> list[int]:
    """Ports that differ, and that nothing listens on now."""
    ports: set[int] = set()
    while len(ports) < count:
        ports.add(free_port())
    return list(ports)


class Slot:
    """A place for one worker, with ways of its own to both servers; who changes its worker holds its lock."""

    def __init__(self, field: "Field", database: Proxy, broker: Proxy) -> None:
        self.database = database
        self.broker = broker
        self.worker: Worker
        self._field = field
        self._lock = threading.Lock()

    def __enter__(self) -> Self:
        self._lock.acquire()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._lock.release()

    @property
    def busy(self) -> bool:
        """Whether somebody is changing its worker."""
        return self._lock.locked()

    def start(self, label: str = "", clock_seconds: float = 0.0) -> None:
        self.worker = self._field.crew.launch((self.database, self.broker), label, clock_seconds)

    def kill(self) -> None:
        self._field.crew.kill(self.worker)

    def harm(self) -> None:
        """What its worker runs now may run again elsewhere."""
        self._field.crew.harm(self.worker)

    def let_go(self, *, asleep: float = 0.0) -> Worker:
        """Its worker, which is asked to stop, while it is frozen for some seconds if so; the caller waits for it."""
        crew = self._field.crew
        if asleep and self.worker.running:
            crew.freeze(self.worker, self._field.rest, asleep, then=lambda: crew.ask_to_stop(self.worker))
        else:
            crew.ask_to_stop(self.worker)
        return self.worker

    def freeze(self, seconds: float, *, harms: bool) -> None:
        if self.worker.running:
            crew = self._field.crew
            crew.freeze(
                self.worker, self._field.rest, seconds, then=lambda: crew.harm(self.worker) if harms else None
            )


class Field:
    """What faults are done to. `rest` ends early when the run is given up."""

    def __init__(self, processes: int) -> None:
        self.crew: Crew
        self.audit: Audit
        self.operators: Operators
        self.database_lock = threading.Lock()
        self.broker_lock = threading.Lock()
        self._stack = ExitStack()
        self._given_up = threading.Event()
        self._processes = processes
        ports = free_ports(3 * processes)
        self._ports = ports[2 * processes :]
        doors = dict(zip(ports[:processes], ports[processes : 2 * processes], strict=True))
        self.database = PostgresServer(settings=DATABASE_SETTINGS)
        self.broker = KafkaServer(settings=BROKER_SETTINGS, doors=doors)
        self._doors = doors
        self.slots: list[Slot] = []
        self.database_url = ""

    def __enter__(self) -> Self:
        try:
            self._start()
        except BaseException:
            self._stack.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._given_up.set()
        self._stack.close()

    def _start(self) -> None:
        self._stack.enter_context(self.database)
        self._stack.enter_context(self.broker)
        self.database_url = self.database.create_database("chaos")
        loop = Loop()
        self._stack.callback(loop.close)
        for port, (door, told) in zip(self._ports, self._doors.items(), strict=True):
            proxies = [Proxy(loop, port, self.database.port), Proxy(loop, told, door)]
            for proxy in proxies:
                proxy.start()
                self._stack.callback(proxy.close)
            self.slots.append(Slot(self, *proxies))

    @property
    def worker_url(self) -> str:
        """The database's URL for workers, whose role is no superuser: a template with the port of the proxy."""
        return f"postgresql://{ROLE}@127.0.0.1:{{port}}/chaos"

    # -- what faults ask for ------------------------------------------------------------------

    def slot(self, number: int) -> Slot:
        return self.slots[number]

    def rest(self, seconds: float) -> None:
        self._given_up.wait(seconds)

    def give_up(self) -> None:
        """Let all who rest go on."""
        self._given_up.set()

    def database_proxies(self, strike: Strike) -> list[Proxy]:
        """That of the slot which was struck, or those of all."""
        return [slot.database for slot in self._struck(strike)]

    def broker_proxies(self, strike: Strike) -> list[Proxy]:
        """As `database_proxies`."""
        return [slot.broker for slot in self._struck(strike)]

    def stall(self, proxies: Sequence[Proxy], seconds: float, *, then_cut: bool = False) -> None:
        """Hold up what passes; afterwards it arrives late, or never."""
        for proxy in proxies:
            proxy.stall(on=True)
        self.rest(seconds)
        for proxy in proxies:
            if then_cut:
                proxy.cut()
            proxy.stall(on=False)

    def fill_disk(self, coin: float | None) -> None:
        """Choose by the coin what cannot be written to; None: all can be again. Goes on until the database answers."""
        tables: tuple[str, ...] = ()
        if coin is not None:
            tables = FILLABLE if coin < 0.4 else (FILLABLE[int(coin * 97) % len(FILLABLE)],)
        self.insist(lambda: self.audit.fill_disk(tables))

    def insist(self, work: Callable[[], object]) -> None:
        """Have something done to the database, again until it answers, or the run is given up."""
        while True:
            with suppress(psycopg.Error):
                work()
                return
            if self._given_up.wait(RETRY_SECONDS):
                return

    def heal(self) -> None:
        """Undo all that faults have done to servers and proxies."""
        for slot in self.slots:
            for proxy in (slot.database, slot.broker):
                proxy.stall(on=False)
                proxy.lose_answers(lambda _data: False, 0)
        if not self.database.running:
            self.database.start()
        if not self.broker.running:
            self.broker.start()
        self.fill_disk(None)
        self.insist(self.operators.heal)

    def answers_lost(self) -> tuple[int, int]:
        """How many answers of the database and of the broker were lost."""
        return sum(slot.database.lost for slot in self.slots), sum(slot.broker.lost for slot in self.slots)

    def _struck(self, strike: Strike) -> list[Slot]:
        return self.slots if strike.coin < 0.5 else [self.slots[strike.slot]]

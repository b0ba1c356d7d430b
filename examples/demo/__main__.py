"""The demo: a stream of orders, two workers, one of them killed half-way, and a proof at the end.

python -m examples.demo                                   everything inside of its own processes
python -m examples.demo --kafka localhost:9092 --database postgresql://user@localhost/demo
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from confluent_kafka import KafkaException

from examples.demo.ledger import Ledger
from examples.demo.orders import make_orders
from examples.demo.proof import prove
from examples.demo.servers import Servers, Stream, servers_for
from examples.demo.show import Moment, Screen, show_proof
from examples.demo.workers import Worker, Workers

SCHEMA = "dbos_events_demo"
KILL_AT = 0.4
BUSY = 3
LOOK_SECONDS = 0.1
PATIENCE_SECONDS = 60.0


@dataclass(frozen=True)
class Options:
    """What the command line asks for."""

    kafka: str | None
    database: str | None
    orders: int
    rate: float
    seed: int
    keep: bool


class DemoFailed(Exception):
    """The demo could not come to its end."""


def read_options(arguments: Sequence[str] | None = None) -> Options:
    parser = argparse.ArgumentParser(
        prog="python -m examples.demo", description=(__doc__ or "").split("\n")[0]
    )
    parser.add_argument(
        "--kafka", metavar="HOST:PORT", help="a Kafka broker; a topic is made and deleted there"
    )
    parser.add_argument("--database", metavar="URL", help=f"postgresql://...; the schema {SCHEMA} is used")
    parser.add_argument("--orders", type=int, default=600, help="how many (600), at least 100")
    parser.add_argument("--rate", type=float, default=60.0, help="orders per second (60)")
    parser.add_argument("--seed", type=int, default=None, help="makes the same orders again")
    parser.add_argument("--keep", action="store_true", help="keep the folder with the logs and the ledger")
    given = parser.parse_args(arguments)
    if given.orders < 100 or given.rate <= 0:
        parser.error("a crash can be shown in the middle of at least 100 orders, at a rate above 0")
    seed = random.SystemRandom().randrange(10_000) if given.seed is None else given.seed
    return Options(given.kafka, given.database, given.orders, given.rate, seed, given.keep)


class Demo:
    """One run."""

    def __init__(
        self,
        options: Options,
        folder: Path,
        servers: Servers,
        application: str,
        topic: str,
        screen: Screen,
    ) -> None:
        self._orders = make_orders(options.orders, options.seed)
        self._rate = options.rate
        self._folder = folder
        self._screen = screen
        self._stream = Stream(servers.bootstrap_servers, topic)
        self._ledger = Ledger(folder / "ledger.sqlite")
        self._ledger.create()
        self._shipped = 0
        self._moved_at = time.monotonic()
        self.workers = Workers(
            folder,
            application,
            {
                "DEMO_LEDGER": str(folder / "ledger.sqlite"),
                "DEMO_TOPIC": topic,
                "DBOS_EVENTS_NAME": application,
                "DBOS_EVENTS_SYSTEM_DATABASE_URL": servers.database_url,
                "DBOS_EVENTS_DBOS_SYSTEM_SCHEMA": SCHEMA,
                "DBOS_EVENTS_LEASE_SECONDS": "2",
                "DBOS_EVENTS_KAFKA__BOOTSTRAP_SERVERS": servers.bootstrap_servers,
                **servers.settings,
            },
        )

    def run(self) -> bool:
        """Send, kill, wait, prove; gives whether the proof holds."""
        for _ in range(2):
            self.workers.start()
        self._screen.say(f"two workers start; {len(self._orders)} orders follow, {self._rate:g} a second")
        while not all(worker.is_reading for worker in self.workers.all):
            self._look()
            time.sleep(LOOK_SECONDS)
        killed: Worker | None = None
        began = time.monotonic()
        while self._shipped < len(self._orders):
            self._send_what_is_due(time.monotonic() - began)
            self._look()
            if killed is None and self._shipped >= KILL_AT * len(self._orders):
                killed = self._kill_one_in_the_middle()
            time.sleep(LOOK_SECONDS)
        self._screen.say("every order has been shipped; the workers drain and stop")
        self.workers.stop()
        self._look()
        return self._prove(killed)

    def _send_what_is_due(self, seconds: float) -> None:
        due = min(len(self._orders), int(seconds * self._rate))
        if self._stream.sent < due:
            for order in self._orders[self._stream.sent : due]:
                self._stream.send(order.customer, order.to_json())
            if due == len(self._orders):
                self._stream.finish()
                self._screen.say("all orders are sent")

    def _look(self) -> None:
        shipped = self._ledger.shipped()
        if shipped != self._shipped:
            self._shipped, self._moved_at = shipped, time.monotonic()
        moment = Moment(
            self._stream.sent, shipped, len(self._orders), self.workers.all, self._ledger.counts()
        )
        self._screen.update(moment)
        for worker in self.workers.all:
            if worker.state.startswith("failed"):
                raise DemoFailed(f"{worker.name} {worker.state}:\n{worker.last_words()}")
        if time.monotonic() - self._moved_at > PATIENCE_SECONDS:
            raise DemoFailed(
                f"No order was shipped for {PATIENCE_SECONDS:.0f} s. {self.workers.all[-1].name} said last:\n"
                f"{self.workers.all[-1].last_words()}"
            )

    def _kill_one_in_the_middle(self) -> Worker | None:
        """Kill the worker that has charged the most orders which it has not shipped, if it has several."""
        counts = self._ledger.counts()
        begun = {
            worker.name: counts.get((worker.name, "charge"), 0) - counts.get((worker.name, "ship"), 0)
            for worker in self.workers.all
        }
        worker = max(self.workers.all, key=lambda worker: begun[worker.name])
        if begun[worker.name] < BUSY:
            return None
        worker.kill()
        replacement = self.workers.start()
        self._screen.say(
            f"kill -9 {worker.process.pid}: {worker.name} is gone in the middle of its work; "
            f"{replacement.name} starts",
            "bold red",
        )
        return worker

    def _prove(self, killed: Worker | None) -> bool:
        if killed is None:
            raise DemoFailed("No worker was busy enough to be killed in the middle. Try more --orders.")
        proof = prove(self._orders, self._ledger, self.workers, killed.name)
        self._screen.close()
        show_proof(proof, self.workers.all, self._ledger.counts())
        return proof.holds


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the demo; 0 when the proof holds."""
    options = read_options(arguments)
    folder = Path(tempfile.mkdtemp(prefix="dbos-events-demo-"))
    try:
        holds, seconds = run_in(folder, options)
    except (DemoFailed, KafkaException) as error:
        print(f"\nThe demo failed: {error}", file=sys.stderr)
        holds, seconds = False, 0.0
    except KeyboardInterrupt:
        shutil.rmtree(folder, ignore_errors=True)
        return 130
    return finish(options, folder, seconds, holds=holds)


def run_in(folder: Path, options: Options) -> tuple[bool, float]:
    """Run the demo with its files in `folder`; gives whether the proof holds, and the seconds it took."""
    run = os.urandom(3).hex()
    application, topic = f"demo-{run}", f"orders-{run}"
    group = f"{application}.on_order"
    with servers_for(folder, topic, group, options.kafka, options.database) as servers, Screen() as screen:
        screen.say(f"seed {options.seed}; {servers.broker}; {servers.database}")
        demo = Demo(options, folder, servers, application, topic, screen)
        try:
            return demo.run(), screen.seconds
        finally:
            demo.workers.end()


def finish(options: Options, folder: Path, seconds: float, *, holds: bool) -> int:
    """Say how it went, and clean up; what explains a failure is kept."""
    if holds:
        print(f"\nThe proof holds. {seconds:.0f} s, seed {options.seed}.")
    else:
        print(f"\nThe proof does not hold. Seed {options.seed}.")
    if holds and not options.keep:
        shutil.rmtree(folder, ignore_errors=True)
    else:
        print(f"Logs, ledger and database are in {folder}.")
    return 0 if holds else 1


if __name__ == "__main__":
    sys.exit(main())

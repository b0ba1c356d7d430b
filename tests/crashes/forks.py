"""A process that has imported everything once, and forks the processes of each run of a scenario.

`python -m tests.crashes.forks` reads one job per line, as JSON, and answers each with a line. It has no threads, so that
forking is safe; a run costs what its work costs, not the second that Python needs to start.
"""

import faulthandler
import json
import os
import shutil
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import alembic.command  # noqa: F401 - imported before the fork
import psycopg

import dbos_events.launched  # noqa: F401 - imported before the fork
from dbos_events import App
from dbos_events.clock import SystemClock
from dbos_events.config import DEFAULT_SCHEMA
from dbos_events.storage.migrate import migrate
from dbos_events.storage.opening import open_storage
from tests.crashes.drivers import Names, watch_postgres, watch_sqlite
from tests.crashes.kafka import MOST, KafkaWorld, watch_kafka
from tests.crashes.outcome import Ended, read_effects
from tests.crashes.points import Point, Seen, Strike, Watch
from tests.crashes.scenarios import scenario_of
from tests.crashes.world import Scenario, World
from tests.defects.planted import plant

NEWEST = "newest"
LIFE_SECONDS = 120.0
MOST_LIVES = 6


@dataclass(frozen=True, slots=True)
class Job:
    """One run of a scenario.

    Args:
        database: A SQLite file, or a PostgreSQL database that is used again and again.
        kafka: The address of the broker.
        template: The SQLite file to begin with a copy of; a missing one is an empty database.
        strikes: By life, what happens in it.
        defect: The name of a defect that is put into the product for this run.
    """

    scenario: str
    database: str = ""
    template: str = ""
    kafka: str = ""
    strikes: dict[str, Any] = field(default_factory=dict)
    defect: str = ""


@dataclass(frozen=True, slots=True)
class Answer:
    """What came of it: whether all strikes were reached, and what was wrong in the end."""

    job: Job
    reached: bool
    problems: list[str]
    counts: dict[str, int]
    seen: list[Any]
    seconds: float


def main() -> None:
    """Do jobs until the input ends."""
    names = Names()
    for line in sys.stdin:
        answer = _answer(Job(**json.loads(line)), names)
        print(json.dumps(asdict(answer)), flush=True)


def _fork(work: Callable[..., None], *args: Any) -> int:
    """Do `work` in a process of its own, which then ends without any cleanup."""
    sys.stdout.flush()
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        work(*args)
        code = 0
    except BaseException:  # noqa: BLE001 - a forked process must not go on with its parent's work
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(code)


def _answer(job: Job, names: Names) -> Answer:
    began = time.monotonic()
    scenario = scenario_of(job.scenario)
    with tempfile.TemporaryDirectory(prefix="crash-", dir=_memory()) as name:
        folder = Path(name)
        url = prepare(job, scenario, folder)
        problems, reached = _lives(job, scenario, url, folder, names)
        counts: dict[str, int] = {}
        if not problems:
            ended = Ended(url)
            problems = ended.problems(scenario.expected, read_effects(folder / "effects"))
            counts = ended.counts()
        seen = folder / f"seen-{scenario.watched_life}"
        points = json.loads(seen.read_text()) if seen.exists() and not job.strikes else []
        return Answer(job, reached, problems, counts, points, time.monotonic() - began)


def _memory() -> str | None:
    """A file system in memory, where there is one."""
    return "/dev/shm" if os.access("/dev/shm", os.W_OK) else None  # noqa: S108


def _lives(job: Job, scenario: Scenario, url: str, folder: Path, names: Names) -> tuple[list[str], bool]:
    """Processes one after the other, until the program's last one has ended well."""
    strikes = {int(life): _strike(strike) for life, strike in job.strikes.items()}
    if scenario.first_death is not None:
        strikes[1] = Strike(scenario.first_death)
    wanted, reached = scenario.lives, True
    for life in range(1, MOST_LIVES):
        strike = strikes.get(life)
        log = folder / f"log-{life}"
        pid = _fork(_live, job, scenario, url, folder, life, strike, names, log)
        _, status = os.waitpid(pid, 0)
        if os.WIFSIGNALED(status) and strike is not None and strike.fault == "die":
            wanted = max(wanted, life + 1)
            continue
        if status:
            return [f"life {life} failed with status {status}: {log.read_text()[-4000:]}"], reached
        struck = (folder / f"struck-{life}").exists()
        reached = reached and (strike is None or struck)
        if life >= wanted:
            return [], reached
    return ["the processes never came to an end"], reached


def _strike(raw: Any) -> Strike:
    point, fault = raw
    return Strike(Point(*point), fault)


def _live(
    job: Job,
    scenario: Scenario,
    url: str,
    folder: Path,
    life: int,
    strike: Strike | None,
    names: Names,
    log: Path,
) -> None:
    """One process of the application, from its launch to its graceful end."""
    with log.open("w") as output:
        os.dup2(output.fileno(), 1)
        os.dup2(output.fileno(), 2)
    faulthandler.dump_traceback_later(LIFE_SECONDS, exit=True)
    if job.defect:
        plant(job.defect)
        names = Names()
    watch = Watch(strike, MOST if scenario.on_kafka else None)
    if scenario.on_kafka:
        watch_kafka(watch)
    else:
        (watch_postgres if url.startswith("postgresql") else watch_sqlite)(watch, names)
    made = partial(KafkaWorld, bootstrap=job.kafka) if scenario.on_kafka else World
    world = made(App(), url, scenario.log, folder, life, watch)
    play = scenario.program(world)
    world.start()
    play()
    world.stop()
    if watch.struck:
        (folder / f"struck-{life}").touch()
    (folder / f"seen-{life}").write_text(json.dumps(watch.seen))


# -- databases --------------------------------------------------------------------------------


def prepare(job: Job, scenario: Scenario, folder: Path) -> str:
    """A database as the scenario begins with it; gives its URL."""
    if not job.database.startswith("postgresql"):
        file = folder / "database.sqlite"
        if scenario.begins_at == NEWEST:
            shutil.copy(job.template, file)
        elif scenario.begins_at is not None:
            upgrade_to(f"sqlite:///{file}", scenario.begins_at)
        return f"sqlite:///{file}"
    if scenario.begins_at == NEWEST:
        with psycopg.connect(job.database, options="-c lock_timeout=10s") as connection:
            rows = "SELECT tablename FROM pg_tables WHERE schemaname = %s AND tablename !~ '^schema_'"
            tables = [
                f'"{DEFAULT_SCHEMA}"."{name}"' for (name,) in connection.execute(rows, [DEFAULT_SCHEMA])
            ]
            for table in tables:
                connection.execute(f"DELETE FROM {table}")
            if tables:  # programs name events by the number of their topic's life
                connection.execute(f'TRUNCATE "{DEFAULT_SCHEMA}".incarnations RESTART IDENTITY')
        if tables:
            return job.database
    with psycopg.connect(job.database) as connection:
        connection.execute(f'DROP SCHEMA IF EXISTS "{DEFAULT_SCHEMA}" CASCADE')
    if scenario.begins_at is not None:
        upgrade_to(job.database, scenario.begins_at)
    return job.database


def upgrade_to(url: str, revision: str) -> None:
    """Make the schema as a release of that revision left it."""
    from dbos_events.storage import migrate as module

    newest = module.REVISION
    storage = open_storage(url, schema=DEFAULT_SCHEMA, clock=SystemClock())
    try:
        module.REVISION = newest if revision == NEWEST else revision
        migrate(storage)
    finally:
        module.REVISION = newest
        storage.close()


def seen_of(answer: Answer) -> list[Seen]:
    """The points that a sound run has passed."""
    return [Seen(Point(*point), state) for point, state in answer.seen]


if __name__ == "__main__":
    main()

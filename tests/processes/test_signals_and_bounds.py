"""A service hears each signal, and stops within its bound whatever its database does."""

import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import sqlalchemy as sa

from dbos_events import App
from tests.chaos.proxy import Loop, Proxy
from tests.cli.conftest import Program
from tests.cli.service import SECONDS, Service, clean_environment, eventually
from tests.servers.process import free_port


@pytest.fixture
def program(tmp_path: Path) -> Program:
    """A program that only declares, as `dbos-events run` takes it."""
    return Program(tmp_path)


BOUND = 1.5
"""Seconds that a stop may take by its settings."""
CONNECTING = 10.0
"""What a connection that is just being opened may take; that cannot be cut."""
MARGIN = 8.0
"""What the machine of the tests may add, less than any time-out of a driver."""


@pytest.fixture
def silent_postgres(migrated_postgres: str) -> Iterator[tuple[str, Proxy]]:
    """A database behind a proxy that a test can make say nothing any more."""
    url = sa.make_url(migrated_postgres)
    loop = Loop()
    proxy = Proxy(loop, free_port(), url.port or 5432).start()
    yield url.set(host="127.0.0.1", port=proxy.port).render_as_string(hide_password=False), proxy
    proxy.close()
    loop.close()


# ------------------------------------------------------------------ signals


def is_stopped(pid: int) -> bool:
    return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0] == "T"


@pytest.mark.skipif(sys.platform != "linux", reason="asks /proc whether it has stopped")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_that_comes_while_the_process_is_stopped_is_heard_when_it_goes_on(
    program: Program, sqlite_url: str, number: signal.Signals
) -> None:
    for _ in range(4):  # which thread the system chooses is chance
        with Service(program.folder, "program.py", "--database", sqlite_url) as service:
            service.wait_for("Launched")
            service.process.send_signal(signal.SIGSTOP)
            eventually(lambda pid=service.process.pid: is_stopped(pid), "it is stopped")  # type: ignore[misc]
            service.process.send_signal(number)
            service.process.send_signal(signal.SIGCONT)
            assert service.ended() == 0


ELSEWHERE = """
import signal, threading
from program import DBOS

threading.Thread(target=threading.Event().wait, daemon=True).start()
signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGINT})
"""
"""As it may come after SIGCONT, by chance: the system gives each signal to another thread than the main one."""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_that_is_given_to_another_thread_is_heard(
    program: Program, sqlite_url: str, number: signal.Signals
) -> None:
    (program.folder / "elsewhere.py").write_text(ELSEWHERE)
    with Service(program.folder, "elsewhere.py", "--database", sqlite_url) as service:
        service.wait_for("Launched")
        service.process.send_signal(number)
        assert service.ended() == 0


def test_a_second_signal_that_is_given_to_another_thread_ends_the_process_at_once(
    program: Program, sqlite_url: str
) -> None:
    program.leave_unfinished(sqlite_url)
    (program.folder / "elsewhere.py").write_text(ELSEWHERE)
    with Service(program.folder, "elsewhere.py", "--database", sqlite_url) as service:
        eventually(program.began.exists, "the workflow runs")
        service.process.terminate()
        service.wait_for("draining")
        eventually(lambda: service.signalled(signal.SIGTERM), "it ends")
        assert service.ended() == 143


def test_a_second_signal_is_heard_while_the_stop_waits(program: Program, sqlite_url: str) -> None:
    program.leave_unfinished(sqlite_url)
    with Service(program.folder, "program.py", "--database", sqlite_url) as service:
        eventually(program.began.exists, "the workflow runs")
        service.process.terminate()
        service.wait_for("draining")
        time.sleep(0.6)  # a second signal that comes sooner counts as the first
        service.process.send_signal(signal.SIGSTOP)
        service.process.terminate()
        began = time.monotonic()
        service.process.send_signal(signal.SIGCONT)
        assert service.ended() == 143
        assert time.monotonic() - began < MARGIN


def test_a_signal_is_heard_while_the_program_waits_in_its_import(program: Program, sqlite_url: str) -> None:
    (program.folder / "waits.py").write_text(
        "import threading\nfrom pathlib import Path\n"
        "threading.Thread(target=threading.Event().wait, daemon=True).start()\n"
        "Path('waiting').touch()\nthreading.Event().wait()\n"
    )
    with Service(program.folder, "waits.py", "--database", sqlite_url) as service:
        eventually((program.folder / "waiting").exists, "it is imported")
        service.process.terminate()
        assert service.ended() == 0


CHILD = """
import multiprocessing
import time
from pathlib import Path

from dbos_events import DBOS


def work():
    Path("child").touch()
    time.sleep(100)


@DBOS.workflow()
def held() -> str:
    child = multiprocessing.get_context("fork").Process(target=work)
    child.start()
    while not Path("child").exists():
        time.sleep(0.01)
    child.terminate()
    child.join(20)
    Path("ended").write_text(str(child.exitcode))
    return "done"
"""


def test_a_signal_to_a_process_that_a_workflow_has_forked_ends_that_and_not_the_service(
    program: Program, sqlite_url: str
) -> None:
    program.leave_unfinished(sqlite_url)
    (program.folder / "program.py").write_text(CHILD)
    with Service(program.folder, "program.py", "--database", sqlite_url, "--health-port", "0") as service:
        ended = program.folder / "ended"
        eventually(ended.exists, "the child has ended")
        eventually(lambda: ended.read_text() == str(-signal.SIGTERM), "the signal ended it")
        assert service.wait_until("/readyz", 200)["live"]
        service.process.terminate()
        assert service.ended() == 0


# ------------------------------------------------------------------ bounds


def test_a_service_stops_within_its_bound_while_its_database_says_nothing(
    program: Program, silent_postgres: tuple[str, Proxy]
) -> None:
    url, proxy = silent_postgres
    limit = {"DBOS_EVENTS_SHUTDOWN_TIMEOUT_SECONDS": str(BOUND), "DBOS_EVENTS_LEASE_SECONDS": "1"}
    with Service(program.folder, "program.py", "--database", url, "--health-port", "0", **limit) as service:
        service.wait_until("/readyz", 200)
        proxy.stall(on=True)
        service.wait_until("/readyz", 503)  # its threads wait for answers by then
        began = time.monotonic()
        service.process.terminate()
        assert service.ended() == 0
        assert time.monotonic() - began < BOUND + MARGIN


STUCK = """
import asyncio, sys, threading
from dbos_events import DBOS

DBOS(config={"name": "stuck", "system_database_url": sys.argv[1], "shutdown_timeout_seconds": float(sys.argv[2])})
silent = threading.Event()

@DBOS.workflow()
async def asks() -> None:
    print("runs", flush=True)
    while not silent.is_set():
        await asyncio.sleep(0.01)
    print("asks", flush=True)
    await DBOS.list_workflows_async()

DBOS.launch()
DBOS.start_workflow(asks)
sys.stdin.readline()
silent.set()
sys.stdin.readline()
DBOS.destroy()
print("stopped", flush=True)
"""


def test_destroy_and_the_exit_of_the_interpreter_wait_for_no_database_that_says_nothing(
    silent_postgres: tuple[str, Proxy],
) -> None:
    url, proxy = silent_postgres
    command = [sys.executable, "-c", STUCK, url, str(BOUND)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=clean_environment()
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            assert process.stdout.readline() == "runs\n"
            proxy.stall(on=True)
            process.stdin.write("\n")
            process.stdin.flush()
            assert process.stdout.readline() == "asks\n"
            began = time.monotonic()
            process.stdin.write("\n")
            process.stdin.flush()
            assert process.stdout.readline() == "stopped\n"
            assert process.wait(SECONDS) == 0
            assert time.monotonic() - began < BOUND + MARGIN
        finally:
            process.kill()


def test_destroy_does_not_wait_for_a_sqlite_file_that_somebody_has_locked(sqlite_url: str) -> None:
    app = App({"name": "locked", "system_database_url": sqlite_url, "shutdown_timeout_seconds": BOUND})
    app.launch()
    other = sqlite3.connect(sa.make_url(sqlite_url).database or "", isolation_level=None)
    try:
        other.execute("BEGIN IMMEDIATE")
        began = time.monotonic()
        app.destroy()
        assert time.monotonic() - began < BOUND + MARGIN
    finally:
        other.close()


def test_a_stop_ends_what_waits_for_the_database_also_on_threads_of_the_program(
    silent_postgres: tuple[str, Proxy],
) -> None:
    url, proxy = silent_postgres
    app = App({"name": "callers", "system_database_url": url, "shutdown_timeout_seconds": BOUND})
    app.launch()
    with ThreadPoolExecutor(1) as callers:
        proxy.stall(on=True)
        asked = callers.submit(app.list_workflows)
        began = time.monotonic()
        app.destroy()
        assert time.monotonic() - began < BOUND + MARGIN
        assert isinstance(asked.exception(BOUND + MARGIN + CONNECTING), Exception)

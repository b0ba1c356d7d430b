"""The test servers keep what they promise to the other tests: data outlives a crash, processes do not."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psycopg
import pytest
from confluent_kafka import Consumer, Producer

from tests.servers import KafkaServer, PostgresServer
from tests.servers.kafka import create_topic
from tests.servers.process import PORTS, GuardedProcess, free_port, make_directory

SLEEP = [sys.executable, "-c", "import time; time.sleep(600)"]
ABANDON = """
import os, sys
from pathlib import Path
from tests.servers.process import GuardedProcess, make_directory
directory = make_directory("abandoned")
process = GuardedProcess([sys.executable, "-c", "import time; time.sleep(600)"], directory=directory)
process.start()
print(process.pid, directory, flush=True)
os.kill(os.getpid(), 9)
"""


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_ports_are_never_those_of_outgoing_connections() -> None:
    ephemeral = Path("/proc/sys/net/ipv4/ip_local_port_range")
    first = int(ephemeral.read_text().split()[0]) if ephemeral.exists() else PORTS.stop
    assert free_port() in PORTS
    assert PORTS.stop <= first


@pytest.mark.parametrize("end", [GuardedProcess.stop, GuardedProcess.kill])
def test_process_ends_and_starts_again(end: object, tmp_path: Path) -> None:
    process = GuardedProcess(SLEEP, directory=tmp_path)
    process.start()
    first = process.pid
    assert first is not None
    assert process.running
    end(process)  # type: ignore[operator]
    assert not process.running
    assert not is_alive(first)
    process.start()
    assert process.running
    process.kill()


def test_process_of_an_owner_that_was_killed_is_ended_and_its_directory_removed() -> None:
    root = Path(__file__).parents[2]
    owner = subprocess.run(
        [sys.executable, "-c", ABANDON], cwd=root, capture_output=True, text=True, check=False
    )
    assert owner.returncode == -signal.SIGKILL, owner.stderr
    pid, directory = owner.stdout.split()
    deadline = time.monotonic() + 30
    while is_alive(int(pid)) or Path(directory).exists():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_directory_can_be_entered_by_the_server_user() -> None:
    directory = make_directory("test")
    try:
        assert directory.stat().st_mode & 0o011 == 0o011
    finally:
        directory.rmdir()


def test_postgres_keeps_what_was_committed_over_a_crash(postgres_server: PostgresServer) -> None:
    url = postgres_server.create_database("kept")
    with psycopg.connect(url) as connection:
        connection.execute("CREATE TABLE word AS SELECT 'durable' AS text")
    postgres_server.restart_immediate()
    with psycopg.connect(url) as connection:
        assert connection.execute("SELECT text FROM word").fetchall() == [("durable",)]
    postgres_server.stop()
    assert not postgres_server.answers()


def test_each_version_of_postgres_serves(each_postgres_url: str) -> None:
    with psycopg.connect(each_postgres_url) as connection:
        assert connection.execute("SELECT 1").fetchone() == (1,)


@pytest.mark.slow
def test_broker_keeps_what_was_acknowledged_over_a_kill(kafka_server: KafkaServer) -> None:
    create_topic(kafka_server.bootstrap, "kept")
    producer = Producer({"bootstrap.servers": kafka_server.bootstrap, "log_level": 0})
    producer.produce("kept", b"durable")
    assert producer.flush(30) == 0
    kafka_server.kill()
    assert not kafka_server.running
    kafka_server.start()
    consumer = Consumer(
        {
            "bootstrap.servers": kafka_server.bootstrap,
            "group.id": "reader",
            "auto.offset.reset": "earliest",
            "log_level": 0,
        }
    )
    try:
        consumer.subscribe(["kept"])
        (message,) = consumer.consume(1, timeout=30)
        assert message.value() == b"durable"
    finally:
        consumer.close()

"""What the numbers were measured on: the machine and the versions."""

from __future__ import annotations

import os
import platform
from dataclasses import dataclass
from pathlib import Path

import psycopg
from confluent_kafka import libversion

from benchmarks.interpreter import fastest_python


@dataclass(frozen=True)
class Machine:
    """The machine, the interpreter and the servers of a run."""

    processor: str
    cores: int
    memory_gib: int
    system: str
    python: str
    postgresql: str
    durable: bool
    """Whether the server waits for the disk at a commit (fsync, synchronous_commit)."""
    librdkafka: str

    def describe(self) -> str:
        """One line for people."""
        disk = "commits reach the disk" if self.durable else "COMMITS ARE NOT DURABLE"
        return (
            f"{self.cores} x {self.processor}, {self.memory_gib} GiB, {self.system}, "
            f"Python {self.python}, PostgreSQL {self.postgresql} ({disk}), "
            f"librdkafka {self.librdkafka}"
        )


def inspect_machine(url: str) -> Machine:
    """Look at this machine and at the server behind `url`."""
    with psycopg.connect(url, autocommit=True) as connection:
        version = _setting(connection, "server_version")
        durable = (
            _setting(connection, "fsync") == "on" and _setting(connection, "synchronous_commit") != "off"
        )
    return Machine(
        processor=_processor(),
        cores=len(os.sched_getaffinity(0)),
        memory_gib=_memory_gib(),
        system=f"{platform.system()} {platform.release()}",
        python=fastest_python().describe(),
        postgresql=version.split()[0],
        durable=durable,
        librdkafka=libversion()[0],
    )


def _setting(connection: psycopg.Connection, name: str) -> str:
    row = connection.execute("SELECT current_setting(%s)", (name,)).fetchone()
    return str(row[0]) if row else ""


def _processor() -> str:
    path = Path("/proc/cpuinfo")
    lines = path.read_text().splitlines() if path.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if "model name" in line]
    return names[0] if names else platform.machine()


def _memory_gib() -> int:
    return round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30)

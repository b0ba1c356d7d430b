"""What the numbers were measured on: the machine and the versions."""

from __future__ import annotations

import json
import os
import platform
import subprocess
from dataclasses import dataclass
from pathlib import Path

import psycopg

from benchmarks.environments import own_python

VERSIONS = """
import json, os, platform, sys
from confluent_kafka import libversion
python = f"{platform.python_version()} ({os.path.realpath(sys._base_executable)})"
print(json.dumps([python, libversion()[0]]))
"""
"""Asked of the interpreter that runs our contestants."""


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
    python, librdkafka = json.loads(subprocess.check_output([own_python(), "-c", VERSIONS]))
    return Machine(
        processor=_processor(),
        cores=len(os.sched_getaffinity(0)),
        memory_gib=_memory_gib(),
        system=f"{platform.system()} {platform.release()}",
        python=python,
        postgresql=version.split()[0],
        durable=durable,
        librdkafka=librdkafka,
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

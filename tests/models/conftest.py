"""Databases for the machines: those of the storage's tests, but that no SQLite file waits for a disk."""

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.storage.conftest import clock, emptied_database, migrated_postgres, migrated_url, opened
from tests.storage.test_lanes_machine import MEMORY

__all__ = ["clock", "emptied_database", "migrated_postgres", "migrated_sqlite", "migrated_url", "opened"]


@pytest.fixture
def migrated_sqlite(dbos_template: Path) -> Iterator[str]:
    with tempfile.TemporaryDirectory(dir=MEMORY if MEMORY.is_dir() else None) as folder:
        yield f"sqlite:///{shutil.copy(dbos_template, Path(folder, 'test.sqlite'))}"

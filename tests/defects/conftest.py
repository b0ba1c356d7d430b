"""The databases and processes of the suites that have to find the defects."""

from tests.crashes.conftest import sqlite_runs
from tests.models.conftest import clock, migrated_sqlite, opened
from tests.races.conftest import raced_database

__all__ = ["clock", "migrated_sqlite", "opened", "raced_database", "sqlite_runs"]

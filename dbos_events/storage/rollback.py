"""What rolls a transaction back although the database has not answered with an error."""

from __future__ import annotations


class RollBack(Exception):
    """Rolls a transaction back at the wish of its own code, and not since the database answered with an error."""


class NotAsExpected(RollBack):
    """Rolls a transaction back: a statement hit an unexpected number of rows."""

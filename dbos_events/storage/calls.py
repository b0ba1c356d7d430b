"""Functions in the database, as their callers describe them."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Function:
    """Its name, the types of its single arguments, and those of the columns that it takes as arrays.

    The first argument of each is the time where a test rules it, else NULL.
    """

    name: str
    single: tuple[str, ...]
    columns: tuple[str, ...]

"""Families of verbs that are imported with the first verb that somebody asks for."""

from __future__ import annotations

from collections.abc import Iterator
from importlib import import_module
from typing import Any

ROOM = "dbos_events.api."


class Family:
    """A class of verbs, by its place; an attribute of it stands for the verb of that name."""

    def __init__(self, module: str, name: str) -> None:
        self._place = module, name

    def __getattr__(self, name: str) -> Any:
        return Verb(self, name)

    def load(self) -> type:
        """The class."""
        module, name = self._place
        found: type = getattr(import_module(module), name)
        return found


class Verb:
    """Stands for a verb of a family until somebody asks for it."""

    __slots__ = ("family", "name", "owner")

    def __init__(self, family: Family, name: str) -> None:
        self.family = family
        self.name = name

    def __set_name__(self, owner: type, name: str) -> None:
        self.owner = owner

    def __get__(self, instance: object, owner: type | None = None) -> Any:
        family = self.family.load()
        for name, member in members(family):
            if isinstance(vars(self.owner).get(name, self), Verb):  # what a test has put in its place stays
                setattr(self.owner, name, member)
        return getattr(family, self.name).__get__(instance, owner)


def members(family: type) -> Iterator[tuple[str, Any]]:
    """What a class of verbs brings, its bases in this package first: verbs, and functions that these call."""
    for kind in reversed(family.__mro__):
        if kind.__module__.startswith(ROOM):
            yield from (
                (name, value) for name, value in vars(kind).items() if callable(value) and name[:2] != "__"
            )

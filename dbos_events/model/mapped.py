"""Records whose fields are read as attributes, and by name as programs of DBOS Transact do."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields
from typing import Any


class Mapped:
    """A dataclass that also reads like a mapping of its fields: `record.name`, `record["name"]`, `dict(record)`."""

    __slots__ = ()

    def keys(self) -> list[str]:
        """The names of the fields."""
        return [field.name for field in fields(self)]  # type: ignore[arg-type]

    def __iter__(self) -> Iterator[str]:
        return iter(self.keys())

    def __contains__(self, name: object) -> bool:
        return name in self.keys()

    def __getitem__(self, name: str) -> Any:
        if name not in self.keys():
            raise KeyError(name)
        return getattr(self, name)

    def values(self) -> list[Any]:
        """The values of the fields."""
        return [getattr(self, name) for name in self.keys()]

    def items(self) -> list[tuple[str, Any]]:
        """Pairs of name and value."""
        return [(name, getattr(self, name)) for name in self.keys()]

    def get(self, name: str, default: Any = None) -> Any:
        """The field of this name, or `default` where there is none."""
        return getattr(self, name) if name in self.keys() else default

"""Durable workflows for services that consume events: each event is processed exactly once.

The public names stand in `dbos_events.public`, which is loaded with the first of them: the command line needs none.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dbos_events.public import *  # noqa: F403


def __getattr__(name: str) -> object:
    """Give a public name, and keep all of them; also a module of the package that they have loaded."""
    if name == "__all__":
        return sorted(_public())
    if not name.startswith("__"):
        globals().update(_public())
        if name in globals():
            return globals()[name]
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *_public()})


def _public() -> dict[str, object]:
    from importlib import import_module  # `from dbos_events import ...` would ask `__getattr__` again

    names = vars(import_module("dbos_events.public"))
    return {name: value for name, value in names.items() if not name.startswith("_")}

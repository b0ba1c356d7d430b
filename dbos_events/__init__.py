"""Durable workflows for services that consume events: each event is processed exactly once.

The public names stand in `dbos_events.public`; the module of each is imported when it is asked for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dbos_events.public import *  # noqa: F403


def __getattr__(name: str) -> object:
    """Give a public name or a module of the package, and import it for that."""
    from importlib import import_module  # `from dbos_events import ...` would ask `__getattr__` again

    if name == "__all__":
        return sorted(import_module("dbos_events.public").PLACES)
    if name.startswith("_"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    public = import_module("dbos_events.public")
    if name in public.PLACES:
        return globals().setdefault(name, getattr(public, name))  # what a test has put in its place stays
    try:
        return import_module(f"{__name__}.{name}")
    except ModuleNotFoundError as error:
        if error.name != f"{__name__}.{name}":
            raise
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    from dbos_events.public import PLACES

    return sorted({*globals(), *PLACES})

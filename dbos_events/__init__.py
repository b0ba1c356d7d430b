"""Durable workflows for services that consume events: each event is processed exactly once.

The public names stand in `dbos_events.public`, which is loaded with the first of them: the command line needs none.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dbos_events.public import *  # noqa: F403


_OTHERS = ("TYPE_CHECKING", "Any", "MESSAGES", "LOADED_LATER")
"""Names of that module that are not public."""


def __getattr__(name: str) -> object:
    """Give a public name, and keep all of them; also a module of the package that they have loaded."""
    if name == "__all__":
        return sorted(_public())
    if not name.startswith("__"):
        names = _public()
        for known, value in names.items():
            if value is not None:
                globals().setdefault(known, value)  # what a test has put in its place stays
        if name in globals():
            return globals()[name]
        if name in names:
            from dbos_events import public

            return getattr(public, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *_public()})


def _public() -> dict[str, object]:
    """The public names; those of connectors and of clients without a value, as they are loaded later."""
    from importlib import import_module  # `from dbos_events import ...` would ask `__getattr__` again

    public = import_module("dbos_events.public")
    kept = (name for name in vars(public) if not name.startswith("_") and name not in _OTHERS)
    return {
        **dict.fromkeys(getattr(public, "LOADED_LATER", ())),
        **{name: vars(public)[name] for name in kept},
    }

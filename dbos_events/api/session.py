"""What the verbs need of an App."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from dbos_events.engine.core import Core
    from dbos_events.engine.registry import Registry


class Session(Protocol):
    """An App as the layer below it sees it."""

    registry: Registry

    @property
    def core(self) -> Core:
        """The launched engine.

        Raises:
            DBOSException: The App is not launched.
        """
        ...


def refuse_on_loop(name: str, *, hint: str | None = None) -> None:
    """Raise when a blocking verb is called where it would block a running event loop."""
    if not on_loop():
        return
    called, instead = (f"DBOS.{name}", f"await DBOS.{name}_async(...)") if hint is None else (name, hint)
    raise RuntimeError(f"{called} blocks and was called on a running event loop. Use `{instead}` there.")


def on_loop() -> bool:
    """Whether the calling thread runs an event loop."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True

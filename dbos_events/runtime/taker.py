"""This process as the storage knows it when it takes work."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from dbos_events.storage.subjects.taking import Taker

if TYPE_CHECKING:
    from dbos_events.engine.core import Core


def taker_of(core: Core, names: Sequence[str]) -> Taker:
    """The process of `core`, which may take work of the functions called `names`."""
    return Taker(core.executor, core.application, core.version, names, core.waits_for_version)

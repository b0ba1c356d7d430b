"""A connector: what a plugin registers under the entry-point group `dbos_events.connectors`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from dbos_events.connect.source import Intake, Source
from dbos_events.model.event import ConsumerOptions


@dataclass(frozen=True, slots=True)
class Connector:
    """One kind of source.

    Args:
        name: What the settings section and the command group are called (`kafka`).
        check: Refuses options that would break a promise, at registration; gives the group id.
        open_source: Makes the source of one consumer; `settings` are those of its section, below
            what the consumer's own config says.
    """

    name: str
    check: Callable[[ConsumerOptions], None]
    open_source: Callable[[Intake, Mapping[str, Any]], Source]

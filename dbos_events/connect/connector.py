"""A connector: what a plugin registers under the entry-point group `dbos_events.connectors`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from dbos_events.connect.source import Intake, Source
from dbos_events.model.event import ConsumerOptions


class Ends(NamedTuple):
    """What the broker itself says: the id of each topic, and where each (topic, partition) ends."""

    topic_ids: Mapping[str, str]
    offsets: Mapping[tuple[str, int], int]


@dataclass(frozen=True, slots=True)
class Connector:
    """One kind of source.

    Args:
        name: What the settings section and the command group are called (`kafka`).
        check: Refuses options that would break a promise, at registration; gives the group id.
        open_source: Makes the source of one consumer; `settings` are those of its section, below
            what the consumer's own config says.
        ask_ends: Asks the broker, beside any consumer, for the ends of partitions (numbers by topic), with the settings
            of the section over those that the consumer was last launched with. None: nobody can be asked.
    """

    name: str
    check: Callable[[ConsumerOptions], None]
    open_source: Callable[[Intake, Mapping[str, Any]], Source]
    ask_ends: Callable[[Mapping[str, Any], Mapping[str, str], Mapping[str, Sequence[int]]], Ends] | None = (
        None
    )

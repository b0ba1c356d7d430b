"""A connector: what a plugin registers under the entry-point group `dbos_events.connectors`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

from dbos_events.connect.inbox import Inbox, PushedEvent
from dbos_events.connect.source import Intake, Record, Source
from dbos_events.model.dataclass import dataclass
from dbos_events.model.event import ConsumerOptions
from dbos_events.model.message_type import MessageType


class LogMessages(MessageType, Protocol):
    """The messages of a connector whose events lie in a log."""

    def of(self, topic: str, record: Record, /) -> Any:
        """The message of a record, as it was received or as it was read back from its row."""
        ...


class Ends(NamedTuple):
    """What the broker itself says: the id of each topic, and where each (topic, partition) ends."""

    topic_ids: Mapping[str, str]
    offsets: Mapping[tuple[str, int], int]


AskEnds = Callable[[Mapping[str, Any], Mapping[str, str], Mapping[str, Sequence[int]]], Ends]
"""With the settings of a section, those that a consumer was last launched with, and numbers of partitions by topic."""


@dataclass(frozen=True, slots=True)
class Connector:
    """One kind of source whose events lie in a log.

    Args:
        name: What the settings section and the command group are called, and what the ids of its events begin with.
        check: Refuses options that would break a promise, at registration; gives the group id.
        open_source: Makes the source of one consumer; `settings` are those of its section, below
            what the consumer's own config says.
        messages: What handlers get.
        ask_ends: Asks the broker, beside any consumer, for the ends of partitions (numbers by topic), with the settings
            of the section over those that the consumer was last launched with. None: nobody can be asked.
    """

    name: str
    check: Callable[[ConsumerOptions], None]
    open_source: Callable[[Intake, Mapping[str, Any]], Source]
    messages: LogMessages
    ask_ends: AskEnds | None = None


class PushedMessages(MessageType, Protocol):
    """The messages of a connector whose events are pushed."""

    def of(self, event: PushedEvent, workflow_id: str, /) -> Any:
        """The message of an event, as it was accepted or as it was read back from its row.

        Called whenever a run of the event starts; must give the same for the same event, and do no I/O. `fingerprint` and
        `lane` of the event are empty: they are kept for its ids and its order only.
        """
        ...


@dataclass(frozen=True, slots=True)
class PushConnector:
    """One kind of source whose events are pushed.

    Args:
        name: What the settings section is called; consumers are declared under it.
        id_prefix: What the ids of all its events begin with, before a slash: letters, digits and hyphens.
        messages: What handlers get.
        open_source: Makes the one source of all its consumers at launch. It is started after the engine; told to
            `pause` when the process drains (refuse what comes from then on: `accept` does so, too); and stopped. `settings`
            are those of its section.
    """

    name: str
    id_prefix: str
    messages: PushedMessages
    open_source: Callable[[Inbox, Mapping[str, Any]], Source]

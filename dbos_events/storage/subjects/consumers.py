"""Consumers as they are known: handler, group and topics of each, and whether it is paused."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Protocol

from dbos_events.errors import RegistrationError
from dbos_events.model.consumer import ConsumerState, Trial
from dbos_events.model.naming import log_prefix
from dbos_events.model.subscription import shared
from dbos_events.storage.database import Database, Row, Tx


class Consumers(Protocol):
    """Consumers as they are known, and those that are paused by hand (protocol 9 and 11)."""

    def save(
        self,
        application: str,
        name: str,
        handler: str,
        group: str,
        topics: Sequence[str],
        settings: str,
        connector: str | None = None,
    ) -> int:
        """Register a consumer of a log; gives its number. The ids of its events begin with the connector's name.

        Raises `RegistrationError` when its group changed, or another consumer of the application
        reads one of the topics in the same group.
        """
        ...

    def numbers(self, application: str) -> dict[str, int]:
        """The consumers of an application, by name."""
        ...

    def settings(self, application: str | None) -> dict[tuple[str, str], dict[str, str]]:
        """What each consumer, by application and name, was last launched with; secrets are masked."""
        ...

    def states(self, application: str | None) -> list[ConsumerState]:
        """All consumers that were ever registered, by application and name."""
        ...

    def pause(self, application: str, name: str, paused_by: str, reason: str | None) -> bool:
        """Pause a consumer; False when it is paused already, or unknown."""
        ...

    def resume(self, application: str, name: str) -> bool:
        """End a pause and close the breaker; False when there is neither."""
        ...

    def id_group(self, consumer: int) -> str:
        """The group that the ids of a consumer's events name: the one that it began with."""
        ...


class ConsumerTable:
    """The rows of consumers (docs/protocol.md, rules 9 and 11)."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def save(
        self,
        application: str,
        name: str,
        handler: str,
        group: str,
        topics: Sequence[str],
        settings: str,
        connector: str | None = None,
    ) -> int:
        def work(tx: Tx) -> int:
            tx.run("lock_registrations")
            known = tx.run("read_consumers", application=application)
            topics_known = [row.topic for row in tx.run("topics_known")]
            _refuse_conflicts(known, topics_known, name, group, topics, connector)
            row = tx.one(
                "insert_consumer",
                application=application,
                name=name,
                handler=handler,
                group_id=group,
                topics=json.dumps(sorted(topics)),
                settings=settings,
                id_prefix=None if connector is None else log_prefix(connector, group),
                connector=connector,
            )
            return int(row.id) if row is not None else 0

        return self._database.transact(work)

    def numbers(self, application: str) -> dict[str, int]:
        rows = self._database.transact(lambda tx: tx.run("read_consumers", application=application))
        return {row.name: row.id for row in rows}

    def settings(self, application: str | None) -> dict[tuple[str, str], dict[str, str]]:
        rows = self._database.transact(lambda tx: tx.run("consumer_settings", application=application))
        return {(row.application, row.name): json.loads(row.settings) for row in rows}

    def states(self, application: str | None) -> list[ConsumerState]:
        rows = self._database.transact(lambda tx: tx.run("consumer_states", application=application))
        return [_state(row) for row in rows]

    def pause(self, application: str, name: str, paused_by: str, reason: str | None) -> bool:
        return self._did(
            "pause_consumer", application=application, name=name, paused_by=paused_by, reason=reason
        )

    def resume(self, application: str, name: str) -> bool:
        return self._did("resume_consumer", application=application, name=name)

    def id_group(self, consumer: int) -> str:
        return str(self._database.transact(lambda tx: tx.run("lock_consumer", consumer=consumer)[0]).id_group)

    def _did(self, name: str, /, **parameters: object) -> bool:
        """Run a statement that changes one row or none."""
        return bool(self._database.transact(lambda tx: tx.run(name, **parameters)))


def _refuse_conflicts(
    known: Sequence[Row],
    topics_known: Sequence[str],
    name: str,
    group: str,
    topics: Sequence[str],
    connector: str | None,
) -> None:
    for row in known:
        if row.name == name:
            _refuse_another_connector(row, connector)
            _refuse_another_group(row, group)
            continue
        both = shared(json.loads(row.topics), topics, topics_known)
        if row.group_id == group and both:
            raise RegistrationError(
                f"Consumers {row.name!r} and {name!r} both read {both} with the group {group!r}, so each would get only "
                f"a part of the records. Give one of them another group.id. If {name!r} is the new name of "
                f"{row.name!r}: `{command_of(connector)} rename-consumer {row.name} {name}`."
            )
        if row.id_group == group and both:
            raise RegistrationError(
                f"The ids of the events that {row.name!r} has taken in of {both} name the group {group!r}, with which "
                f"{name!r} is configured: its events would be taken for those. Give {name!r} another group.id."
            )


def command_of(connector: str | None) -> str:
    """The group of commands of a connector."""
    return f"dbos-events {connector}" if connector else "dbos-events"


def _refuse_another_connector(row: Row, connector: str | None) -> None:
    if None not in (row.connector, connector) and row.connector != connector:
        raise RegistrationError(
            f"The application has a consumer {row.name!r} of the connector {row.connector!r} already. Give this one another "
            "name=..."
        )


def _refuse_another_group(row: Row, group: str) -> None:
    if row.group_id != group:
        raise RegistrationError(
            f"Consumer {row.name!r} read with the group {row.group_id!r} before and is now configured with "
            f"{group!r}. Keep group.id; or, to go on where it stands, stop its processes and run "
            f"`{command_of(row.connector)} adopt-watermark {row.name} --from-group {row.group_id} --to-group {group}`; or "
            "give the consumer another name=..., and it reads its topics from their beginning."
        )


def _state(row: Row) -> ConsumerState:
    trial = None
    if row.trial_id is not None:
        waits = row.trial_wake_at is not None or row.trial_awaits is not None
        trial = Trial(row.trial_id, row.trial_status, row.trial_owner is not None, waits, row.trial_attempt)
    return ConsumerState(
        id=row.id,
        application=row.application,
        name=row.name,
        paused_at=row.paused_at,
        paused_by=row.paused_by,
        paused_reason=row.paused_reason,
        breaker=row.breaker,
        breaker_reason=row.breaker_reason,
        breaker_since=row.breaker_since,
        breaker_until=row.breaker_until,
        breaker_executor=row.breaker_executor,
        due=bool(row.due),
        epoch=row.breaker_epoch,
        openings=row.breaker_openings,
        trial=trial,
    )

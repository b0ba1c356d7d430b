"""What operators decide about consumers and their positions."""

from __future__ import annotations

import json
from typing import Protocol

from dbos_events.errors import RegistrationError
from dbos_events.model.consumer import PartitionDecided
from dbos_events.storage.database import Database, Row, Tx
from dbos_events.storage.subjects.consumers import command_of


class Decisions(Protocol):
    """What operators decide about consumers and their positions (protocol 7 to 9)."""

    def adopt_cluster(self, application: str, name: str, adoption: str) -> str:
        """Decide that the consumer reads the cluster that it has met; gives the cluster's id.

        Raises `RegistrationError` when there is no such consumer, or nothing to decide; so do the others.
        """
        ...

    def resolve_truncation(
        self, application: str, name: str, place: tuple[str, int], offset: int | None
    ) -> PartitionDecided:
        """Open a new branch of a halted (topic, partition) from `offset`, or where the log diverges."""
        ...

    def resolve_regression(
        self, application: str, name: str, place: tuple[str, int], *, skip: bool
    ) -> PartitionDecided:
        """Read a halted partition on from its watermark, or from the broker's committed offset."""
        ...

    def adopt_watermark(self, application: str, name: str, from_group: str, to_group: str) -> None:
        """Have a consumer go on under another group, where it stands."""
        ...

    def rename_consumer(self, application: str, name: str, to_name: str) -> str:
        """Give a consumer another name; gives the group that it reads with from now on."""
        ...

    def clear_alarms(self, application: str, name: str) -> int:
        """Forget what the status told; gives how many partitions had something."""
        ...


class DecisionTable:
    """One transaction for each command (docs/protocol.md, rules 7 to 9)."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def adopt_cluster(self, application: str, name: str, adoption: str) -> str:
        def work(tx: Tx) -> str:
            row = _consumer(tx, application, name)
            if row.seen_cluster_id is None:
                raise RegistrationError(
                    f"Consumer {name!r} has met no other cluster than {row.cluster_id}: there is nothing to decide."
                )
            tx.run("adopt_cluster", consumer=row.id, adoption=adoption)
            return str(row.seen_cluster_id)

        return self._database.transact(work)

    def resolve_truncation(
        self, application: str, name: str, place: tuple[str, int], offset: int | None
    ) -> PartitionDecided:
        topic, partition = place

        def work(tx: Tx) -> PartitionDecided:
            row = _consumer(tx, application, name)
            standing = _halted(tx, row, topic, partition)
            begin = standing.divergence if offset is None else offset
            if begin is None:
                raise RegistrationError(
                    f"Where {topic}[{partition}] became another log is not known. Find the first offset that is new and "
                    "give it with --from-offset."
                )
            if not 0 <= begin <= standing.next_offset:
                raise RegistrationError(
                    f"The branch of {topic}[{partition}] must begin at an offset from 0 to its watermark "
                    f"{standing.next_offset}, not at {begin}."
                )
            branch = int(tx.run("insert_branch", incarnation=standing.incarnation)[0].id)
            reason = (
                f"branch of incarnation {standing.incarnation}, which took in up to {standing.next_offset}"
            )
            tx.change(
                "insert_watermarks",
                [{"partition": partition, "next_offset": begin, "reason": reason}],
                consumer=row.id,
                incarnation=branch,
                gate=None,
            )
            tx.run(
                "leave_for_branch",
                consumer=row.id,
                incarnation=standing.incarnation,
                partition=partition,
                detail=f"incarnation {branch} goes on at {begin}",
            )
            return PartitionDecided(branch, begin)

        return self._database.transact(work)

    def resolve_regression(
        self, application: str, name: str, place: tuple[str, int], *, skip: bool
    ) -> PartitionDecided:
        topic, partition = place

        def work(tx: Tx) -> PartitionDecided:
            row = _consumer(tx, application, name)
            standing = _halted(tx, row, topic, partition)
            if standing.regression is None or standing.regression <= standing.next_offset:
                broker = (row.connector or "the broker").capitalize()
                raise RegistrationError(
                    f"{topic}[{partition}] is not halted because of {broker}'s committed offset: {standing.halted}."
                )
            following = standing.regression if skip else standing.next_offset
            where = {"consumer": row.id, "incarnation": standing.incarnation}
            tx.run(
                "release_partition",
                partition=partition,
                next_offset=following,
                reason="skipped by command" if skip else "replayed by command",
                alarm=None,
                **where,
            )
            if skip:
                gap = {"partition": partition, "first_offset": standing.next_offset, "next_offset": following}
                tx.run("insert_explained_gap", reason="skipped by command", **gap, **where)
            return PartitionDecided(standing.incarnation, following)

        return self._database.transact(work)

    def adopt_watermark(self, application: str, name: str, from_group: str, to_group: str) -> None:
        def work(tx: Tx) -> None:
            row = _consumer(tx, application, name)
            if row.group_id != from_group:
                raise RegistrationError(
                    f"Consumer {name!r} reads with the group {row.group_id!r}, not with {from_group!r}."
                )
            _refuse_while_it_runs(tx, row)
            tx.run("change_group", consumer=row.id, group_id=to_group)

        self._database.transact(work)

    def rename_consumer(self, application: str, name: str, to_name: str) -> str:
        def work(tx: Tx) -> str:
            row = _consumer(tx, application, name)
            if tx.one("find_consumer", application=application, name=to_name) is not None:
                raise RegistrationError(f"There is a consumer {to_name!r} already.")
            _refuse_while_it_runs(tx, row)
            by_default = row.group_id == f"{application}.{name}"
            group = f"{application}.{to_name}" if by_default else str(row.group_id)
            tx.run("rename_consumer", consumer=row.id, name=to_name, group_id=group)
            return group

        return self._database.transact(work)

    def clear_alarms(self, application: str, name: str) -> int:
        def work(tx: Tx) -> int:
            return len(tx.run("clear_alarms", consumer=_consumer(tx, application, name).id))

        return self._database.transact(work)


def _consumer(tx: Tx, application: str, name: str) -> Row:
    row = tx.one("find_consumer", application=application, name=name)
    if row is None:
        known = sorted(each.name for each in tx.run("read_consumers", application=application))
        have = f"It has {', '.join(known)}." if known else "It has none; name it with --application."
        raise RegistrationError(f"The application {application!r} has no consumer {name!r}. {have}")
    return row


def _halted(tx: Tx, consumer: Row, topic: str, partition: int) -> Row:
    standing = tx.one("standing_of", consumer=consumer.id, topic=topic, partition=partition)
    if standing is None:
        topics = ", ".join(json.loads(consumer.topics))
        raise RegistrationError(
            f"Consumer {consumer.name!r} has no position in {topic}[{partition}]. It reads {topics}; see "
            f"`{command_of(consumer.connector)} status`."
        )
    if standing.halted is None:
        raise RegistrationError(f"{topic}[{partition}] is not halted: there is nothing to decide.")
    return standing


def _refuse_while_it_runs(tx: Tx, consumer: Row) -> None:
    labels = [row.label for row in tx.run("holders_of", consumer=consumer.id)]
    if labels:
        raise RegistrationError(
            f"Consumer {consumer.name!r} is being read by {', '.join(sorted(labels))}. Stop all its processes first: "
            "members of two groups would take its partitions from each other."
        )

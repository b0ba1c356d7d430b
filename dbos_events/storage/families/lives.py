"""Lives of topics: which one is in use, what was retired, where a partition took another way."""

from __future__ import annotations

import json
from collections.abc import Sequence

from dbos_events.errors import ClusterChanged, RegistrationError, StaleTopic
from dbos_events.model.subscription import covers
from dbos_events.model.topic import TopicHistory
from dbos_events.storage.database import Database, Row, Tx
from dbos_events.storage.families.consumers import command_of
from dbos_events.storage.families.executors import fence

Place = tuple[int, int, int]


class LifeTable:
    """What a running consumer asks and tells (docs/protocol.md, rules 7 and 8)."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def identify(self, consumer: int, cluster_id: str, topic: str, topic_id: str) -> int:
        def work(tx: Tx) -> int | str:
            row = tx.run("lock_consumer", consumer=consumer)[0]
            if cluster_id and row.cluster_id and cluster_id != row.cluster_id:
                tx.run("see_cluster", consumer=consumer, cluster_id=cluster_id)
                return str(row.cluster_id)
            cluster = cluster_id or row.cluster_id or ""
            if cluster != row.cluster_id:
                tx.run("set_cluster", consumer=consumer, cluster_id=cluster)
            return _life(tx, cluster, topic, topic_id)

        found = self._database.transact(work)
        if isinstance(found, str):
            row = self._database.transact(lambda tx: tx.run("lock_consumer", consumer=consumer)[0])
            name, command = row.name, command_of(row.connector)
            raise ClusterChanged(
                f"The brokers belong to the cluster {cluster_id}, and {name!r} has read the cluster {found}. Nothing is "
                f"read until an operator decides: `{command} adopt-cluster {name} --continue` when the topics "
                "have the same offsets here, `--restart` when they are to be read from their beginning. Or mend "
                "bootstrap.servers."
            )
        return found

    def claim_topic(self, consumer: int, topic: str) -> None:
        def work(tx: Tx) -> None:
            own = tx.run("lock_consumer", consumer=consumer)[0]
            for row in tx.run("read_consumers", application=own.application):
                if (
                    row.id != own.id
                    and row.group_id == own.group_id
                    and covers(json.loads(row.topics), topic)
                ):
                    raise RegistrationError(
                        f"The topic {topic} fits what {own.name!r} and {row.name!r} subscribe to with the group "
                        f"{own.group_id!r}, so each would get only a part of its records. It is not read. Narrow a "
                        "pattern, or give one of them another group.id."
                    )

        self._database.transact(work)

    def id_group(self, consumer: int) -> str:
        return str(self._database.transact(lambda tx: tx.run("lock_consumer", consumer=consumer)[0]).id_group)

    def fingerprints(self, workflow_ids: Sequence[str]) -> dict[str, int]:
        rows = self._database.transact(lambda tx: tx.run("read_fingerprints", ids=workflow_ids))
        return {row.workflow_id: row.fingerprint for row in rows}

    def branches(self, consumer: int, incarnation: int) -> dict[int, int]:
        rows = self._database.transact(
            lambda tx: tx.run("branches", consumer=consumer, incarnation=incarnation)
        )
        return {row.partition: row.incarnation for row in rows}

    def unfinished_lives(self, consumer: int, incarnation: int) -> dict[int, frozenset[int]]:
        rows = self._database.transact(
            lambda tx: tx.run("unfinished_lives", consumer=consumer, incarnation=incarnation)
        )
        found: dict[int, frozenset[int]] = {}
        for row in rows:
            found[row.incarnation] = found.get(row.incarnation, frozenset()) | {row.partition}
        return found

    def history(self, consumer: int, topic: str) -> TopicHistory:
        def work(tx: Tx) -> TopicHistory:
            row = tx.run("lock_consumer", consumer=consumer)[0]
            known = tx.one("knows_topic", consumer=consumer, topic=topic, cluster_id=row.cluster_id or "")
            inherited = {}
            if row.adoption == "continue":
                place = {"consumer": consumer, "topic": topic, "cluster_id": row.former_cluster_id}
                inherited = {
                    old.partition: old.next_offset for old in tx.run("positions_in_cluster", **place)
                }
            return TopicHistory(known is not None, row.adoption is not None, inherited)

        return self._database.transact(work)

    def registered(self, consumer: int) -> frozenset[str]:
        rows = self._database.transact(lambda tx: tx.run("subscriptions", consumer=consumer))
        return frozenset(row.subscription for row in rows)

    def register_subscription(self, consumer: int, subscription: str) -> None:
        self._database.transact(
            lambda tx: tx.run("insert_subscription", consumer=consumer, subscription=subscription)
        )

    def skip(self, executor: int, place: Place, epoch: int, offsets: tuple[int, int], alarm: str) -> bool:
        consumer, incarnation, partition = place
        expected, following = offsets

        def work(tx: Tx) -> bool:
            fence(tx, executor)
            where = {"consumer": consumer, "incarnation": incarnation}
            (row,) = tx.run("lock_watermarks", partitions=[partition], **where)
            if row.epoch != epoch or row.next_offset != expected:
                return bool(row.epoch == epoch and row.next_offset == following)  # our own lost commit
            tx.run(
                "skip_offsets",
                partition=partition,
                epoch=epoch,
                expected=expected,
                next_offset=following,
                reason="log start",
                alarm=alarm,
                **where,
            )
            gap = {"partition": partition, "first_offset": expected, "next_offset": following}
            tx.run("insert_explained_gap", reason="retention", **gap, **where)
            return True

        return self._database.transact(work)

    def halt(self, executor: int, place: Place, reason: str, divergence: int | None) -> None:
        consumer, incarnation, partition = place
        self._database.transact(
            lambda tx: tx.run(
                "halt_partition",
                executor=executor,
                consumer=consumer,
                incarnation=incarnation,
                partition=partition,
                reason=reason,
                divergence=divergence,
            )
        )

    def halted_partitions(self, consumer: int, incarnation: int) -> frozenset[int]:
        rows = self._database.transact(
            lambda tx: tx.run("halted_partitions", consumer=consumer, incarnation=incarnation)
        )
        return frozenset(row.partition for row in rows)

    def note_alarm(self, place: Place, alarm: str, regression: int | None) -> None:
        consumer, incarnation, partition = place
        self._database.transact(
            lambda tx: tx.run(
                "note_alarm",
                consumer=consumer,
                incarnation=incarnation,
                partition=partition,
                alarm=alarm,
                regression=regression,
            )
        )


def _life(tx: Tx, cluster: str, topic: str, topic_id: str) -> int:
    """The topic's life in use; an id that was not told before belongs to it, another one begins the next."""
    lives = [row for row in tx.run("lives_of", topic=topic, cluster_id=cluster) if row.branch == 0]
    for row in lives:
        if row.topic_id == topic_id and topic_id:
            return _refuse_retired(tx, row, cluster, topic)
    in_use = next((row for row in lives if not row.retired), None)
    if in_use is not None and (not topic_id or not in_use.topic_id):
        _learn(tx, in_use, cluster, topic, topic_id)
        return int(in_use.id)
    identity = {"cluster_id": cluster, "topic": topic, "topic_id": topic_id}
    tx.run("insert_incarnation", **identity)
    tx.run("retire_lives", **identity)
    return int(tx.run("read_incarnation", **identity)[0].id)


def _refuse_retired(tx: Tx, row: Row, cluster: str, topic: str) -> int:
    if row.retired:
        raise StaleTopic(
            f"A broker tells an id of {topic} that is retired ({row.topic_id}): the topic was made again since. It is "
            "asked again."
        )
    _learn(tx, row, cluster, topic, row.topic_id)
    return int(row.id)


def _learn(tx: Tx, row: Row, cluster: str, topic: str, topic_id: str) -> None:
    """Write down what the life in use was not known by before."""
    if row.cluster_id != cluster or (topic_id and row.topic_id != topic_id):
        tx.run("learn_ids", topic=topic, cluster_id=cluster, topic_id=topic_id or row.topic_id)

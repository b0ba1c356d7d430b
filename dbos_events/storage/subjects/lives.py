"""Lives of topics: which one is in use, what was retired, where a partition took another way."""

from __future__ import annotations

from typing import Protocol

from dbos_events.errors import ClusterChanged, StaleTopic
from dbos_events.model.topic import TopicHistory
from dbos_events.storage.database import Database, Row, Tx
from dbos_events.storage.subjects.consumers import command_of

Place = tuple[int, int, int]


class Lives(Protocol):
    """Incarnations and branches of topics (protocol 7 and 8)."""

    def identify(self, consumer: int, cluster_id: str, topic: str, topic_id: str) -> int:
        """The number of the topic's life in use, new if need be; earlier lives are retired then.

        Raises `StaleTopic` when the id is a retired one, and `ClusterChanged` when the consumer has read another
        cluster and nobody has decided about this one.
        """
        ...

    def branches(self, consumer: int, incarnation: int) -> dict[int, int]:
        """The newest branch of each partition that has one."""
        ...

    def unfinished(self, consumer: int, incarnation: int) -> dict[int, frozenset[int]]:
        """Lives and branches of the same topic that are over, with the partitions that hold ordered events still."""
        ...

    def history(self, consumer: int, topic: str) -> TopicHistory:
        """What the consumer has to do with the topic already."""
        ...

    def save(self, cluster_id: str, topic: str, topic_id: str) -> int:
        """The number of this life of a topic, new if need be."""
        ...


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

    def branches(self, consumer: int, incarnation: int) -> dict[int, int]:
        rows = self._database.transact(
            lambda tx: tx.run("branches", consumer=consumer, incarnation=incarnation)
        )
        return {row.partition: row.incarnation for row in rows}

    def unfinished(self, consumer: int, incarnation: int) -> dict[int, frozenset[int]]:
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

    def save(self, cluster_id: str, topic: str, topic_id: str) -> int:
        def work(tx: Tx) -> int:
            identity = {"cluster_id": cluster_id, "topic": topic, "topic_id": topic_id}
            row = tx.one("read_incarnation", **identity)
            if row is None:
                tx.run("insert_incarnation", **identity)
                row = tx.run("read_incarnation", **identity)[0]
            return int(row.id)

        return self._database.transact(work)


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

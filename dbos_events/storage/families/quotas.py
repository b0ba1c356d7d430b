"""How many events wait behind others of their lane."""

from __future__ import annotations

from dbos_events.storage.database import Database


class QuotaTable:
    """Bounded counts, for quotas of held events (docs/protocol.md, rule 10)."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def count_held(self, consumer: int, incarnation: int, lane_prefix: str, limit: int) -> int:
        rows = self._database.transact(
            lambda tx: tx.run(
                "count_held", consumer=consumer, incarnation=incarnation, lane=lane_prefix, count=limit
            )
        )
        return int(rows[0].held)

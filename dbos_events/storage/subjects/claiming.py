"""One claim: which of the waiting workflows of a queue begin now, in one transaction (docs/protocol.md, rule 22)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from dbos_events.storage.narrow import ALL, Narrow
from dbos_events.storage.subjects.taking import Taker

if TYPE_CHECKING:
    from dbos_events.model.queue import QueueRateLimit, QueueState
    from dbos_events.storage.database import Row, Tx

PAGE = 200
"""Partitions that are looked at together."""

MOST_PAGES = 10
"""After so many the claim gives what it has; the next one goes on from there."""

MOST_PRIORITIES = 50
"""More of them that age are sorted together."""


class Claiming:
    """The claim under way. It leaves behind what the next one wants to know: `changed`, `after`, `wait_ms`."""

    def __init__(
        self,
        tx: Tx,
        taker: Taker,
        queue: QueueState,
        busy: Mapping[str, int],
        after: str,
        *,
        lateral: bool,
        narrow: Narrow = ALL,
    ) -> None:
        self._tx = tx
        self._narrow = narrow
        self._queue = queue
        self._limits = queue.limits
        self._busy = dict(busy)
        self._lateral = lateral
        self._place = {"application": taker.application, "queue": queue.name}
        self._common: dict[str, Any] = {
            **self._place,
            "executor": taker.executor,
            "version": taker.version,
            "names": taker.names,
            "waits": taker.waits,
            "revision": queue.revision,
        }
        self.after = after
        self.changed = False
        self.wait_ms: int | None = None

    def take(self, count: int) -> list[str]:
        """Take up to `count`; gives the ids."""
        limits = self._limits
        room = count
        if limits.shared:
            locked = self._tx.one("lock_queue", **self._place)
            if locked is None or locked.revision != self._queue.revision:
                self.changed = True
                return []
            room = min([room, *self.shared_rooms().values()])
        if room <= 0:
            return []
        if limits.partitioned:
            return [id_ for id_, _ in self._of_partitions(room)]
        rows = self._of_queue(room)
        self._note(rows)
        return [id_ for id_, _ in rows]

    def _note(self, rows: Sequence[tuple[str, str | None]]) -> None:
        """What begins counts from here on, in this claim, too."""
        for _, key in rows:
            if key is not None:
                self._busy[key] = self._busy.get(key, 0) + 1
        if self._narrow.takes and (self._limits.limiter or self._limits.partition_limiter):
            starts = [{**self._place, "queue_partition_key": key} for _, key in rows]
            self._tx.change("insert_start_times", starts)

    # -- limits -------------------------------------------------------------------------------

    def shared_rooms(self) -> dict[str, int]:
        """How many more may begin now over all processes, by the limit."""
        limits, rooms = self._limits, {}
        if limits.concurrency is not None:
            running = self._tx.run("count_running", **self._place)[0].running
            rooms["concurrency"] = limits.concurrency - running
        if limits.limiter is not None:
            self._forget()
            period_ms = _ms(limits.limiter)
            row = self._tx.run("count_starts", **self._place, period_ms=period_ms)[0]
            rooms["limiter"] = limits.limiter["limit"] - row.starts
            if rooms["limiter"] <= 0:
                self._wait(row.frees_in)
        return rooms

    def rooms_of(self, keys: Sequence[str]) -> dict[str, dict[str, int]]:
        """The same within partitions, by key."""
        limits = self._limits
        rooms: dict[str, dict[str, int]] = {key: {} for key in keys}
        if limits.partition_concurrency is not None:
            found = self._tx.batch("count_running_of", named_keys(keys), **self._place)
            running = {row.key: row.running for row in found}
            for key in keys:
                rooms[key]["partition_concurrency"] = limits.partition_concurrency - running.get(key, 0)
        if limits.partition_worker_concurrency is not None:
            for key in keys:
                here = self._busy.get(key, 0)
                rooms[key]["partition_worker_concurrency"] = limits.partition_worker_concurrency - here
        if limits.partition_limiter is not None:
            self._forget()
            period_ms = _ms(limits.partition_limiter)
            rows = self._tx.batch("count_starts_of", named_keys(keys), **self._place, period_ms=period_ms)
            starts = {row.key: row for row in rows}
            for key in keys:
                row = starts.get(key)
                rooms[key]["partition_limiter"] = limits.partition_limiter["limit"] - (
                    row.starts if row else 0
                )
                if row and rooms[key]["partition_limiter"] <= 0:
                    self._wait(row.frees_in)
        return rooms

    def _forget(self) -> None:
        period_ms = max(_ms(one) for one in (self._limits.limiter, self._limits.partition_limiter) if one)
        self._tx.run("forget_starts", **self._place, period_ms=period_ms)

    def _wait(self, frees_in: int | None) -> None:
        if frees_in is not None:
            self.wait_ms = frees_in if self.wait_ms is None else min(self.wait_ms, frees_in)

    # -- taking -------------------------------------------------------------------------------

    def _of_queue(self, room: int) -> list[tuple[str, str | None]]:
        ages = self._ages()
        if ages is None:
            return self._claimed("claim", count=room)
        priorities = [
            row.priority
            for row in self._tx.run("waiting_priorities", **self._place, count=MOST_PRIORITIES + 1)
        ]
        if len(priorities) > MOST_PRIORITIES:
            return self._claimed("claim_aged", count=room, ages_ms=ages)
        if len(priorities) <= 1:
            return self._claimed("claim", count=room)
        common = {name: value for name, value in self._common.items() if name != "executor"}
        first = [
            row
            for priority in priorities
            for row in self._narrow.taking.run(
                self._tx, "first_of_priority", **common, priority=priority, count=room
            )
        ]
        first.sort(key=lambda row: (row.created_at + row.priority * ages, row.start_id))
        chosen = [row.id for row in first[:room]]
        if not self._narrow.takes:
            return [(id_, None) for id_ in chosen]
        place = {name: self._common[name] for name in ("executor", "version")}
        return [(row.id, row.queue_partition_key) for row in self._tx.run("claim_these", **place, ids=chosen)]

    def _of_partitions(self, room: int) -> list[tuple[str, str | None]]:
        taken: list[tuple[str, str | None]] = []
        start, wrapped = self.after, False
        for _ in range(MOST_PAGES):
            keys = self._next_keys()
            if wrapped:
                keys = [key for key in keys if key <= start]
            if keys:
                taken += self._share(keys, room - len(taken))
                if len(taken) >= room:
                    return taken
            if len(keys) < PAGE:
                if wrapped or start == "":
                    self.after = ""
                    return taken
                wrapped, self.after = True, ""
        return taken

    def _next_keys(self) -> list[str]:
        rows = self._tx.run("waiting_partitions", **self._place, after=self.after, count=PAGE)
        return [row.key for row in rows]

    def _share(self, keys: Sequence[str], room: int) -> list[tuple[str, str | None]]:
        """Take of these partitions in equal shares, again of those that have more, while there is room."""
        rooms = {key: min([room, *of.values()]) for key, of in self.rooms_of(keys).items()}
        hungry = [key for key in keys if rooms[key] > 0]
        self.after = keys[-1]
        taken: list[tuple[str, str | None]] = []
        while hungry and len(taken) < room:
            left = room - len(taken)
            turn, later = hungry[:left], hungry[left:]
            if later:
                self.after = turn[-1]
            share = left // len(turn)
            wanted = {key: min(share, rooms[key]) for key in turn}
            got = self._claim_of(wanted)
            self._note(got)
            found = dict.fromkeys(turn, 0)
            for _, key in got:
                found[key or ""] = found.get(key or "", 0) + 1
            taken += got
            for key in turn:
                rooms[key] -= found[key]
            hungry = later + [key for key in turn if found[key] == wanted[key] and rooms[key] > 0]
        if len(taken) < room:
            self.after = keys[-1]
        return taken

    def _claim_of(self, wanted: Mapping[str, int]) -> list[tuple[str, str | None]]:
        ages = self._ages()
        if ages is None and self._lateral:
            rows = [{"partition": key, "room": room} for key, room in wanted.items()]
            return _claimed(self._narrow.batch(self._tx, "claim_partitions", rows, **self._common))
        aged = {} if ages is None else {"ages_ms": ages}
        statement = "claim_partition" if ages is None else "claim_aged_partition"
        return [
            one
            for key, room in wanted.items()
            for one in self._claimed(statement, partition=key, count=room, **aged)
        ]

    def _claimed(self, statement: str, **more: Any) -> list[tuple[str, str | None]]:
        return _claimed(self._narrow.run(self._tx, statement, **self._common, **more))

    def _ages(self) -> int | None:
        """Milliseconds that outweigh one step of priority."""
        ages = self._limits.priority_ages
        return None if ages is None else max(1, round(ages * 1000))


def _claimed(rows: Sequence[Row]) -> list[tuple[str, str | None]]:
    """Ids with the keys of their partitions; of those that were chosen only, the key is not told."""
    return [(row.id, getattr(row, "queue_partition_key", None)) for row in rows]


def _ms(limiter: QueueRateLimit) -> int:
    return round(limiter["period"] * 1000)


def named_keys(keys: Sequence[str | None]) -> list[dict[str, str | None]]:
    """Keys of partitions as rows."""
    return [{"key": key} for key in keys]

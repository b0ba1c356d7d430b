"""From one generation of a workflow to the next (docs/protocol.md, rule 6)."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

from dbos_events.storage.database import Database, Row, Tx
from dbos_events.storage.rows import KeyDecision, UsedKey
from dbos_events.storage.writes import QuarantineNote, Write


class GenerationTable:
    """What the generations before have left to those after them."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def read_divergences(self, workflow_ids: Sequence[str]) -> dict[str, dict[int, int]]:
        found: dict[str, dict[int, int]] = {}
        for row in self._database.transact(lambda tx: tx.run("read_divergences", ids=workflow_ids)):
            found.setdefault(row.workflow_id, {})[row.generation] = row.diverged_at
        return found

    def read_used_keys(
        self, workflow_ids: Sequence[str]
    ) -> dict[str, tuple[list[UsedKey], list[KeyDecision]]]:
        def work(tx: Tx) -> dict[str, tuple[list[UsedKey], list[KeyDecision]]]:
            found: dict[str, tuple[list[UsedKey], list[KeyDecision]]] = {}
            for row in tx.run("read_used_keys", ids=workflow_ids):
                used, _ = found.setdefault(row.workflow_id, ([], []))
                used.append(UsedKey(row.generation, row.name, row.arguments))
            for row in tx.run("read_key_decisions", ids=sorted(found)) if found else ():
                keys = json.loads(row.details).get("keys")
                if keys is not None:
                    found[row.workflow_id][1].append(KeyDecision(row.generation, keys))
            return found

        return self._database.transact(work)


def retry_generations(tx: Tx, executor: int, writes: Sequence[Write]) -> set[tuple[str, int]]:
    """End the generation of each run whose token still holds; gives their ids and takes."""
    retries = [(write, write.retry) for write in writes if write.retry is not None]
    rows = [
        (write.workflow_id, write.take, write.generation, retry.delay_ms, retry.attempt)
        for write, retry in retries
    ]
    begun = {(row.id, row.take) for row in tx.batch("update_retries", rows, executor=executor)}
    ended = [(write, retry) for write, retry in retries if (write.workflow_id, write.take) in begun]
    keep_but(tx, {(write.workflow_id, write.generation): retry.failure.steps for write, retry in ended})
    history = [
        (
            write.workflow_id, write.generation, retry.attempt, "retry", retry.reason, retry.failure.codec,
            retry.failure.error, retry.failure.type, retry.failure.message, False, retry.delay_ms,
        )
        for write, retry in ended
    ]  # fmt: skip
    tx.change("insert_generations", history)
    return begun


def keep_but(tx: Tx, ended: Mapping[tuple[str, int], Sequence[int]]) -> None:
    """Hand the checkpoints of (workflow, generation) on to the next generation, but for these steps."""
    tx.change("move_checkpoints", list(ended))
    failed = [(*key, step) for key, steps in ended.items() for step in steps]
    tx.change("archive_checkpoints", failed)
    tx.change("archive_children", failed)


def is_next_attempt(tokens: Mapping[str, Row], write: Write) -> bool:
    """Whether this very run has given its workflow up for the next attempt: our own lost commit answer."""
    token = tokens.get(write.workflow_id)
    return (
        token is not None
        and token.owner is None
        and (token.take, token.generation) == (write.take, write.generation + 1)
    )


def quarantine_row(workflow_id: str, note: QuarantineNote) -> tuple[object, ...]:
    """The row of an event that is put aside."""
    common = (workflow_id, note.consumer, note.reason, note.error, note.attempts)
    failure = note.failure
    if failure is None:
        return (*common, None, None, None, None)
    return (*common, failure.codec, failure.type, failure.message, json.dumps(failure.steps))

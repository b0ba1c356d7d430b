"""Pushed events as storage tests need them."""

import itertools
from hashlib import blake2b
from typing import Any

from dbos_events.storage.sqldatabase import SqlStorage
from dbos_events.storage.subjects.acceptance import AcceptBatch, Accepted, NewPushed, StoredError
from tests.storage.building import APP

PREFIX = f"file/{APP}.orders/"
CONFLICT = StoredError("json", '{"type": "x"}', "ConflictingDuplicate", "its id was used")
_numbers = itertools.count(50_000)


def consumer_of(storage: SqlStorage, name: str = "orders") -> int:
    return storage.inbox.register(APP, name, "handle", "folder", f"file/{APP}.{name}/", ["in"])


def pushed(consumer: int, event_id: str, *, content: str = "", **fields: Any) -> NewPushed:
    """One event; `content` stands for what its sender has signed."""
    checksum = blake2b(content.encode(), digest_size=16)
    given: dict[str, Any] = {
        "digest": blake2b(f"{consumer} {event_id}".encode(), digest_size=20).hexdigest(),
        "workflow_id": f"{PREFIX}{event_id}",
        "conflict_id": f"{PREFIX}{event_id}#{checksum.hexdigest()}",
        "consumer": consumer,
        "name": "handle",
        "queue": None,
        "lane": None,
        "kept": True,
        "closed": False,
        "start_id": next(_numbers),
        "remembered_ms": 3_600_000,
        "fingerprint": checksum.hexdigest(),
        "checksum": int.from_bytes(checksum.digest()[:8]) >> 1,
        "key": event_id.encode(),
        "value": content.encode(),
        "headers": None,
        "content_type": None,
        "timestamp": 1_700_000_000_000,
        **fields,
    }
    return NewPushed(**given)


def accept(storage: SqlStorage, executor: int, *events: NewPushed) -> list[Accepted]:
    return storage.inbox.accept(AcceptBatch(executor, APP, "v1", events, CONFLICT))

"""Publications: values under a name and a key, for whoever waits for them, now or later."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from hashlib import sha256
from typing import TYPE_CHECKING, NamedTuple

from dbos_events.model.dataclass import dataclass
from dbos_events.storage.writes.waiting import Key, wake
from dbos_events.storage.writes.write import Change

if TYPE_CHECKING:
    from dbos_events.storage.database import Tx
    from dbos_events.storage.writes.member import Batch


@dataclass(frozen=True, slots=True)
class Anchor:
    """Where publishers and waiters meet: an application, a name and a key, each compared letter by letter."""

    application: str
    name: str
    key: str

    @property
    def id(self) -> str:
        """The same for the same three, and for nothing else."""
        return sha256(json.dumps([self.application, self.name, self.key]).encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class NewPublication:
    """One publication. Under its anchor the same `event_id` is the same publication; `ttl_ms` None: it never expires.

    When it expires and nobody has seen it, the workflow `on_expired` is started with that input, which the codec has made.
    """

    at: Anchor
    event_id: str
    codec: str | None
    value: str | None
    publisher: str | None = None
    ttl_ms: int | None = None
    on_expired: str | None = None
    on_expired_input: str | None = None

    @property
    def anchor(self) -> str:
        return self.at.id


@dataclass(slots=True)
class Publish(Change):
    """Publish these."""

    publications: tuple[NewPublication, ...]

    @property
    def fits_one_call(self) -> bool:
        return True


class Publishes:
    """Inserts publications and wakes those that are parked on their anchors."""

    def write(self, batch: Batch) -> None:
        found = [one for _, _, change in batch.changes(Publish) for one in change.publications]
        insert(batch.tx, found)


def anchor_key(anchor: str, since: int = 0) -> Key:
    """That something newer than `since` is published under an anchor."""
    return Key("anchor", anchor, since=since)


class AnchorRow(NamedTuple):
    """A row of `anchors`."""

    id: str
    application: str
    name: str
    key: str


def anchor_rows(anchors: Iterable[Anchor]) -> list[AnchorRow]:
    """The rows of anchors, each once, in the order in which they are locked."""
    known = {anchor.id: anchor for anchor in anchors}
    return [AnchorRow(id_, one.application, one.name, one.key) for id_, one in sorted(known.items())]


def hold_anchors(tx: Tx, anchors: Iterable[Anchor]) -> None:
    """Make the rows of anchors that are not there, and lock all of them until the transaction ends."""
    rows = anchor_rows(anchors)
    if rows:
        tx.change("insert_anchors", tx.rows("insert_anchors", [(row,) for row in rows]))
        tx.run("lock_anchors", ids=[row.id for row in rows])


class _Row(NamedTuple):
    place: int
    anchor: str
    event_id: str
    codec: str | None
    value: str | None
    publisher: str | None
    ttl_ms: int | None
    on_expired: str | None
    on_expired_input: str | None


def publish(tx: Tx, publications: Sequence[NewPublication]) -> None:
    """Insert publications under the locks of their anchors, and wake who is parked there."""
    hold_anchors(tx, [one.at for one in publications])
    insert(tx, publications)


def insert(tx: Tx, publications: Sequence[NewPublication]) -> None:
    """As `publish`, where the anchors are locked already."""
    if not publications:
        return
    tx.change("insert_publications", tx.rows("insert_publications", numbered(publications)))
    wake(tx, keys_of_publications(publications))


def numbered(publications: Sequence[NewPublication]) -> list[tuple[_Row]]:
    """Publications with their places among those that are inserted at once."""
    return [
        (
            _Row(
                place,
                one.anchor,
                one.event_id,
                one.codec,
                one.value,
                one.publisher,
                one.ttl_ms,
                one.on_expired,
                one.on_expired_input,
            ),
        )
        for place, one in enumerate(publications)
    ]


def keys_of_publications(publications: Iterable[NewPublication]) -> list[Key]:
    """What becomes true with these."""
    return [anchor_key(anchor) for anchor in sorted({one.anchor for one in publications})]

"""What a parked run can wait for beside a time: keys, and the kinds that there are.

A key names one thing that becomes true. A kind says how to look whether it is true, and which rows must be locked before,
so that whoever makes it true comes before the look or after the parking. A new kind is one `Kind` in `KINDS` and the
statements that it names.

Whoever makes a key true has the row locked on which both sides meet (`meets_at`), changes what there is to change, and
then, in a statement of its own, wakes those that are parked on the key: `wake`, or the statement `wake_waiting` where the
waiters are known by their ids. After the commit it signals the channel of the hub, for those that wait in memory,
and `timers`, for those that were parked.
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256
from typing import TYPE_CHECKING

from dbos_events.model.dataclass import dataclass

if TYPE_CHECKING:
    from dbos_events.storage.database import Tx

SEVERAL = "*"
"""In the column `awaits` of a run that waits for more than one key; the keys are rows of `parked_keys`."""


MOST_CHARACTERS = 300
"""Of a detail within the text of a key."""


@dataclass(frozen=True, slots=True)
class Key:
    """Something that a run waits for.

    `subject` is what it is about, mostly a workflow; `detail` is what of it; `since` is how far the run has got
    already, which only the look needs.
    """

    kind: str
    subject: str
    detail: str | None = None
    since: int = 0

    @property
    def text(self) -> str:
        """As the database holds it; different keys have different ones, unless one detail is the digest of another."""
        if self.detail is None:
            return f"{self.kind}:{self.subject}"
        subject = self.subject.replace("%", "%25").replace("/", "%2F")
        detail = self.detail
        if len(detail) > MOST_CHARACTERS:  # an index does not take them
            detail = sha256(detail.encode("utf-8", "surrogatepass")).hexdigest()
        return f"{self.kind}/{subject}/{detail}"


def result_key(workflow_id: str) -> Key:
    """That this workflow has ended."""
    return Key("workflow", workflow_id)


@dataclass(frozen=True, slots=True)
class Kind:
    """How keys of one kind are looked at when a run parks.

    `look` is the statement that answers for rows of (number, waiter, subject, detail, since) with those that need
    not wait: `number`, `is_true`, and `polls` where nobody might wake the run, so that it has to look now and then.
    `meets_at` is the statement that locks, by `ids`, the subjects on which both sides meet; None where that is the row
    of the waiter itself, which is locked in any case.
    """

    name: str
    look: str
    meets_at: str | None = "lock_awaited"


KINDS: dict[str, Kind] = {
    kind.name: kind
    for kind in (  # in the lock order: anchors, then workflows
        Kind("anchor", look="look_for_publications", meets_at="lock_anchors"),
        Kind("workflow", look="look_for_endings"),
        Kind("value", look="look_for_values", meets_at="lock_published"),
        Kind("stream", look="look_for_entries", meets_at="lock_published"),
        Kind("committed", look="look_for_committed_entries", meets_at="lock_published"),
        Kind("message", look="look_for_messages", meets_at=None),
    )
}
"""All kinds of keys."""

PUBLISHED = ("value", "stream", "committed")
"""Kinds that are about what a workflow publishes: its end makes all its keys true."""


@dataclass(frozen=True, slots=True)
class ParkedKey:
    """One key of one parked run; `number` says which park it belongs to."""

    number: int
    waiter: str
    key: Key


def lock_meetings(tx: Tx, waiting: Sequence[ParkedKey]) -> None:
    """Lock the rows on which the waiters meet those who make their keys true."""
    subjects: dict[str, set[str]] = {kind.meets_at: set() for kind in KINDS.values() if kind.meets_at}
    for one in waiting:
        meets_at = KINDS[one.key.kind].meets_at
        if meets_at is not None:
            subjects[meets_at].add(one.key.subject)
    for statement, ids in subjects.items():
        if ids:
            tx.run(statement, ids=sorted(ids))


def look_again(tx: Tx, waiting: Sequence[ParkedKey]) -> tuple[set[int], set[int]]:
    """The numbers of those that have a key which is true, and of those that have to look now and then."""
    true: set[int] = set()
    polling: set[int] = set()
    for kind in KINDS.values():
        rows = [
            {
                "number": one.number,
                "waiter": one.waiter,
                "subject": one.key.subject,
                "detail": one.key.detail,
                "since": one.key.since,
            }
            for one in waiting
            if one.key.kind == kind.name
        ]
        for row in tx.batch(kind.look, rows):
            (true if row.is_true else polling).add(row.number)
    return true, polling


def wake(tx: Tx, keys: Sequence[Key]) -> list[str]:
    """Wake whoever is parked on one of these keys, once they are true; gives their ids.

    With the end of a workflow all waits for what it publishes are over, too.
    """
    woken = [row.id for row in tx.run("wake_parked", keys=[key.text for key in keys])]
    ended = [key.subject for key in keys if key.kind == "workflow"]
    marked = [row.id for row in tx.run("read_marked", ids=ended)] if ended else ()
    return woken + wake_readers(tx, marked)


def wake_readers(tx: Tx, ended: Sequence[str]) -> list[str]:
    """Wake whoever is parked for what these workflows publish: they have ended."""
    prefixes = [Key(kind, one, "").text for one in ended for kind in PUBLISHED]
    return [
        row.id
        for prefix in prefixes  # all keys that begin so come before the one that ends in 0, which follows the slash
        for row in tx.run("wake_readers", first=prefix, beyond=f"{prefix[:-1]}0")
    ]

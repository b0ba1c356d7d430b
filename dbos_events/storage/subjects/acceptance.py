"""The transaction that accepts pushed events (docs/protocol.md, rule 26).

Its statements take their locks in one order in every process: the executor's row, the ids by their digest, the lanes by
their name; workflows are only inserted.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple

from dbos_events.model.dataclass import dataclass, field
from dbos_events.storage.database import Row, Tx
from dbos_events.storage.rollback import RollBack
from dbos_events.storage.shapes import named
from dbos_events.storage.subjects.executors import fence


class NewPushed(NamedTuple):
    """One event to accept.

    `digest` stands for endpoint, handler and id; `workflow_id` for the workflow, None where the consumer's `when` said no.
    `conflict_id` is the workflow that it is kept as, if its id was used with another `fingerprint`. `kept` says that
    the caller can run it at once; `closed`, that it is taken in only if it was before. `refusal` is (codec, stored
    error) of what keeps its handler from being called.
    """

    digest: str
    workflow_id: str | None
    conflict_id: str
    consumer: int
    name: str
    queue: str | None
    lane: str | None
    kept: bool
    closed: bool
    start_id: int
    remembered_ms: int
    fingerprint: str
    checksum: int
    key: bytes
    value: bytes
    headers: str | None
    content_type: str | None
    timestamp: int
    refusal: tuple[str, str] | None = None


class StoredError(NamedTuple):
    """Why an event is put aside: as its codec stores it, and for people."""

    codec: str
    error: str
    type: str
    message: str


@dataclass(frozen=True, slots=True)
class AcceptBatch:
    """Events of one application that are accepted in one transaction. `conflict` is said of conflicting ones."""

    executor: int
    application: str
    version: str
    events: tuple[NewPushed, ...]
    conflict: StoredError


class Accepted(NamedTuple):
    """What became of one event.

    `closed`: nothing, it was not known. Of an accepted one, `owned` says that the caller has to run it now.
    """

    kind: Literal["accepted", "duplicate", "conflicting-duplicate", "filtered", "closed"]
    workflow_id: str | None = None
    owned: bool = False


class NothingNew(RollBack):
    """Rolls an acceptance back that has changed nothing: its fence alone would make the commit wait for the disk."""

    def __init__(self, results: list[Accepted]) -> None:
        self.results = results


class Forgotten(RollBack):
    """Rolls an acceptance back: an id was there at one statement, and forgotten at the next."""


@dataclass(slots=True)
class _Acceptance:
    """One batch under way. `first` is the first event of each digest: the others come after it in the same batch."""

    tx: Tx
    batch: AcceptBatch
    first: dict[str, NewPushed] = field(default_factory=dict)
    results: dict[str, Accepted] = field(default_factory=dict)
    known: dict[str, str] = field(default_factory=dict)
    conflicts: dict[str, NewPushed] = field(default_factory=dict)

    def result(self, event: NewPushed) -> Accepted:
        if event.conflict_id in self.conflicts:
            return Accepted("conflicting-duplicate", event.conflict_id)
        found = self.results[event.digest]
        if found.kind == "accepted" and event is not self.first[event.digest]:
            return Accepted("duplicate", found.workflow_id)
        return found


def accept(tx: Tx, batch: AcceptBatch) -> list[Accepted]:
    """What becomes of each event of a batch, in order.

    Raises:
        NothingNew: None of them is new; the answers are in it.
        Forgotten: To be begun anew.
    """
    tx.run("bound_accept")
    fence(tx, batch.executor)
    work = _Acceptance(tx, batch)
    for event in batch.events:
        work.first.setdefault(event.digest, event)
    fresh = _see(work)
    new = [event for event in work.first.values() if event.digest in fresh]
    _insert(work, [event for event in new if event.workflow_id is not None])
    _compare(work)
    put_aside = _put_conflicts_aside(work)
    results = [work.result(event) for event in batch.events]
    if not fresh and not put_aside:
        raise NothingNew(results)
    return results


def _see(work: _Acceptance) -> set[str]:
    """Remember the ids; gives the digests that are new."""
    wanted = sorted(digest for digest, event in work.first.items() if not event.closed)
    rows = work.tx.rows("insert_seen", [(work.first[digest],) for digest in wanted])
    fresh = {row.digest for row in work.tx.batch("insert_seen", rows)}
    for digest, event in work.first.items():
        work.known[digest] = event.fingerprint
        if digest in fresh:
            work.results[digest] = Accepted(
                "accepted" if event.workflow_id else "filtered", event.workflow_id
            )
    missing = [digest for digest in work.first if digest not in fresh]
    found = {row.digest: row for row in work.tx.run("read_seen", digests=missing)} if missing else {}
    mine: list[NewPushed] = []
    for digest in missing:
        event, row = work.first[digest], found.get(digest)
        if row is None:
            if not event.closed:
                raise Forgotten
            work.results[digest] = Accepted("closed")
        else:
            work.known[digest] = row.fingerprint
            work.results[digest] = Accepted("duplicate" if row.workflow_id else "filtered", row.workflow_id)
            if row.start_id == event.start_id:
                mine.append(event)
    _recognise(work, mine)
    return fresh


def _recognise(work: _Acceptance, mine: Sequence[NewPushed]) -> None:
    """What an earlier try of this very call has inserted, whose commit answer was lost, is accepted."""
    ids = [event.workflow_id for event in mine if event.workflow_id is not None]
    rows = {row.id: row for row in work.tx.run("read_accepted", ids=ids)} if ids else {}
    for event in mine:
        row = rows.get(event.workflow_id)
        if row is not None and row.start_id == event.start_id:
            owned = row.owner == work.batch.executor and row.take == 1 and row.status == "PENDING"
            work.results[event.digest] = Accepted("accepted", event.workflow_id, owned)


def _compare(work: _Acceptance) -> None:
    """Find the events whose id was used with another fingerprint."""
    for event in work.batch.events:
        if not _is_same(event, work.known[event.digest]) and work.results[event.digest].kind != "closed":
            work.conflicts[event.conflict_id] = event


def _is_same(event: NewPushed, fingerprint: str) -> bool:
    """Whether the event is the one of which the fingerprint is remembered; of an old one, that is only its checksum."""
    return fingerprint in (event.fingerprint, f"~{event.checksum}")


def _insert(work: _Acceptance, events: Sequence[NewPushed]) -> None:
    """Insert workflows and events of ids that were never seen."""
    if not events:
        return
    rows = _placed(work.tx, events)
    count = work.tx.change(
        "insert_pushed_workflows",
        rows,
        executor=work.batch.executor,
        application=work.batch.application,
        version=work.batch.version,
    )
    for event, row in zip(events, rows, strict=True):
        work.results[event.digest] = Accepted("accepted", event.workflow_id, bool(row["owned"]))
    inserted = list(events)
    if count < len(events):
        inserted = _without_known(work, events, rows)
    _insert_events(work.tx, [(event.workflow_id, event) for event in inserted])
    refused = [(event.workflow_id, *event.refusal) for event in inserted if event.refusal is not None]
    work.tx.change("insert_payloads", named(refused, "workflow_id", "codec", "input"))


def _placed(tx: Tx, events: Sequence[NewPushed]) -> list[dict[str, object]]:
    """The rows of the workflows, each with its place in its lane, taken under the lock of the lane's row."""
    counts = Counter((event.consumer, event.lane) for event in events if event.lane is not None)
    following: dict[tuple[int, str], int] = {}
    taken: set[tuple[int, str]] = set()
    if counts:
        lanes = [(*key, counts[key]) for key in sorted(counts)]
        for row in tx.batch("advance_lanes", named(lanes, "consumer", "lane", "events")):
            following[row.consumer, row.lane] = row.next_sequence - counts[row.consumer, row.lane]
        open_lanes = tx.batch("open_pushed_lanes", named(sorted(counts), "consumer", "lane"))
        taken = {(row.consumer, row.lane) for row in open_lanes}
    rows: list[dict[str, object]] = []
    for event in events:
        sequence, held, owned = None, None, event.kept and event.queue is None
        if event.lane is not None:
            key = (event.consumer, event.lane)
            sequence = following[key]
            following[key] += 1
            held = key in taken
            owned = owned and not held
            taken.add(key)
        rows.append(
            {
                "workflow_id": event.workflow_id,
                "name": event.name,
                "queue": event.queue,
                "consumer": event.consumer,
                "lane": event.lane,
                "lane_sequence": sequence,
                "start_id": event.start_id,
                "owned": owned,
                "held": held,
            }
        )
    return rows


def _without_known(
    work: _Acceptance, events: Sequence[NewPushed], rows: Sequence[Mapping[str, object]]
) -> list[NewPushed]:
    """The events without those whose workflow was there though their id was not remembered; those are judged by it."""
    found: dict[str, Row] = {
        row.id: row for row in work.tx.run("read_accepted", ids=[event.workflow_id for event in events])
    }
    inserted: list[NewPushed] = []
    headless: set[object] = set()
    ready: list[str] = []
    corrected: list[tuple[str, str]] = []
    for event, row in zip(events, rows, strict=True):
        known = found[str(event.workflow_id)]
        lane = (event.consumer, event.lane)
        if known.start_id != event.start_id:
            work.results[event.digest] = Accepted("duplicate", event.workflow_id)
            # A workflow that this consumer did not start has nothing in common with the event.
            ours = known.fingerprint if known.consumer == event.consumer else "another's"
            if not _is_same(event, f"~{ours}"):
                work.known[event.digest] = f"~{ours}"
                corrected.append((event.digest, f"~{ours}"))
            if row["held"] is False:
                headless.add(lane)
            continue
        inserted.append(event)
        if event.lane is not None and lane in headless:
            headless.discard(lane)
            ready.append(known.id)
    if ready:
        work.tx.run("make_heads_ready", ids=ready)
    work.tx.change("correct_seen", named(corrected, "digest", "fingerprint"))
    return inserted


def _put_conflicts_aside(work: _Acceptance) -> set[str]:
    """Keep events whose id was used with other content, each once; gives the ids of those that are new."""
    if not work.conflicts:
        return set()
    tx, conflicts, why = work.tx, work.conflicts, work.batch.conflict
    rows = [
        {"workflow_id": id_, "name": one.name, "consumer": one.consumer, "start_id": one.start_id}
        for id_, one in sorted(conflicts.items())
    ]
    found = tx.batch(
        "insert_conflicting", rows, application=work.batch.application, version=work.batch.version
    )
    new = sorted(row.id for row in found)
    _insert_events(tx, [(id_, conflicts[id_]) for id_ in new])
    results = [(id_, why.codec, None, why.error) for id_ in new]
    tx.change("insert_results", named(results, "workflow_id", "codec", "output", "error"))
    notes = [
        {
            "workflow_id": id_,
            "consumer": conflicts[id_].consumer,
            "reason": "conflicting-duplicate",
            "error": why.error,
            "attempts": 0,
            "codec": why.codec,
            "error_type": why.type,
            "error_message": why.message,
            "failed_steps": "[]",
        }
        for id_ in new
    ]
    tx.change("insert_quarantine", notes)
    return set(new)


def _insert_events(tx: Tx, events: Sequence[tuple[str | None, NewPushed]]) -> None:
    rows = [
        {
            "workflow_id": id_,
            "key": event.key,
            "value": event.value,
            "headers": event.headers,
            "content_type": event.content_type,
            "timestamp": event.timestamp,
            "fingerprint": event.checksum,
        }
        for id_, event in events
    ]
    tx.change("insert_pushed_events", rows)

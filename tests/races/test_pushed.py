"""Rule 26: two acceptances of one event, of one lane, and whoever takes, ends, discards or forgets meanwhile."""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import pytest

from dbos_events.storage.sqldatabase import SqlStorage
from dbos_events.storage.subjects.lanes import LanePlace
from dbos_events.storage.subjects.quarantine import OperatorDecision
from tests.races.interleaving import Operation, Race
from tests.storage.building import end, quarantine, read, register, write
from tests.storage.inboxes import accept, consumer_of, pushed

BY = OperatorDecision("ada@desk", "because")


@dataclass
class Two:
    """Two processes of one application, and its consumer."""

    consumer: int
    first: int
    second: int


def two(storage: SqlStorage) -> Two:
    return Two(consumer_of(storage), register(storage, "a"), register(storage, "b"))


def with_head(storage: SqlStorage) -> Two:
    """The first process runs the head of the lane `k`, and another event waits behind it."""
    made = two(storage)
    accept(storage, made.first, pushed(made.consumer, "head", lane="k"))
    accept(storage, made.first, pushed(made.consumer, "next", lane="k"))
    return made


def with_poison(storage: SqlStorage) -> Two:
    """The head of the lane is in quarantine."""
    made = two(storage)
    accept(storage, made.first, pushed(made.consumer, "head", lane="k"))
    write(storage, made.first, quarantine("file/shop.orders/head", made.consumer))
    return made


def with_forgotten(storage: SqlStorage) -> Two:
    """An id whose time is over; its workflow is still there."""
    made = two(storage)
    accept(storage, made.first, pushed(made.consumer, "head", remembered_ms=-1))
    return made


# ------------------------------------------------------------------ what they do


def takes_in(by: str, *names: str, content: str = "", lane: str | None = None) -> Operation[Two]:
    def work(made: Two, storage: SqlStorage) -> object:
        events = [pushed(made.consumer, name, content=content, lane=lane) for name in names]
        return [found.kind for found in accept(storage, getattr(made, by), *events)]

    return work


def takes_lane(by: str) -> Operation[Two]:
    def work(made: Two, storage: SqlStorage) -> object:
        place = LanePlace(made.consumer, 0, None, 0)
        found = storage.lanes.take(getattr(made, by), place, ["k"], 4, {"handle": None})
        return found is not None and [row.id for row in found["k"].rows]

    return work


def ends(made: Two, storage: SqlStorage) -> object:
    write(storage, made.first, end("file/shop.orders/head"))
    return takes_lane("first")(made, storage)  # as whoever ran it does


def discards(_: Two, storage: SqlStorage) -> object:
    return storage.quarantine.discard(["file/shop.orders/head"], BY)


def forgets(_: Two, storage: SqlStorage) -> object:
    return storage.inbox.forget(10)


def forgets_lanes(_: Two, storage: SqlStorage) -> object:
    return storage.inbox.forget_lanes(-1)


# ------------------------------------------------------------------ what must hold


def once(_: Two, storage: SqlStorage) -> None:
    """Each id has one workflow, and each workflow its event."""
    workflows = {row.id for row in read(storage, "SELECT id FROM {schema}.workflows")}
    events = {row.workflow_id for row in read(storage, "SELECT workflow_id FROM {schema}.events")}
    assert workflows == events
    seen = [row.workflow_id for row in read(storage, "SELECT workflow_id FROM {schema}.seen")]
    assert len(seen) == len(set(seen))
    assert set(seen) <= workflows


def lane_goes_on(made: Two, storage: SqlStorage) -> None:
    """The first event of the lane runs, is ready, or waits for a decision; those behind it wait, each with its number."""
    once(made, storage)
    rows = read(storage, "SELECT * FROM {schema}.workflows WHERE lane_open ORDER BY lane_sequence")
    assert len({row.lane_sequence for row in rows}) == len(rows)
    if rows and rows[0].status == "PENDING":
        assert rows[0].owner is not None or not rows[0].held, f"{rows[0].id} is forgotten"
    for earlier, later in pairwise(rows):
        assert later.owner is None or earlier.owner == later.owner, f"{later.id} runs past {earlier.id}"


Case = tuple[Callable[[SqlStorage], Two], Operation[Two], Operation[Two], Operation[Two]]
CASES: dict[str, Case] = {
    "the same event twice": (two, takes_in("first", "e"), takes_in("second", "e"), once),
    "the same events in other orders": (
        two,
        takes_in("first", "e", "f", "g"),
        takes_in("second", "g", "f", "e"),
        once,
    ),
    "one id with two contents": (two, takes_in("first", "e"), takes_in("second", "e", content="other"), once),
    "two first events of a lane": (
        two,
        takes_in("first", "e", lane="k"),
        takes_in("second", "f", lane="k"),
        lane_goes_on,
    ),
    "a new event, and the end of the head": (
        with_head,
        takes_in("second", "f", lane="k"),
        ends,
        lane_goes_on,
    ),
    "a new event, and another process that asks": (
        with_head,
        takes_in("first", "f", lane="k"),
        takes_lane("second"),
        lane_goes_on,
    ),
    "a new event, and a discarded head": (
        with_poison,
        takes_in("second", "f", lane="k"),
        discards,
        lane_goes_on,
    ),
    "a redelivery, and the end of its time": (with_forgotten, takes_in("second", "head"), forgets, once),
    "a new event, and its lane forgotten": (
        with_forgotten,
        takes_in("second", "f", lane="k"),
        forgets_lanes,
        lane_goes_on,
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_in_every_order_of_their_statements_each_event_is_accepted_once_and_each_lane_goes_on(
    case: str, race: Race
) -> None:
    scene, one, other, must_hold = CASES[case]
    race(scene, one, other, must_hold=must_hold, serial=False)
    assert race.tried

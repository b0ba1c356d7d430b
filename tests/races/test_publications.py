"""Rule 19: a publication and its waiter find each other, and one waiter takes it, statement by statement."""

from dataclasses import dataclass

import pytest

from dbos_events.storage.sqldatabase import SqlStorage
from dbos_events.storage.subjects.quarantine import OperatorDecision
from dbos_events.storage.writes import (
    Anchor,
    Awaited,
    Match,
    NewPublication,
    Publish,
    Register,
    Written,
    anchor_key,
)
from tests.races.interleaving import Operation, Race
from tests.storage.building import APP, begin, park, read, register, step, workflow, write

PLACE = Anchor(APP, "payment", "1")


@dataclass
class Scene:
    """Two workflows that want the same, each on an executor of its own."""

    first: int
    second: int


def empty(storage: SqlStorage) -> Scene:
    made = Scene(register(storage, "a"), register(storage, "b"))
    begin(storage, made.first, "first")
    begin(storage, made.second, "second")
    return made


def publication(number: int = 1) -> NewPublication:
    return NewPublication(PLACE, f"event:{number}", "json", str(number))


def with_one(storage: SqlStorage) -> Scene:
    made = empty(storage)
    storage.publications.publish([publication()])
    return made


def registers(storage: SqlStorage, executor: int, workflow_id: str, *, takes: bool) -> object:
    note = step(workflow_id, -1, write_id=3)
    note.change = Register(1, (Awaited(PLACE, takes),))
    return [isinstance(one, Written) for one in write(storage, executor, note)]


def waits(*, takes: bool) -> Operation[Scene]:
    """Register, look, and park: three transactions, as a run does it."""

    def work(made: Scene, storage: SqlStorage) -> object:
        registers(storage, made.first, "first", takes=takes)
        if storage.publications.next_of("first", 1, (Awaited(PLACE, takes),)):
            return "found"
        write(storage, made.first, park("first", keys=[anchor_key(PLACE.id)]))
        return "parked"

    return work


def publishes(_: Scene, storage: SqlStorage) -> object:
    storage.publications.publish([publication()])
    return "published"


def publishes_in_a_workflow(made: Scene, storage: SqlStorage) -> object:
    sent = step("second", 1, write_id=5)
    sent.change = Publish((publication(),))
    return [isinstance(one, Written) for one in write(storage, made.second, sent)]


def finds_or_wakes(_: Scene, storage: SqlStorage) -> None:
    row = workflow(storage, "first")
    assert row.owner is not None or row.wake_at is not None, "it would wait for ever"
    assert storage.publications.next_of("first", 1, (Awaited(PLACE, True),))


@pytest.mark.parametrize("takes", [False, True])
@pytest.mark.parametrize("publish", [publishes, publishes_in_a_workflow])
def test_rule_19_a_waiter_that_goes_to_sleep_hears_of_the_publication(
    race: Race, publish: Operation[Scene], takes: bool
) -> None:
    race(empty, waits(takes=takes), publish, must_hold=finds_or_wakes, serial=False)


def test_rule_19_a_parking_alone_against_a_publication(race: Race) -> None:
    def registered(storage: SqlStorage) -> Scene:
        made = empty(storage)
        registers(storage, made.first, "first", takes=True)
        return made

    def parks(made: Scene, storage: SqlStorage) -> object:
        return [
            isinstance(one, Written)
            for one in write(storage, made.first, park("first", keys=[anchor_key(PLACE.id)]))
        ]

    def wakes(_: Scene, storage: SqlStorage) -> None:
        row = workflow(storage, "first")
        assert (row.owner, row.awaits) == (None, None)
        assert row.wake_at is not None

    race(registered, parks, publishes, must_hold=wakes)


def takes_it(who: str) -> Operation[Scene]:
    def work(made: Scene, storage: SqlStorage) -> object:
        awaited = (Awaited(PLACE, True),)
        found = storage.publications.next_of(who, 1, awaited)
        if not found:
            return "nothing"
        taken = step(who, 1, output=found[0].value, write_id=7)
        taken.change = Match(awaited, ((0, found[0].number),))
        return [type(one) for one in write(storage, getattr(made, who), taken)]

    return work


def taken_once(_: Scene, storage: SqlStorage) -> None:
    [row] = read(storage, "SELECT outcome, taken_by FROM {schema}.publications")
    steps = [len(storage.workflows.list_steps(who)) for who in ("first", "second")]
    assert row.outcome == "taken"
    assert steps == [int(row.taken_by == "first"), int(row.taken_by == "second")], (
        "the value and the mark, or neither"
    )


def test_rule_19_of_two_who_take_at_once_one_gets_it(race: Race) -> None:
    race(with_one, takes_it("first"), takes_it("second"), must_hold=taken_once, serial=False)


def test_rule_19_who_takes_against_an_operator_who_gives_it_up(race: Race) -> None:
    def decided(_: Scene, storage: SqlStorage) -> None:
        [row] = read(storage, "SELECT outcome, seen FROM {schema}.publications")
        assert (row.outcome, row.seen) in ((None, 0), ("taken", 1), ("discarded", 0))
        assert (row.outcome == "taken") == bool(storage.workflows.list_steps("first"))

    race(
        with_one,
        takes_it("first"),
        lambda _, storage: storage.publications.discard(
            read(storage, "SELECT number FROM {schema}.publications")[0].number, OperatorDecision("somebody")
        ),
        must_hold=decided,
        serial=False,
    )


def test_rule_19_the_same_event_published_twice_at_once_is_one(race: Race) -> None:
    def once(_: Scene, storage: SqlStorage) -> None:
        assert len(read(storage, "SELECT 1 FROM {schema}.publications")) == 1

    race(empty, publishes, publishes_in_a_workflow, must_hold=once, serial=False)


def test_rule_19_a_take_whose_answer_was_lost_is_not_lost(race: Race) -> None:
    def again(made: Scene, storage: SqlStorage) -> object:
        awaited = (Awaited(PLACE, True),)
        [row] = read(storage, "SELECT number FROM {schema}.publications")
        taken = step("first", 1, output="1", write_id=7)
        taken.change = Match(awaited, ((0, row.number),))
        answers = [*write(storage, made.first, taken), *write(storage, made.first, taken)]
        return [isinstance(one, Written) for one in answers]

    race(with_one, again, takes_it("second"), must_hold=taken_once, serial=False)


def over(_: Scene, storage: SqlStorage) -> object:
    return storage.publications.expire(1, 10).ended


def gets_it(*, takes: bool) -> Operation[Scene]:
    def work(made: Scene, storage: SqlStorage) -> object:
        awaited = (Awaited(PLACE, takes),)
        [row] = read(storage, "SELECT number FROM {schema}.publications")
        got = step("first", 1, output="1", write_id=7)
        got.change = Match(awaited, ((0, row.number),))  # it has looked before the time was over
        return [type(one) for one in write(storage, made.first, got)]

    return work


@pytest.mark.parametrize("takes", [False, True], ids=["seen", "taken"])
def test_rule_19_one_that_is_over_has_its_workflow_or_somebody_has_got_it(race: Race, takes: bool) -> None:
    def at_its_end(storage: SqlStorage) -> Scene:
        made = empty(storage)
        storage.publications.publish(
            [NewPublication(PLACE, "event:1", "json", "1", None, 0, "returned", '{"args":[1],"kwargs":{}}')]
        )
        return made

    def decided(_: Scene, storage: SqlStorage) -> None:
        [row] = read(storage, "SELECT outcome FROM {schema}.publications")
        handled = read(storage, "SELECT 1 FROM {schema}.workflows WHERE name = 'returned'")
        got = storage.workflows.list_steps("first")
        assert (row.outcome, len(handled), len(got)) in (
            ("expired", 1, 0), ("over", 0, 1), ("taken", 0, 1), (None, 0, 1),
        )  # fmt: skip

    race(at_its_end, gets_it(takes=takes), over, must_hold=decided, serial=False)

"""The checker sees each thing that may go wrong between workflows that talk.

Each test plants one defect into a conversation that is sound: what the product would leave behind, if it had it.
"""

from collections.abc import Callable

import pytest

from tests.chaos.check import Executors
from tests.chaos.conversations import (
    DEADLINES,
    MESSAGES,
    PUBLICATIONS,
    QUEUED,
    SHOWN,
    THEMES,
    pair_up,
    read_value,
)
from tests.chaos.events import TALK, make_events
from tests.chaos.findings import (
    CUT_OFF,
    DISORDER,
    LOST,
    OTHERWISE,
    STRANGE,
    TWICE,
    WENT_BACK,
)
from tests.chaos.hearing import LATE_MS
from tests.chaos.plan import ORDERINGS, Plan
from tests.chaos.said import Answer, Entry, Hearing
from tests.chaos.spoken import FIRST, SECOND, Spoken

Planted = Callable[[Spoken], None]


@pytest.mark.parametrize("theme", THEMES)
def test_a_conversation_in_which_all_is_well_passes(theme: str) -> None:
    assert Spoken(theme).found() == {}


# ------------------------------------------------------------------ messages


def drop_message(spoken: Spoken) -> None:
    del spoken.said.messages[1]


def consume_without_checkpoint(spoken: Spoken) -> None:
    """Its checkpoint was written in another transaction, which did not come: the next message has its place."""
    spoken.said.messages[0] = spoken.said.messages[0]._replace(consumed_step=99)


def checkpoint_without_consuming(spoken: Spoken) -> None:
    spoken.said.messages[0] = spoken.said.messages[0]._replace(consumed_step=None)


def send_twice(spoken: Spoken) -> None:
    spoken.said.messages.insert(1, spoken.said.messages[0])


def receive_twice(spoken: Spoken) -> None:
    answers = spoken.said.answers[spoken.third]
    answers[1] = answers[1]._replace(value=answers[0].value)


def send_out_of_order(spoken: Spoken) -> None:
    messages = spoken.said.messages
    messages[0], messages[1] = messages[1], messages[0]


def receive_out_of_order(spoken: Spoken) -> None:
    messages, answers = spoken.said.messages, spoken.said.answers[spoken.third]
    values = [answers[1].value, answers[0].value]
    for number, value in enumerate(values):
        answers[number] = answers[number]._replace(value=value)
        spoken.said.heard[spoken.third][number] = [Hearing(value)]
    messages[0], messages[1] = (messages[number]._replace(consumed_step=2 - number) for number in (0, 1))


def lose_the_late_one(spoken: Spoken) -> None:
    del spoken.said.messages[-1]


def never_answer(spoken: Spoken) -> None:
    flow = spoken.said.flows[spoken.third]
    spoken.said.flows[spoken.third] = flow._replace(status="PENDING")


@pytest.mark.parametrize(
    ("plant", "kinds"),
    [
        (drop_message, {LOST, STRANGE}),  # and received, though nobody sent it
        (consume_without_checkpoint, {LOST}),
        (checkpoint_without_consuming, {LOST}),
        (send_twice, {TWICE, LOST}),
        (receive_twice, {TWICE, LOST, OTHERWISE}),
        (send_out_of_order, {DISORDER}),
        (receive_out_of_order, {DISORDER}),
        (lose_the_late_one, {LOST}),
        (never_answer, {LOST}),
    ],
)
def test_what_goes_wrong_with_a_message_is_found(plant: Planted, kinds: set[str]) -> None:
    spoken = Spoken(MESSAGES)
    plant(spoken)
    assert set(spoken.found()) == kinds


def test_what_a_replay_hears_otherwise_is_found() -> None:
    spoken = Spoken(MESSAGES)
    spoken.said.heard[SECOND][1].append(Hearing("answer:1"))
    assert spoken.found() == {}, "the same again is what a replay is for"
    spoken.said.heard[SECOND][1].append(Hearing("answer:2"))
    assert spoken.found() == {OTHERWISE: 1}


def test_an_answer_that_was_recorded_and_never_heard_is_found() -> None:
    spoken = Spoken(MESSAGES)
    del spoken.said.heard[SECOND][2]
    assert spoken.found() == {OTHERWISE: 1}


@pytest.mark.parametrize(
    ("value", "executor", "kinds"),
    [(0, 5, set()), (2, 5, {OTHERWISE}), (0, 1, {OTHERWISE}), (1, 1, set())],
)
def test_only_who_was_harmed_may_have_read_another_value_than_is_recorded_and_only_an_older_one(
    value: int, executor: int, kinds: set[str]
) -> None:
    spoken = Spoken(SHOWN, executors=Executors(harmed=frozenset({5})))
    shown(1, 2)(spoken)
    spoken.said.heard[SECOND][0].append(Hearing(value, executor))
    assert set(spoken.found()) == kinds


# ------------------------------------------------------------------ publications


def published(name: str, /, **changes: object) -> Planted:
    def change(spoken: Spoken) -> None:
        publications = spoken.said.publications
        place = next(number for number, one in enumerate(publications) if one.name == name)
        publications[place] = publications[place]._replace(**changes)  # type: ignore[arg-type]

    return change


def drop_publication(spoken: Spoken) -> None:
    del spoken.said.publications[0]


def publish_once_more(spoken: Spoken) -> None:
    spoken.said.publications.insert(2, spoken.said.publications[1])


@pytest.mark.parametrize(
    ("plant", "kinds"),
    [
        (drop_publication, {LOST}),
        (publish_once_more, {TWICE}),
        (published("meet", outcome=None, taken_by=None), {LOST}),
        (published("meet", taken_by="another"), {LOST}),
        (published("meet", taken_step=9), {LOST}),
        (published("seen", seen=1), {LOST}),
        (published("seen", seen=3), {LOST}),
        (published("nobody", outcome=None), {LOST}),
        (published("nobody", name="somebody"), {LOST, STRANGE}),
    ],
)
def test_what_goes_wrong_with_a_publication_is_found(plant: Planted, kinds: set[str]) -> None:
    spoken = Spoken(PUBLICATIONS)
    plant(spoken)
    assert set(spoken.found()) == kinds


# ------------------------------------------------------------------ values and streams


def write_an_entry_twice(spoken: Spoken) -> None:
    spoken.said.entries.insert(1, spoken.said.entries[1])


def count_an_attempt_that_failed(spoken: Spoken) -> None:
    """Both attempts of a step are taken for the one that ended well: its reader sees the first entry twice."""
    write_an_entry_twice(spoken)
    answers = spoken.said.answers[SECOND]
    answers.insert(2, Answer(0, "b:0"))


def lose_an_entry(spoken: Spoken) -> None:
    del spoken.said.entries[2]


def swap_entries(spoken: Spoken) -> None:
    entries = spoken.said.entries
    entries[0], entries[1] = entries[1], entries[0]


def write_behind_the_end(spoken: Spoken) -> None:
    spoken.said.entries.append(Entry(FIRST, "d:0", False))


def shown(before: int, after: int) -> Planted:
    def change(spoken: Spoken) -> None:
        answers = spoken.said.answers[SECOND]
        for number, value in ((0, before), (-1, after)):
            answers[number] = answers[number]._replace(value=value)
            spoken.said.heard[SECOND][number % len(answers)] = [Hearing(value)]

    return change


def forget_the_last_value(spoken: Spoken) -> None:
    spoken.said.values[FIRST] = 1


@pytest.mark.parametrize(
    ("plant", "kinds"),
    [
        (write_an_entry_twice, {TWICE}),
        (count_an_attempt_that_failed, {TWICE, OTHERWISE}),
        (lose_an_entry, {LOST}),
        (swap_entries, {DISORDER}),
        (write_behind_the_end, {STRANGE, LOST}),
        (shown(2, 1), {WENT_BACK}),
        (shown(0, 0), {LOST}),
        (shown(1, 1), set()),
        (forget_the_last_value, {LOST}),
    ],
)
def test_what_goes_wrong_with_what_a_workflow_shows_is_found(plant: Planted, kinds: set[str]) -> None:
    spoken = Spoken(SHOWN)
    plant(spoken)
    assert set(spoken.found()) == kinds


# ------------------------------------------------------------------ deadlines


def ended(what: str, **changes: object) -> Planted:
    def change(spoken: Spoken) -> None:
        workflow = spoken.talk.id(what)
        flow = spoken.said.flows[workflow]
        spoken.said.flows[workflow] = flow._replace(**changes)  # type: ignore[arg-type]

    return change


def cut_off_the_quick_one(spoken: Spoken) -> None:
    """It may have been so slow, and then who waits for it is told."""
    ended("quick", status="CANCELLED", end_reason="timeout", deadline=900)(spoken)
    answers = spoken.said.answers[SECOND]
    answers[1] = answers[1]._replace(value="cancelled")
    spoken.said.heard[SECOND][1] = [Hearing("cancelled")]


def never_start(what: str) -> Planted:
    def change(spoken: Spoken) -> None:
        del spoken.said.flows[spoken.talk.id(what)]

    return change


@pytest.mark.parametrize(
    ("plant", "kinds"),
    [
        (cut_off_the_quick_one, set()),
        (never_start("late child"), set()),
        (never_start("quick"), {LOST, STRANGE}),
        (ended("late", completed_at=899), {CUT_OFF}),
        (ended("late", completed_at=900 + LATE_MS), set()),
        (ended("late", completed_at=901 + LATE_MS), {CUT_OFF}),
        (ended("late", endings=2), {TWICE}),
        (ended("late", endings=0), {LOST}),
        (ended("late", end_reason=None), {CUT_OFF}),
        (ended("late child", status="PENDING"), {CUT_OFF}),
        (ended("late child", status="SUCCESS"), {CUT_OFF}),
        (ended("late", deadline=None), {CUT_OFF}),
        (ended("quick", status="CANCELLED", end_reason="timeout", deadline=900), {LOST, STRANGE}),
        (ended("quick", status="ERROR"), {CUT_OFF}),
    ],
)
def test_what_goes_wrong_with_a_deadline_is_found(plant: Planted, kinds: set[str]) -> None:
    spoken = Spoken(DEADLINES)
    plant(spoken)
    assert set(spoken.found()) == kinds


# ------------------------------------------------------------------ queues


def test_work_on_a_queue_that_is_not_done_is_found() -> None:
    spoken = Spoken(QUEUED)
    ended("delayed", status="ENQUEUED")(spoken)
    assert spoken.found() == {LOST: 1}


# ------------------------------------------------------------------ who talks with whom


@pytest.mark.parametrize("ordering", ORDERINGS)
def test_a_seed_pairs_the_same_events_again_and_nobody_waits_for_what_is_behind_it(ordering: str) -> None:
    plan = Plan(seed=7, events=8000, partitions=6, ordering=ordering, talking=0.2)

    events = [make_events(plan, number) for number in range(plan.partitions)]
    talks = pair_up(plan, events)
    assert talks == pair_up(plan, [make_events(plan, number) for number in range(plan.partitions)])
    assert {talk.theme for talk in talks} == set(THEMES)
    for talk in talks:
        first, second = talk.first, talk.second
        assert (first.offset, first.partition) < (second.offset, second.partition)
        assert ordering != "topic" or first.partition == second.partition
        for place in (first, second):
            kind, offset, *rest = map(int, events[place.partition].value(place.offset).split())
            assert (kind, offset, read_value(rest)) == (TALK, place.offset, talk)
    places = [place for talk in talks for place in (talk.first, talk.second)]
    assert len(places) == len(set(places))


def test_those_that_do_not_talk_are_as_they_would_be_without_the_others() -> None:
    silent, talking = (make_events(Plan(seed=7, talking=share), 1) for share in (0.0, 0.5))
    assert TALK not in silent.kinds
    assert silent.keys == talking.keys
    assert all(kind in (other, TALK) for other, kind in zip(silent.kinds, talking.kinds, strict=True))
    assert talking.kinds.count(TALK) > len(talking) / 4

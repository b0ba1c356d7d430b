"""Messages and publications under whatever workflows do: rules 16 and 19.

Two workflows receive, take, park, are retried from any point, and lose their processes; others send and publish in
between, some of it twice. The model is lists: no message is lost or got twice, each sender's order holds, and every
publication is open, taken by one, or over.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field
from typing import ClassVar

import hypothesis.strategies as st
import pytest
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from dbos_events.storage.sqldatabase import SqlStorage
from dbos_events.storage.subjects.taking import Taker
from dbos_events.storage.writes import (
    Anchor,
    Awaited,
    Consume,
    Failure,
    Match,
    NewMessage,
    NewPublication,
    NextAttempt,
    Park,
    Register,
    Write,
    Written,
    anchor_key,
    message_key,
)
from dbos_events.testing import ManualClock
from tests.models.profiles import LONG, run
from tests.models.rows import empty
from tests.storage.building import APP, change, kill, read, register, start, step, workflow
from tests.storage.conftest import Open

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900 + 120 * LONG)]

WHO = st.sampled_from(("a", "b"))
TOPICS = (None, "t", "u")
TOPIC = st.sampled_from(TOPICS)
KEYS = ("1", "2")
KEY = st.sampled_from(KEYS)
TTL_MS = 60_000


@dataclass
class Mail:
    value: str
    topic: str | None
    consumed: int | None = None


@dataclass
class Published:
    value: str
    expires: int | None
    taken: tuple[str, int] | None = None
    expired: bool = False


@dataclass
class Receiver:
    """One workflow: its token, the calls that it has recorded, and what it waits for while it is parked."""

    id: str
    executor: int
    take: int = 1
    generation: int = 0
    calls: int = 0
    parked: Park | None = None
    mail: list[Mail] = field(default_factory=list)
    waits: dict[str, tuple[int, int]] = field(default_factory=dict)
    """By key: the step of the open wait, and its place among all."""
    seen: dict[str, int] = field(default_factory=dict)


class TalkingMachine(RuleBasedStateMachine):
    storage: ClassVar[SqlStorage]
    clock: ClassVar[ManualClock]

    def __init__(self) -> None:
        super().__init__()
        empty(self.storage)
        self.numbers = itertools.count(1)
        executor = register(self.storage)
        self.receivers = {who: Receiver(who, executor) for who in ("a", "b")}
        self.storage.write_batch(executor, [start(who) for who in self.receivers])
        self.published: dict[str, list[Published]] = {key: [] for key in KEYS}

    # -- what comes from outside --------------------------------------------------------------

    @rule(who=WHO, topic=TOPIC, twice=st.booleans())
    def send(self, who: str, topic: str | None, twice: bool) -> None:
        number = next(self.numbers)
        message = NewMessage(who, f"m{number}", topic, "json", str(number))
        for _ in range(1 + twice):
            self.storage.messages.send([message])
        self.receivers[who].mail.append(Mail(str(number), topic))

    @rule(key=KEY, for_ever=st.booleans(), twice=st.booleans())
    def publish(self, key: str, for_ever: bool, twice: bool) -> None:
        number = next(self.numbers)
        ttl = None if for_ever else TTL_MS
        new = NewPublication(Anchor(APP, "n", key), f"event:{number}", "json", str(number), None, ttl)
        for _ in range(1 + twice):
            self.storage.publications.publish([new])
        expires = None if for_ever else self.clock.now_ms() + TTL_MS
        self.published[key].append(Published(str(number), expires))

    @rule(seconds=st.integers(1, 40))
    def time_passes(self, seconds: int) -> None:
        self.clock.move_to(self.clock.now_ms() + seconds * 1000)
        self.storage.publications.expire(1, 1000)
        for one in itertools.chain(*self.published.values()):
            over = one.expires is not None and one.expires <= self.clock.now_ms()
            one.expired = one.expired or (over and one.taken is None)

    # -- what a workflow does -----------------------------------------------------------------

    def awake(self, who: str) -> Receiver:
        """The workflow as it runs; one that is parked is woken, as its time had come."""
        one = self.receivers[who]
        if one.parked is not None:
            self.take_due(one)
        return one

    def take_due(self, one: Receiver) -> None:
        """Let its time come; whoever else is due comes along."""
        change(self.storage, "UPDATE {schema}.workflows SET wake_at = 0 WHERE id = :id", id=one.id)
        taken = self.storage.taking.wake_due(Taker(one.executor, APP, "v1", ["work"]), 9)
        assert one.id in [row.id for row in taken]
        for row in taken:
            self.receivers[row.id].parked = None
            self.receivers[row.id].take = row.take

    def write(self, one: Receiver, write: Write, *, lost: bool = False) -> bool:
        """Whether it was written; once more where its answer was `lost`."""
        answers = [
            isinstance(self.storage.write_batch(one.executor, [write])[0], Written) for _ in range(1 + lost)
        ]
        assert len(set(answers)) == 1, "a batch that is written again has the same answer"
        return answers[0]

    def call(self, one: Receiver) -> int:
        one.calls += 1
        return one.calls

    @rule(who=WHO, topic=TOPIC, lost=st.booleans())
    def receive(self, who: str, topic: str | None, lost: bool) -> None:
        one = self.awake(who)
        expected = next((mail for mail in one.mail if mail.topic == topic and mail.consumed is None), None)
        found = self.storage.messages.peek(who, topic)
        assert (None if found is None else found.value) == (None if expected is None else expected.value)
        if found is None or expected is None:
            return
        number = self.call(one)
        received = step(who, number, take=one.take, generation=one.generation, output=found.value)
        received.change = Consume(found.number)
        assert self.write(one, received, lost=lost)
        expected.consumed = number

    def open_of(self, key: str, since: int = 0) -> list[Published]:
        now = self.clock.now_ms()
        return [
            one
            for number, one in enumerate(self.published[key])
            if number >= since
            and one.taken is None
            and not one.expired
            and (one.expires is None or one.expires > now)
        ]

    @rule(who=WHO, key=KEY)
    def stand_in_line(self, who: str, key: str) -> None:
        one = self.awake(who)
        if key in one.waits:
            return
        number = self.call(one)
        note = step(who, -number, take=one.take, generation=one.generation, call=f"{number}~")
        note.change = Register(number, (Awaited(Anchor(APP, "n", key), takes=True),))
        assert self.write(one, note)
        one.waits[key] = (number, next(self.numbers))

    @rule(who=WHO, key=KEY, lost=st.booleans())
    def take(self, who: str, key: str, lost: bool) -> None:
        """Those who came before get theirs first, whoever asks first."""
        one = self.awake(who)
        if key not in one.waits:
            return
        number, place = one.waits[key]
        ahead = sum(other.waits[key][1] < place for other in self.receivers.values() if key in other.waits)
        expected = self.open_of(key)[ahead : ahead + 1]
        awaited = (Awaited(Anchor(APP, "n", key), takes=True),)
        found = self.storage.publications.next_of(who, number, awaited)
        assert [each.value for each in found] == [each.value for each in expected]
        if not found:
            return
        taken = step(who, number, take=one.take, generation=one.generation, output=found[0].value)
        taken.change = Match(awaited, ((0, found[0].number),))
        assert self.write(one, taken, lost=lost)
        expected[0].taken = (who, number)
        del one.waits[key]

    @rule(who=WHO, topic=TOPIC)
    def park_for_a_message(self, who: str, topic: str | None) -> None:
        one = self.awake(who)
        park = Park(None, (message_key(who, topic), message_key(who, "never")))
        assert self.write(one, Write(who, one.take, one.generation, change=park))
        one.parked = park

    @rule(who=WHO, key=KEY)
    def park_for_a_publication(self, who: str, key: str) -> None:
        one = self.awake(who)
        if key not in one.waits:
            return
        park = Park(None, (anchor_key(Anchor(APP, "n", key).id),))
        assert self.write(one, Write(who, one.take, one.generation, change=park))
        one.parked = park

    @rule(who=WHO, cut=st.integers(0, 5))
    def retry(self, who: str, cut: int) -> None:
        """The calls from `cut` before the last on are made anew, and what they had got is there again."""
        one = self.awake(who)
        again = tuple(range(max(1, one.calls - cut + 1), one.calls + 1))
        failure = Failure("json", "{}", "ValueError", "no", (*again, *(-number for number in again)))
        again_ = NextAttempt(0, 1, "failed", failure)
        assert self.write(one, Write(who, one.take, one.generation, change=again_))
        one.generation += 1
        for mail in one.mail:
            mail.consumed = None if mail.consumed in again else mail.consumed
        for published in itertools.chain(*self.published.values()):
            if published.taken is not None and published.taken[0] == who and published.taken[1] in again:
                published.taken = None
        self.take_due(one)
        self.storage.publications.expire(1, 1000)
        now = self.clock.now_ms()
        for published in itertools.chain(*self.published.values()):
            over = published.expires is not None and published.expires <= now
            published.expired = published.expired or (over and published.taken is None)
        # The numbers of calls that are made anew are not used again here: their waits are over with them.

    @rule()
    def the_process_dies(self) -> None:
        [executor] = {one.executor for one in self.receivers.values()}
        kill(self.storage, executor)
        new = register(self.storage)
        self.storage.taking.adopt(Taker(new, APP, "v1", ["work"]), {"work": None}, 9)
        for one in self.receivers.values():
            one.executor = new
            one.take = workflow(self.storage, one.id).take

    # -- what always holds --------------------------------------------------------------------

    @invariant()
    def nobody_sleeps_while_what_it_waits_for_is_there(self) -> None:
        for one in self.receivers.values():
            if one.parked is None or workflow(self.storage, one.id).wake_at is not None:
                continue
            for key in one.parked.keys:
                if key.kind == "message":
                    assert not [m for m in one.mail if m.topic == key.detail and m.consumed is None]
                else:
                    [name] = [name for name in KEYS if Anchor(APP, "n", name).id == key.subject]
                    _, place = one.waits[name]
                    ahead = sum(
                        other.waits[name][1] < place
                        for other in self.receivers.values()
                        if name in other.waits
                    )
                    assert len(self.open_of(name)) <= ahead

    @invariant()
    def each_message_is_consumed_as_the_model_says(self) -> None:
        rows = read(
            self.storage,
            "SELECT destination, value, consumed_step FROM {schema}.messages ORDER BY number",
        )
        for who, one in self.receivers.items():
            mine = [(row.value, row.consumed_step) for row in rows if row.destination == who]
            assert mine == [(mail.value, mail.consumed) for mail in one.mail]

    @invariant()
    def each_publication_is_where_the_model_says(self) -> None:
        rows = read(self.storage, "SELECT value, outcome, taken_by, taken_step FROM {schema}.publications")
        found = {row.value: (row.outcome, row.taken_by, row.taken_step) for row in rows}
        for one in itertools.chain(*self.published.values()):
            outcome, by, number = found[one.value]
            assert (by, number) == (one.taken or (None, None))
            assert (outcome == "taken") == (one.taken is not None)
            assert (outcome == "expired") <= one.expired
        assert len(found) == sum(map(len, self.published.values()))


def test_rules_16_and_19_messages_and_publications_are_where_the_model_says(
    migrated_url: str, opened: Open, clock: ManualClock
) -> None:
    machine = type("Machine", (TalkingMachine,), {"storage": opened(migrated_url), "clock": clock})
    run(machine, examples=20, steps=60)

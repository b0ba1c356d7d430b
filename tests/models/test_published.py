"""Values and streams under whatever a workflow does, and readers of every kind: rules 17 and 18.

One workflow publishes, from itself and from a step that is under way; its process dies, it is retried from any point, and
batches are written twice. Readers look in between. The model is what a reader must get: lists.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any, ClassVar, cast

import hypothesis.strategies as st
import pytest
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from dbos_events.engine.outlet import Outlet
from dbos_events.engine.reader import StreamReader
from dbos_events.model.stream import StreamMode
from dbos_events.storage.sqldatabase import SqlStorage
from dbos_events.storage.subjects.taking import Taker
from dbos_events.storage.writes import Change, Failure, Fenced, NextAttempt, Write, Written
from dbos_events.testing import ManualClock
from tests.models.profiles import LONG, run
from tests.models.rows import empty
from tests.storage.building import APP, end, kill, register, start, step
from tests.storage.conftest import Open

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900 + 120 * LONG)]

STREAMS = ("s", "t")
KEYS = ("a", "b")


@dataclass
class Entry:
    """One entry of the model; `counts` is None while its step is under way."""

    position: int
    step: int
    value: str
    counts: bool | None
    cut: bool = False


@dataclass
class Model:
    """What was published, in order."""

    values: list[tuple[str, int, str]] = field(default_factory=list)
    entries: dict[str, list[Entry]] = field(default_factory=lambda: {name: [] for name in STREAMS})

    def everything(self) -> dict[str, str]:
        return {key: value for key, _, value in self.values}

    def settle(self, number: int, *, attempt: list[Entry]) -> None:
        """The step has ended: of what it wrote, this attempt's entries count."""
        for entries in self.entries.values():
            for entry in entries:
                if entry.step == number and entry.counts is None:
                    entry.counts = entry in attempt

    def lose(self) -> None:
        """The process has died: the step under way comes to nothing."""
        for entries in self.entries.values():
            for entry in entries:
                entry.counts = bool(entry.counts)

    def cut(self, kept: set[int]) -> None:
        self.values = [value for value in self.values if value[1] in kept]
        for entries in self.entries.values():
            for entry in entries:
                entry.counts = bool(entry.counts)
                entry.cut = entry.cut or entry.step not in kept


@dataclass
class Call:
    """The step that is under way."""

    number: int
    attempt: int = 0
    written: list[Entry] = field(default_factory=list)


class PublishingMachine(RuleBasedStateMachine):
    storage: ClassVar[SqlStorage]

    def __init__(self) -> None:
        super().__init__()
        empty(self.storage)
        self.numbers = itertools.count(1)
        self.model = Model()
        self.executor = register(self.storage)
        self.storage.write_batch(self.executor, [start("w")])
        self.take, self.generation, self.ended = 1, 0, False
        self.recorded: set[int] = set()
        self.call: Call | None = None
        self.last: list[Write] = []
        self.outlet = self.new_outlet()
        self.readers = {name: self.reader(name, "committed") for name in STREAMS}
        self.got: dict[str, list[tuple[int, str]]] = {name: [] for name in STREAMS}

    def new_outlet(self) -> Outlet:
        core = SimpleNamespace(next_write_id=lambda: next(self.numbers))
        outlet = Outlet(cast("Any", SimpleNamespace(id="w", take=self.take, core=core)))
        if not outlet.ready:
            outlet.begin(self.storage.streams.read_ends("w", self.take, self.generation))
        return outlet

    def reader(self, stream: str, mode: StreamMode) -> StreamReader:
        return StreamReader(cast("Any", SimpleNamespace(storage=self.storage)), "w", stream, 0, mode)

    def write(self, change: Change | None, number: int | None = None) -> None:
        """One batch; with the checkpoint of a call where that has ended."""
        write = Write("w", self.take, self.generation, change=change)
        if number is not None:
            write = step("w", number, take=self.take, generation=self.generation)
            write.change = change
            self.recorded.add(number)
        self.last = [write]
        assert [type(each) for each in self.storage.write_batch(self.executor, self.last)] == [Written]

    # -- what a workflow does -----------------------------------------------------------------

    @precondition(lambda self: not self.ended)
    @rule(key=st.sampled_from(KEYS))
    def set_value(self, key: str) -> None:
        number = next(self.numbers)
        self.write(self.outlet.set_value(key, number, "json", str(number)), number)
        self.model.values.append((key, number, str(number)))

    @precondition(lambda self: not self.ended)
    @rule(stream=st.sampled_from(STREAMS))
    def write_entry(self, stream: str) -> None:
        number = next(self.numbers)
        entry = self.outlet._entry(stream, number, "json", str(number), ends=False, attempt=None)
        self.write(entry, number)
        self.note(stream, entry.position, number, counts=True)

    def note(self, stream: str, position: int, number: int, *, counts: bool | None) -> Entry:
        known = self.model.entries[stream]
        assert position == len(known), "the positions have no gaps"
        known.append(Entry(position, number, str(position), counts))
        return known[-1]

    @precondition(lambda self: not self.ended and self.call is None)
    @rule()
    def begin_step(self) -> None:
        self.call = Call(next(self.numbers))

    @precondition(lambda self: not self.ended and self.call is not None)
    @rule(stream=st.sampled_from(STREAMS))
    def write_in_step(self, stream: str) -> None:
        assert self.call is not None
        entry = self.outlet.entry(
            stream, self.call.number, "json", "1", ends=False, attempt=self.call.attempt
        )
        self.write(entry)
        self.call.written.append(self.note(stream, entry.position, self.call.number, counts=None))

    @precondition(lambda self: not self.ended and self.call is not None)
    @rule(key=st.sampled_from(KEYS))
    def set_in_step(self, key: str) -> None:
        assert self.call is not None
        value = str(next(self.numbers))
        self.write(self.outlet.set_value(key, self.call.number, "json", value, again=True))
        self.model.values.append((key, self.call.number, value))

    @precondition(lambda self: self.call is not None)
    @rule()
    def attempt_again(self) -> None:
        assert self.call is not None
        self.call = Call(self.call.number, self.call.attempt + 1)

    @precondition(lambda self: not self.ended and self.call is not None)
    @rule(well=st.booleans())
    def end_step(self, well: bool) -> None:
        assert self.call is not None
        call, self.call = self.call, None
        self.write(self.outlet.settle(call.number, call.attempt if well else None), call.number)
        self.model.settle(call.number, attempt=call.written if well else [])

    # -- what happens to it -------------------------------------------------------------------

    @precondition(lambda self: not self.ended and bool(self.last))
    @rule()
    def lose_the_answer(self) -> None:
        """The last batch is written once more."""
        assert [type(each) for each in self.storage.write_batch(self.executor, self.last)] == [Written]

    @precondition(lambda self: not self.ended)
    @rule()
    def die(self) -> None:
        stale = [
            Write("w", self.take, self.generation, change=self.outlet.set_value("a", 1, "json", "stale"))
        ]
        late = self.executor
        self.executor = register(self.storage)
        kill(self.storage, late)
        taken = self.storage.taking.adopt(Taker(self.executor, APP, "v1", ["work"]), {"work": None}, 9)
        assert [row.id for row in taken] == ["w"]
        self.take, self.call, self.last = taken[0].take, None, []
        self.model.lose()
        assert isinstance(self.storage.write_batch(self.executor, stale)[0], Fenced)
        self.outlet = self.new_outlet()

    @precondition(lambda self: not self.ended)
    @rule(data=st.data())
    def retry(self, data: st.DataObject) -> None:
        """The next generation has the calls before one of them, or all but the last one."""
        behind = (
            set(data.draw(st.sets(st.sampled_from(sorted(self.recorded)), max_size=3)))
            if self.recorded
            else set()
        )
        failure = Failure("json", "{}", "ValueError", "no", tuple(sorted(behind)))
        given_up = Write("w", self.take, self.generation, change=NextAttempt(0, 1, "failed", failure))
        assert [type(each) for each in self.storage.write_batch(self.executor, [given_up])] == [Written]
        [row] = self.storage.taking.wake_due(Taker(self.executor, APP, "v1", ["work"]), 9)
        self.recorded -= behind
        self.take, self.generation, self.call, self.last = row.take, row.generation, None, []
        self.model.cut(self.recorded)
        self.outlet = self.new_outlet()

    @precondition(lambda self: not self.ended and self.call is None)
    @rule()
    def succeed(self) -> None:
        self.storage.write_batch(self.executor, [end("w", take=self.take)])
        self.ended = True
        self.model.lose()

    # -- what readers get ---------------------------------------------------------------------

    @rule(stream=st.sampled_from(STREAMS))
    def read_on(self, stream: str) -> None:
        """A reader that was there all the time."""
        self.got[stream] += drain(self.readers[stream])

    @invariant()
    def the_latest_values_are_there(self) -> None:
        assert {each.key: each.value for each in self.storage.values.read_all("w")} == self.model.everything()
        for key in KEYS:
            found = self.storage.values.read("w", key)
            assert found is not None
            assert (found.value if found.is_set else None) == self.model.everything().get(key)

    @invariant()
    def a_new_reader_gets_all_there_is(self) -> None:
        for stream, entries in self.model.entries.items():
            every = [position for position, _ in drain(self.reader(stream, "all"))]
            assert every == [entry.position for entry in entries]
            waits = [entry.position for entry in entries if entry.counts is None and not entry.cut]
            sure = entries[: waits[0]] if waits else entries
            committed = [position for position, _ in drain(self.reader(stream, "committed"))]
            assert committed == [entry.position for entry in sure if entry.counts and not entry.cut]

    @invariant()
    def a_reader_of_what_is_committed_got_nothing_twice(self) -> None:
        for stream, got in self.got.items():
            positions = [position for position, _ in got]
            assert positions == sorted(set(positions))
            assert all(self.model.entries[stream][position].counts for position in positions)


def drain(reader: StreamReader) -> list[tuple[int, str]]:
    """What the reader gets without waiting."""
    got: list[tuple[int, str]] = []
    while True:
        item = reader.take()
        if item is None:
            if reader.look() is None:
                return got
        elif item.ends:
            return got
        else:
            got.append((item.position, item.text or ""))


def test_rules_17_and_18_readers_get_what_the_model_says(
    migrated_url: str, opened: Open, clock: ManualClock
) -> None:
    machine = type("Machine", (PublishingMachine,), {"storage": opened(migrated_url)})
    run(machine, examples=20, steps=60)

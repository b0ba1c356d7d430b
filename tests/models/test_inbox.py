"""Pushed events under whatever happens to them: accepted, sent again, lost answers, crashes, ends, forgotten ids.

The model is small: an id has one content and one workflow for as long as it is remembered, and as long as its workflow is
there; a lane's events run in the order in which they were accepted.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from dbos_events.errors import ExecutorFenced
from dbos_events.storage.sqldatabase import SqlStorage
from dbos_events.storage.subjects.acceptance import AcceptBatch
from dbos_events.storage.subjects.lanes import LanePlace
from dbos_events.storage.subjects.taking import Taker
from dbos_events.testing import ManualClock
from tests.models.profiles import LONG, run
from tests.storage.building import APP, claim_resumed_from, end, kill, read, register, write
from tests.storage.conftest import Open
from tests.storage.inboxes import CONFLICT, PREFIX, consumer_of, pushed

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300 + 120 * LONG)]

REMEMBERED_MS = 60_000
IDS = st.sampled_from("abcdef")
LANES = {"a": "k", "b": "k", "c": "k", "d": "l", "e": None, "f": None}
"""Each event always comes with the same lane, as its content says it."""
EVENTS = st.lists(st.tuples(IDS, st.sampled_from("xy"), st.booleans()), min_size=1, max_size=4)
PLAYERS = st.integers(0, 1)


@dataclass
class Known:
    """What is remembered of one id: its first content, and until when."""

    content: str
    until: int


@dataclass
class Lane:
    """The ids of a lane that hold it, in their order."""

    ids: list[str] = field(default_factory=list)


class InboxMachine(RuleBasedStateMachine):
    """Two processes over one database."""

    storage: ClassVar[SqlStorage]
    clock: ClassVar[ManualClock]

    def __init__(self) -> None:
        super().__init__()
        with self.storage.database.engine.begin() as connection:
            for table in (
                "workflows",
                "events",
                "seen",
                "lanes",
                "quarantine",
                "results",
                "payloads",
                "executors",
            ):
                prefix = f"{self.storage.database.schema}." if self.storage.database.schema else ""
                connection.exec_driver_sql(f"DELETE FROM {prefix}{table}")
        self.consumer = consumer_of(self.storage)
        self.executors = [register(self.storage, "0"), register(self.storage, "1")]
        self.known: dict[str, Known] = {}
        self.first_content: dict[str, str] = {}
        self.conflicts: set[str] = set()
        self.lanes = {lane: Lane() for lane in set(LANES.values()) if lane}
        self.owners: dict[str, int | None] = {}
        self.ended: set[str] = set()

    # -- what happens -----------------------------------------------------------------------------

    @rule(player=PLAYERS, events=EVENTS, tries=st.integers(1, 2))
    def accept(self, player: int, events: list[tuple[str, str, bool]], tries: int) -> None:
        """Events are accepted; with more than one try, the answer to the first one was lost."""
        made = tuple(
            pushed(
                self.consumer,
                name,
                content=content,
                lane=LANES[name],
                kept=kept,
                remembered_ms=REMEMBERED_MS,
            )
            for name, content, kept in events
        )
        batch = AcceptBatch(self.executors[player], APP, "v1", made, CONFLICT)
        answers = [self.storage.inbox.accept(batch) for _ in range(tries)]
        assert answers[0] == answers[-1], "a repeated call answers as the first did"
        expected = self.expected(player, events)
        for (name, _, _), found, wanted in zip(events, answers[0], expected, strict=True):
            assert (found.kind, found.owned) == wanted, name
            if found.kind != "conflicting-duplicate":
                assert found.workflow_id == f"{PREFIX}{name}"

    def expected(self, player: int, events: list[tuple[str, str, bool]]) -> list[tuple[str, bool]]:
        now = self.clock.now_ms()
        answers: list[tuple[str, bool]] = []
        fresh: dict[str, bool] = {}
        for name, content, kept in events:
            known = self.known.get(name)
            if known is None:
                first = self.first_content.get(name, content)
                known = self.known[name] = Known(first, now + REMEMBERED_MS)
                if name not in self.first_content:
                    fresh[name] = kept
                    self.first_content[name] = content
                    answers.append(("accepted", self.start(player, name, kept=kept)))
                elif self.first_content[name] != content:
                    answers.append(self.conflict(name, content))
                else:
                    answers.append(("duplicate", False))
            elif known.content != content:
                answers.append(self.conflict(name, content))
            else:
                answers.append(("duplicate", False))
        return answers

    def conflict(self, name: str, content: str) -> tuple[str, bool]:
        self.conflicts.add(f"{name}{content}")
        return "conflicting-duplicate", False

    def start(self, player: int, name: str, *, kept: bool) -> bool:
        lane = LANES[name]
        owned = kept
        if lane is not None:
            owned = kept and not self.lanes[lane].ids
            self.lanes[lane].ids.append(name)
        self.owners[name] = player if owned else None
        return owned

    @rule(player=PLAYERS, lane=st.sampled_from("kl"))
    def take_lane(self, player: int, lane: str) -> None:
        """A process asks what is first in a lane: all that follows each other and that nobody runs."""
        place = LanePlace(self.consumer, 0, None, 0)
        found = self.storage.lanes.take(self.executors[player], place, [lane], 2, {"handle": None})
        assert found is not None
        expected: list[str] = []
        for name in self.lanes[lane].ids[:2]:
            if self.owners[name] is not None:
                break
            expected.append(name)
        assert [row.id for row in found[lane].rows] == [f"{PREFIX}{name}" for name in expected]
        assert found[lane].more == bool(expected)
        for name in expected:
            self.owners[name] = player

    @rule(player=PLAYERS)
    def claim(self, player: int) -> None:
        """A process takes up what waits for any."""
        rows = claim_resumed_from(self.storage, self.executors[player], APP, "v1", ["handle"], 10)
        waiting = {
            name
            for name, owner in self.owners.items()
            if owner is None and LANES[name] is None and name not in self.ended
        }
        assert {row.id for row in rows} == {f"{PREFIX}{name}" for name in waiting}
        for name in waiting:
            self.owners[name] = player

    @precondition(lambda self: any(owner is not None for owner in self.owners.values()))
    @rule(data=st.data())
    def finish(self, data: Any) -> None:
        """The first event of its lane, or any without one, ends where it runs."""
        running = [name for name, owner in self.owners.items() if owner is not None and self.is_first(name)]
        if not running:
            return
        name = data.draw(st.sampled_from(sorted(running)))
        player = self.owners.pop(name)
        assert player is not None
        [row] = read(self.storage, "SELECT take FROM {schema}.workflows WHERE id = :id", id=f"{PREFIX}{name}")
        write(self.storage, self.executors[player], end(f"{PREFIX}{name}", take=row.take))
        self.ended.add(name)
        lane = LANES[name]
        if lane is not None:
            self.lanes[lane].ids.remove(name)

    def is_first(self, name: str) -> bool:
        lane = LANES[name]
        return lane is None or self.lanes[lane].ids[0] == name

    @rule(player=PLAYERS)
    def crash(self, player: int) -> None:
        """A process dies and another one finds it so; it cannot accept any more."""
        dead = self.executors[player]
        kill(self.storage, dead)
        with pytest.raises(ExecutorFenced):
            self.storage.inbox.accept(
                AcceptBatch(dead, APP, "v1", (pushed(self.consumer, "never"),), CONFLICT)
            )
        other = self.executors[1 - player]
        self.storage.lanes.free_of_dead(APP)
        self.storage.taking.adopt(Taker(other, APP, "v1", ["handle"]), {"handle": None}, 100)
        for name, owner in self.owners.items():
            if owner == player:
                self.owners[name] = None if LANES[name] else 1 - player
        self.executors[player] = register(self.storage, str(player))

    @rule(seconds=st.sampled_from([1, 61]))
    def time_passes(self, seconds: int) -> None:
        """Ids whose time is over are forgotten; their workflows are still there, and known by that."""
        self.clock.move_to(self.clock.now_ms() + seconds * 1000)
        self.storage.inbox.forget(100)
        self.storage.inbox.forget_lanes(0)
        now = self.clock.now_ms()
        self.known = {name: known for name, known in self.known.items() if known.until > now}

    # -- what holds -------------------------------------------------------------------------------

    @invariant()
    def each_id_has_one_workflow_with_its_first_content(self) -> None:
        rows = read(
            self.storage,
            "SELECT w.id, e.value, w.status FROM {schema}.workflows w JOIN {schema}.events e ON e.workflow_id = w.id",
        )
        first = {row.id: bytes(row.value).decode() for row in rows if "#" not in row.id}
        assert first == {f"{PREFIX}{name}": content for name, content in self.first_content.items()}
        others = {
            f"{row.id.removeprefix(PREFIX)[0]}{bytes(row.value).decode()}" for row in rows if "#" in row.id
        }
        assert others == self.conflicts
        put_aside = read(self.storage, "SELECT workflow_id FROM {schema}.quarantine")
        assert len(put_aside) == len(self.conflicts)

    @invariant()
    def lanes_stand_in_their_order(self) -> None:
        for lane, expected in self.lanes.items():
            rows = read(
                self.storage,
                "SELECT id FROM {schema}.workflows WHERE lane = :lane AND lane_open ORDER BY lane_sequence",
                lane=lane,
            )
            assert [row.id for row in rows] == [f"{PREFIX}{name}" for name in expected.ids]


def test_rule_26_an_event_is_accepted_once_whatever_happens(
    migrated_url: str, opened: Open, clock: ManualClock
) -> None:
    fields = {"storage": opened(migrated_url), "clock": clock}
    run(type("Machine", (InboxMachine,), fields), examples=12, steps=30)

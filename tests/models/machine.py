"""The machine that asks the storage and the model the same, and compares answers and tables: rules 1 to 6."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from functools import partial
from operator import attrgetter
from typing import Any, ClassVar

import hypothesis.strategies as st

from dbos_events.errors import BadWrite, ExecutorFenced
from dbos_events.model.queue import QueueLimits
from dbos_events.storage.sqldatabase import SqlStorage
from dbos_events.storage.subjects.taking import TakenWorkflow
from dbos_events.storage.writes import NewWorkflow, Write
from dbos_events.testing import ManualClock
from tests.models.acting import ActingMachine, act
from tests.models.asked import ASKED, TAKINGS
from tests.models.events import Model
from tests.models.processes import ENDS, Process, Run
from tests.models.rows import difference, empty, modelled, stored
from tests.storage.building import APP, register

LEASE_MS = 30_000
SECOND = 1000
FUNCTIONS = ("handle", "work")
WHICH = st.integers(0, 99)
SOME = st.integers(1, 3)
VERSIONS = st.sampled_from(["v1", "v1", "v2"])
WAITS = st.sampled_from([False, False, False, True])
CRASHES = st.sampled_from([None, 0, 1])
QUEUE_LIMITS = st.sampled_from(
    [
        QueueLimits(),
        QueueLimits(concurrency=2),
        QueueLimits(limiter={"limit": 2, "period": 2.0}),
        QueueLimits(concurrency=3, limiter={"limit": 3, "period": 5.0}),
    ]
)
NAMES = st.sampled_from([FUNCTIONS, ("work",)])
ACTS = st.lists(
    st.tuples(
        WHICH,
        st.sampled_from(
            [*["step"] * 5, "shielded step", "failed step", "failed step", "call", "clash", *ENDS]
        ),
    ),
    min_size=1,
    max_size=3,
)
BATCHES = st.lists(st.tuples(WHICH, ACTS), min_size=1, max_size=4)
STARTS = st.lists(st.tuples(st.sampled_from([None, "q", "q", "r"]), st.booleans()), min_size=1, max_size=4)
FATES = st.sampled_from(["beats", "beat since", "stops", "silent", "silent"])
LATE = st.lists(st.sampled_from(["step", "succeed", "park"]), max_size=1)
LOSES = st.sampled_from([False, False, True])

Answer = tuple[str, Any]


def outcome(ask: Callable[[], Any], form: Callable[[Any], Any]) -> tuple[Answer, Any]:
    """What was answered, to compare and as it came; an error counts by its class."""
    try:
        answer = ask()
    except (ExecutorFenced, BadWrite) as error:
        return (type(error).__name__, None), None
    return ("answer", form(answer)), answer


def same(answer: Any) -> Any:
    return answer


class WorkflowMachine(ActingMachine):
    """Processes that run workflows. Each rule is one call of the protocol, made twice: here and in the model."""

    storage: ClassVar[SqlStorage]
    clock: ClassVar[ManualClock]

    def __init__(self) -> None:
        super().__init__()
        empty(self.storage)
        self.model = Model(self.clock.now_ms)
        self.numbers = itertools.count(1)
        self.processes: list[Process] = []
        for version in ("v1", "v1", "v2"):
            self.register(version)
        self.start(0, [(None, True), (None, True), ("q", True)], 99)

    # -- asking -------------------------------------------------------------------------------

    def ask(self, name: str, *arguments: Any, form: Callable[[Any], Any] = same) -> Any:
        """Ask the storage and the model; they must agree. None when the executor is fenced."""
        expected, _ = outcome(lambda: getattr(self.model, name)(*arguments), form)
        found, answer = outcome(lambda: self._stored(name)(*arguments), form)
        assert found == expected, f"{name} answers {found}, by the model {expected}"
        self.compare()
        self.clock.move_to(self.clock.now_ms() + 1)
        return answer

    def _stored(self, name: str) -> Callable[..., Any]:
        if name in TAKINGS:
            return partial(TAKINGS[name], self.storage)
        method: Callable[..., Any] = attrgetter(ASKED.get(name, name))(self.storage)
        return method

    def compare(self) -> None:
        found, expected = stored(self.storage), modelled(self.model)
        if found != expected:
            raise AssertionError(difference(found, expected))

    def process(self, which: int) -> Process:
        """One that lives; in one case of ten any that ever did."""
        living = [one for one in self.processes if self.model.is_alive(one.executor)]
        among = self.processes if which % 10 == 9 else living
        return among[which % len(among)]

    def some_workflows(self, which: Sequence[int]) -> list[str]:
        known = list(self.model.workflows)
        return sorted({known[one % len(known)] for one in which})

    # -- rule 1 -------------------------------------------------------------------------------

    def register(self, version: str, application: str = APP) -> Process:
        executor = register(self.storage, version=version, application=application, lease_ms=LEASE_MS)
        self.model.registered(executor, application, version, LEASE_MS)
        self.processes.append(Process(executor, application, version))
        self.compare()
        return self.processes[-1]

    @act(4, which=WHICH, fate=FATES, version=VERSIONS, adopted=st.booleans())
    def lease(self, which: int, fate: str, version: str, *, adopted: bool) -> None:
        """It beats, stops, or is found silent: by who saw the last heartbeat, or the one before it."""
        process = self.process(which)
        seen = self.model.executors[process.executor].heartbeat
        if fate == "beats":
            self.ask("renew_lease", process.executor, LEASE_MS)
        elif fate == "stops":
            self.ask("release_executor", process.executor)
        else:
            self.ask("declare_dead", process.executor, seen - (fate == "beat since"), "silent")
        if not self.model.is_alive(process.executor):
            self.ask("renew_lease", process.executor, LEASE_MS)
            self.register(version, process.application)
            if adopted:
                self.ask("free_lanes_of_dead", process.application)
                self.adopt(which + 1, 9, None, FUNCTIONS, waits=False)

    # -- rule 2: a run's writes ---------------------------------------------------------------

    @act(2, which=WHICH, starts=STARTS, again=WHICH)
    def start(self, which: int, starts: list[tuple[str | None, bool]], again: int) -> None:
        """Workflows of their own; now and then with an id that is there already."""
        process = self.process(which)
        known = list(self.model.workflows)
        taken = known[again % len(known)] if known and again < 10 else None
        self.send(
            process, [Write(change=self.new(process, queue, taken, here=here)) for queue, here in starts]
        )

    def new(
        self,
        process: Process,
        queue: str | None,
        workflow_id: str | None = None,
        *,
        here: bool,
        parent: str | None = None,
    ) -> NewWorkflow:
        number = next(self.numbers)
        return NewWorkflow(
            workflow_id or f"w{number}", "work", process.application, number, "PENDING" if here and queue is None else
            "ENQUEUED", process.version, queue=queue, priority=number % 3, parent_id=parent, **self.bounds(number, queue),
        )  # fmt: skip

    def bounds(self, number: int, queue: str | None) -> dict[str, int]:
        """Now and then a timeout, a deadline, a time to be claimed by; no two at the same time."""
        at = self.clock.now_ms() + number
        found = {}
        if number % 4 == 0:
            found["timeout_ms"] = 3 * SECOND + number
        if number % 5 == 0:
            found["deadline"] = at + 4 * SECOND
        if queue is not None and number % 6 == 0:
            found["start_by"] = at + 2 * SECOND
        return found

    def send(self, process: Process, writes: list[Write], *, loses: bool = False) -> None:
        """As the committer does: the same batch again and again until it is answered."""
        answers = self.ask("write_batch", process.executor, writes)
        if loses:
            process.unanswered = writes
        elif answers is None:
            process.lose_everything()
        else:
            process.unanswered = []
            process.learn(writes, answers)

    @act(
        14,
        lambda self: any(process.runs for process in self.processes),
        batches=BATCHES,
        awaited=WHICH,
        seconds=st.integers(0, 5),
        loses=LOSES,
    )
    def write(
        self, batches: list[tuple[int, list[tuple[int, str]]]], awaited: int, seconds: int, *, loses: bool
    ) -> None:
        for which, acts in batches:
            busy = [process for process in self.processes if process.runs]
            if busy:
                self.write_one(busy[which % len(busy)], acts, awaited, seconds, loses=loses)

    def write_one(
        self, process: Process, acts: list[tuple[int, str]], awaited: int, seconds: int, *, loses: bool
    ) -> None:
        if process.unanswered:
            self.send(process, process.unanswered)
            return
        writes: list[Write] = []
        clashed: list[Run] = []
        for number, how in acts:
            run = process.runs[number % len(process.runs)]
            written = any((one.workflow_id, one.take) == (run.id, run.take) for one in writes)
            # Which of two in one batch is first is chance; and what is written with a success is not looked for.
            if run.over or (how == "clash" and written) or (how == "succeed" and run in clashed):
                continue
            clashed += [run] if how == "clash" else []
            writes.append(self.written_by(process, run, how, number, (seconds, awaited)))
        self.send(process, writes, loses=loses)

    def written_by(self, process: Process, run: Run, how: str, number: int, waits: tuple[int, int]) -> Write:
        write_id = next(process.write_ids)
        if how in ENDS:
            end = "fail" if how == "retry" and run.consumer is None else how
            delay_ms = waits[0] * SECOND + next(
                self.numbers
            )  # no two at the same time: which is first would be chance
            known = list(self.model.workflows)
            awaited = [known[(waits[1] + more) % len(known)] for more in range(1 + number % 3)]
            return run.end(end, self.clock.now_ms(), delay_ms, awaited, knows_more=number % 2 == 0)
        if how == "clash" and run.steps:
            return run.checkpoint(min(run.steps), write_id)
        if how != "call":
            write = run.step(write_id, failed=how == "failed step")
            write.shielded = how == "shielded step"
            return write
        queue = "q" if number % 3 == 0 else None
        return run.step(write_id, child=self.new(process, queue, here=number % 2 == 0, parent=run.id))

    @act(3, lambda self: any(process.unanswered for process in self.processes), which=WHICH)
    def write_again(self, which: int) -> None:
        waiting = [process for process in self.processes if process.unanswered]
        process = waiting[which % len(waiting)]
        self.send(process, process.unanswered)

    # -- rules 2 and 5: taking ----------------------------------------------------------------

    def take(self, process: Process, name: str, *arguments: Any) -> None:
        taken = self.ask(name, process.executor, process.application, process.version, *arguments)
        if taken is None:
            process.lose_everything()
        else:
            self.begin(process, taken)

    def begin(self, process: Process, taken: Sequence[TakenWorkflow]) -> None:
        """Read the history of what was taken, and run it."""
        history = self.storage.workflows.read_checkpoints([one.id for one in taken])
        for one in taken:
            view = {
                entry.step: (entry.output, entry.error, entry.write_id, entry.recorded_in)
                for entry in history[one.id]
            }
            assert view == self.model.view(one.id)
            process.runs.append(Run.of(one, list(view)))

    @act(2, which=WHICH, count=SOME, limit=CRASHES, waits=WAITS, names=NAMES)
    def adopt(self, which: int, count: int, limit: int | None, names: Sequence[str], *, waits: bool) -> None:
        self.take(self.process(which), "adopt_from_dead", dict.fromkeys(names, limit), count, waits)

    @act(4, which=WHICH, count=SOME, waits=WAITS, names=NAMES, seconds=st.integers(0, 6))
    def wake(self, which: int, count: int, names: Sequence[str], seconds: int, *, waits: bool) -> None:
        self.clock.move_to(self.clock.now_ms() + seconds * SECOND)
        self.take(self.process(which), "take_due", names, count, waits)

    @act(
        4,
        which=WHICH,
        queue=st.sampled_from(["q", "r"]),
        limits=QUEUE_LIMITS,
        count=SOME,
        waits=WAITS,
        names=NAMES,
    )
    def claim(
        self, which: int, queue: str, limits: QueueLimits, count: int, names: Sequence[str], *, waits: bool
    ) -> None:
        self.take(self.process(which), "claim", queue, limits, names, count, waits)

    @act(2, which=WHICH, count=SOME, waits=WAITS, names=NAMES)
    def claim_resumed(self, which: int, count: int, names: Sequence[str], *, waits: bool) -> None:
        self.take(self.process(which), "claim_resumed", names, count, waits)

    # -- operators ----------------------------------------------------------------------------

    @act(2, lambda self: self.model.workflows, which=st.lists(WHICH, min_size=1, max_size=2))
    def cancel(self, which: list[int]) -> None:
        self.ask("cancel", self.some_workflows(which), form=sorted)

    @act(2, lambda self: self.model.workflows, which=st.lists(WHICH, min_size=1, max_size=2))
    def cancel_trees(self, which: list[int]) -> None:
        self.ask("cancel_trees", self.some_workflows(which), form=sorted)

    @act(3, which=WHICH, count=SOME, seconds=st.integers(0, 3))
    def pass_deadlines(self, which: int, count: int, seconds: int) -> None:
        """Rule 20, and then the runs write on, as far as they do not know."""
        self.clock.move_to(self.clock.now_ms() + seconds * SECOND)
        application = self.process(which).application
        self.ask("next_due", application)
        self.ask("end_due", application, count, form=sorted)

    @act(
        4,
        lambda self: self.model.workflows,
        which=st.lists(WHICH, min_size=1, max_size=2),
        claimed=WHICH,
        late=LATE,
    )
    def resume(self, which: list[int], claimed: int, late: list[str]) -> None:
        """Whoever runs it does not know; often the very same process takes it up again, and its old run writes on."""
        ids = self.some_workflows(which)
        owner = self.model.workflows[ids[0]].owner
        self.ask("resume", ids, form=sorted)
        for process in self.processes if claimed < 60 else []:
            if process.executor == owner:
                old = [run for run in process.runs if run.id in ids and not run.over]
                self.take(process, "claim_resumed", FUNCTIONS, 9, False)
                if old and late and not process.unanswered:
                    self.send(process, [self.written_by(process, old[0], late[0], claimed, (0, 0))])

    # -- looking ------------------------------------------------------------------------------

    @act(1, which=WHICH)
    def look_at_workflows(self, which: int) -> None:
        """What the reading methods say, compared with the model where the tables alone do not tell."""
        process, known = self.process(which), sorted(self.model.workflows)
        self.ask("next_wake", process.application)
        self.ask("stopped_among", process.executor, known)
        self.ask("read_divergences", known)
        listed = {row.id: row.alive for row in self.storage.executors.read(process.application)}
        for number, executor in self.model.executors.items():
            owns = any(
                (row.owner, row.status) == (number, "PENDING") for row in self.model.workflows.values()
            )
            shown = executor.application == process.application and (executor.alive or owns)
            assert listed.get(number) == (executor.alive if shown else None)
        for workflow_id in known[:3]:
            ending = self.storage.workflows.read_ending(workflow_id)
            assert ending is not None
            found = (ending.output, ending.error)
            assert found == self.model.results.get(workflow_id, (None, None))

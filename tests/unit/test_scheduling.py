"""Which process of a test run gets which test: all get what they can have, and no more than two have slow ones."""

import random
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from xdist.remote import Producer

from tests.scheduling import AT_ONCE, Sharing, tell


class Process:
    """Runs what it is given in that order; as the real one, it keeps its last test until it hears of another or the end."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.gateway = SimpleNamespace(id=name)
        self.shutting_down = False
        self.waiting: list[int] = []
        self.ran: list[int] = []

    def send_runtest_some(self, indices: list[int]) -> None:
        assert not self.shutting_down
        self.waiting += indices

    def shutdown(self) -> None:
        self.shutting_down = True

    @property
    def runs(self) -> int | None:
        """The test that it is at."""
        return self.waiting[0] if len(self.waiting) > 1 or (self.waiting and self.shutting_down) else None


class Run:
    """A run of tests in several processes, one step after the other."""

    def __init__(
        self, folder: Path, processes: int, tests: list[str], groups: dict[str, str] | None = None
    ) -> None:
        self.tests = tests
        option = SimpleNamespace(loadscopereorder=True)
        config: Any = SimpleNamespace(option=option, getvalue=lambda _: ["popen"] * processes)
        self.processes = [Process(f"gw{number}") for number in range(processes)]
        self.sharing = Sharing(config, Producer("sharing", enabled=False), folder)
        for process in self.processes:
            tell([_item(test, (groups or {}).get(test)) for test in tests], folder, process.name)
            self.sharing.add_node(process)  # type: ignore[arg-type]
            self.sharing.add_node_collection(process, tests)  # type: ignore[arg-type]
        self.sharing.schedule()

    def go_on(self) -> set[str]:
        """Let one process, by chance, end its test; give those that were slow while it ran."""
        running = [process for process in self.processes if process.runs is not None]
        slow = {self.tests[process.runs] for process in running if "slow" in self.tests[process.runs or 0]}  # type: ignore[index]
        if running:
            process = random.choice(running)
            process.ran.append(process.waiting.pop(0))
            self.sharing.mark_test_complete(process, process.ran[-1])  # type: ignore[arg-type]
        return slow

    def of(self, process: Process) -> list[str]:
        return [self.tests[index] for index in process.ran]


def _item(test: str, group: str | None) -> Any:
    marks = {"slow": pytest.mark.slow if "slow" in test else None}
    marks["xdist_group"] = pytest.mark.xdist_group(group).mark if group else None  # type: ignore[assignment]
    return SimpleNamespace(nodeid=test, get_closest_marker=marks.get)


QUICK = [f"a.py::quick[{number}]" for number in range(40)]
SLOW = [f"b.py::slow[{number}]" for number in range(12)]
REST = [f"c.py::rest[{number}]" for number in range(20)]


@pytest.mark.parametrize("processes", [1, 2, 3, 5])
@pytest.mark.parametrize(
    "tests", [QUICK + SLOW + REST, SLOW + QUICK, QUICK + SLOW, SLOW, SLOW[:1], QUICK[:1]]
)
def test_every_test_runs_once_and_at_most_two_slow_ones_at_a_time(
    tmp_path: Path, processes: int, tests: list[str]
) -> None:
    run = Run(tmp_path, processes, tests)
    most = max(len(run.go_on()) for _ in range(len(tests) + 1))
    assert sorted(test for process in run.processes for test in run.of(process)) == sorted(tests)
    assert most <= AT_ONCE
    assert run.sharing.tests_finished


def test_other_processes_go_on_with_what_is_behind_the_slow_ones(tmp_path: Path) -> None:
    run = Run(tmp_path, 3, SLOW + REST)
    slow, third = run.processes[:2], run.processes[2]
    assert all(run.tests[process.runs or 0] in SLOW for process in slow)
    assert run.tests[third.runs or 0] == REST[0]


def test_tests_of_a_group_run_in_one_process_one_after_the_other(tmp_path: Path) -> None:
    group = REST[::3]
    run = Run(tmp_path, 3, REST, dict.fromkeys(group, "wheel"))
    while not all(process.shutting_down and not process.waiting for process in run.processes):
        run.go_on()
    [(together, first)] = [
        (run.of(p), run.of(p).index(group[0])) for p in run.processes if group[0] in run.of(p)
    ]
    assert together[first : first + len(group)] == group

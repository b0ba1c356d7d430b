"""Which of the processes of a test run gets which test, when `pytest-xdist` shares them out.

Tests marked `slow` hold processes and servers to deadlines, which more than two of them at once would miss. So two processes
at most have slow ones; the others go on with what comes after them. Tests of one `xdist_group` stay together.

`pytest-xdist` tells of groups by a suffix to the ids of tests, which pytest since 9.2 does not take, and nothing says so. So
each process leaves a file that tells which tests are slow or in a group; the process that shares them out reads it.
"""

import json
from pathlib import Path
from typing import Any

import pytest
from xdist.scheduler import LoadScopeScheduling
from xdist.workermanage import WorkerController

AT_ONCE = 2
"""Processes that may have slow tests at one time."""


def tell(items: list[pytest.Item], folder: Path, worker: str) -> None:
    """Leave word of the tests that this process has collected."""
    slow = [item.nodeid for item in items if item.get_closest_marker("slow") is not None]
    groups = {item.nodeid: mark.args[0] for item in items if (mark := item.get_closest_marker("xdist_group"))}
    (folder / f"{worker}.json").write_text(json.dumps({"slow": slow, "groups": groups}))


class Sharing(LoadScopeScheduling):
    """Hands out tests one by one in the order of their collection, but for what is slow or in a group."""

    def __init__(self, config: pytest.Config, log: Any, told: Path) -> None:
        super().__init__(config, log)
        self.config.option.loadscopereorder = False
        self._told = told
        self._groups: dict[str, str] = {}
        self._slow: set[str] = set()

    def schedule(self) -> None:
        if self.collection is None and self.collection_is_completed:
            for file in sorted(self._told.glob("*.json"))[:1]:  # they say the same
                told = json.loads(file.read_text())
                self._groups = told["groups"]
                self._slow = {self._split_scope(test) for test in told["slow"]}
        super().schedule()

    def _split_scope(self, nodeid: str) -> str:
        return self._groups.get(nodeid, nodeid)

    def _reschedule(self, node: WorkerController) -> None:
        if self.workqueue and not node.shutting_down and self._next_for(node) is None:
            node.shutdown()  # it ends what it has: a process keeps its last test until it hears that there are no more
        else:
            super()._reschedule(node)

    def _assign_work_unit(self, node: WorkerController) -> None:
        scope = self._next_for(node)
        if scope is not None:
            self.workqueue.move_to_end(scope, last=False)
            super()._assign_work_unit(node)

    def _next_for(self, node: WorkerController) -> str | None:
        """The first of what waits that this process may have."""
        busy = [other for other in self.nodes if other is not node and self._has_slow(other)]
        if len(busy) < AT_ONCE:
            return next(iter(self.workqueue))
        return next((scope for scope in self.workqueue if scope not in self._slow), None)

    def _has_slow(self, node: WorkerController) -> bool:
        units = self.assigned_work[node].items()
        return any(scope in self._slow and not all(unit.values()) for scope, unit in units)

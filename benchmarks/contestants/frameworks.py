"""Us and the peer behind one name: the same program, with another module imported.

What differs between the two beside the import, each in a function here: where the outcomes
stand in the database, and how a queue is declared.
"""

from __future__ import annotations

import importlib
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    from collections.abc import Callable

    import dbos_events
    from benchmarks.contestants.common import Task

OURS = "dbos_events"
PEER = "dbos"
TABLES = {OURS: ("dbos_events", "workflows"), PEER: ("dbos", "workflow_status")}


class Framework:
    """One of the two, with a program's registry still empty."""

    def __init__(self, task: Task, **settings: Any) -> None:
        module = importlib.import_module(task.framework)
        self._module = module
        self.name = task.framework
        self.url = task.url
        # The peer's is another class; it has the names that are used here.
        self.api = cast("type[dbos_events.DBOS]", module.DBOS)
        config: dict[str, Any] = {
            "name": "benchmark",
            "system_database_url": task.url,
            "log_level": "ERROR",
            **settings,
        }
        self.api(config=cast("dbos_events.DBOSConfig", config))

    @property
    def module(self) -> Any:
        """What a program imports."""
        return self._module

    @property
    def is_ours(self) -> bool:
        """Whether it is us."""
        return self.name == OURS

    def table(self, name: str | None = None) -> str:
        """Return the table of workflows, or another, as SQL names it."""
        schema, workflows = TABLES[self.name]
        table = name or workflows
        return table if self.url.startswith("sqlite") else f"{schema}.{table}"

    def succeeded(self) -> str:
        """Return the statement that counts durable outcomes."""
        return f"SELECT count(*) FROM {self.table()} WHERE status = 'SUCCESS'"

    def serve_queue(self, name: str, **settings: Any) -> Callable[..., Any]:
        """Declare a queue, which this process serves from now on; gives what enqueues. After launch."""
        if self.is_ours:
            return cast("Callable[..., Any]", self._module.Queue(name, **settings).enqueue)
        cast("Any", self.api).register_queue(name, **settings)
        return self.enqueue(name)

    def with_options(self, **options: Any) -> AbstractContextManager[Any]:
        """Return a block whose enqueues have these options."""
        return (
            cast("AbstractContextManager[Any]", self._module.SetEnqueueOptions(**options))
            if options
            else nullcontext()
        )

    def enqueue(self, name: str) -> Callable[..., Any]:
        """Return the peer's way to enqueue without serving."""
        peer = cast("Any", self.api)
        return lambda workflow, *args: peer.enqueue_workflow(name, workflow, *args)

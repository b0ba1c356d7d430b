"""Which branch of its run a task is, also where nobody was told of the task when it was made."""

from __future__ import annotations

import asyncio
from typing import Any

from dbos_events.engine.context import CURRENT, Scope, name_of_task


def own_scope(scope: Scope, task: asyncio.Task[Any], loop: asyncio.AbstractEventLoop) -> Scope:
    """The branch of the task that runs on `loop`, which `scope` is, unless another living task makes its calls as that, too.

    To be asked where `scope` does not know the task, which is so at its first call.

    Such a task was made past the task factory: on a loop that a sync workflow runs by itself, or as `asyncio.Task(...)`.
    It gets a branch of its own now; those get them in the order of their first calls.
    """
    if scope.task and any(id(other) == scope.task for other in asyncio.all_tasks(loop)):
        scope = scope.branch(name_of_task(task.get_coro()))
        CURRENT.set(scope)
        if scope.run.tasks is not None:
            scope.run.tasks.add(task)
            scope.run.core.runner.past_the_factory.say(
                "Workflow %s (%s): a task was made past the task factory of its event loop, so its place in the "
                "history is the order of first calls. Make tasks with asyncio.create_task.",
                scope.run.id,
                scope.run.function.name,
            )
    scope.task = id(task)
    return scope

"""The engine in a process that was forked from the one that launched it: it says so, and does nothing."""

from __future__ import annotations

import os
from functools import partial
from typing import TYPE_CHECKING, Any, NoReturn

from dbos_events.errors import DBOSException
from dbos_events.storage.forks import InParent, keep_for_ever

if TYPE_CHECKING:
    from dbos_events.engine.core import Core


def refuse_after_fork(parent: int) -> NoReturn:
    """Tell a forked process what it cannot do, and what to do instead."""
    raise DBOSException(
        f"DBOS was launched in process {parent}, and this process ({os.getpid()}) was forked from it later: it has none of "
        "its threads and must not use its connections. Call DBOS.launch() in this process, or fork before the launch."
    )


def leave_core(core: Core, parent: int) -> None:
    """Have each use of `core` fail: by a handle, or by code that was forked out of a workflow or a step."""
    for name in ("storage", "committer", "runner", "hub", "pool", "readers", "stopped", "homes"):
        keep_for_ever(getattr(core, name, None))
        stand_in: Any = InParent(partial(refuse_after_fork, parent))
        setattr(core, name, stand_in)
    # The next durable operation would wait for the lease, and finds on the way that there is nothing to wait for.
    core.lease_end = float("-inf")

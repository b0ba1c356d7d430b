"""What the model of the storage is asked, and how the storage is asked the same."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tests.storage.building import adopt_from, claim_from, claim_resumed_from, wake_from

TAKINGS: dict[str, Callable[..., Any]] = {
    "claim": claim_from,
    "claim_resumed": claim_resumed_from,
    "adopt_from_dead": adopt_from,
    "take_due": wake_from,
}
"""Functions, given a storage first."""

ASKED = {
    "renew_lease": "executors.renew",
    "release_executor": "executors.release",
    "declare_dead": "executors.declare_dead",
    "free_lanes_of_dead": "lanes.free_of_dead",
    "next_wake": "taking.next_wake",
    "stopped_among": "workflows.stopped_among",
    "cancel": "workflows.cancel",
    "resume": "workflows.resume",
    "read_divergences": "generations.read_divergences",
    "intake": "intake.take_in",
    "assign": "positions.assign",
    "skip": "positions.skip",
    "take_lanes": "lanes.take",
    "hold_lane": "lanes.hold",
    "leave_lane": "lanes.leave",
    "release_unstarted": "lanes.release_unstarted",
    "ready_lanes": "lanes.ready",
    "lanes_after": "lanes.after",
    "owned_entries": "lanes.owned",
    "count_open": "lanes.count_open",
    "count_held": "lanes.count_held",
    "take_orphan": "orphans.take",
    "release_orphan": "orphans.release",
    "redrive": "quarantine.redrive",
    "discard": "quarantine.discard",
    "cancel_trees": "endings.cancel_trees",
    "end_due": "endings.end_due",
    "next_due": "endings.next_due",
}
"""Method of the model, subject and method of the storage; what concerns the storage as a whole is called the same."""

"""The proof: what was ordered, what happened, and what the database says, held against each other."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from examples.demo.ledger import Call, Entry, Ledger
from examples.demo.orders import Order
from examples.demo.workers import Workers


@dataclass(frozen=True)
class Check:
    """One claim, whether it holds, and what speaks against it."""

    claim: str
    holds: bool
    against: str = ""


@dataclass(frozen=True)
class Proof:
    """All claims, and what the crash left behind."""

    checks: list[Check]
    calls: list[Call]
    repeated: list[str]
    taken_over: list[str]

    @property
    def holds(self) -> bool:
        return all(check.holds for check in self.checks)


def prove(orders: Sequence[Order], ledger: Ledger, workers: Workers, killed: str) -> Proof:
    """Look at the ledger and, through the command line, at the database."""
    calls = ledger.calls()
    repeated = sorted(key for key, times in Counter(call.key for call in calls).items() if times > 1)
    of_killed = {call.order_id for call in calls if call.worker == killed}
    taken_over = sorted({call.order_id for call in calls if call.worker != killed} & of_killed)
    entries = ledger.entries()
    checks = [
        once(orders, entries, "charge", "charged"),
        once(orders, entries, "ship", "shipped"),
        money(orders, entries),
        Check(
            f"the crash of {killed} interrupted {len(taken_over)} orders, and others finished them",
            bool(taken_over),
            "it interrupted none, so this run shows nothing: try again, or with more --orders",
        ),
        workflows(len(orders), workers),
        watermarks(len(orders), workers),
    ]
    return Proof(checks, calls, repeated, taken_over)


def once(orders: Sequence[Order], entries: Sequence[Entry], kind: str, verb: str) -> Check:
    """Each order has one entry of this kind, and nothing else has any."""
    counts = Counter(entry.order_id for entry in entries if entry.kind == kind)
    ordered = {order.id for order in orders}
    wrong = [f"{id_}: {counts[id_]} times" for id_ in sorted(ordered | set(counts)) if counts[id_] != 1]
    unknown = [f"{id_}: never ordered" for id_ in sorted(set(counts) - ordered)]
    return Check(
        f"each of the {len(orders)} orders was {verb} once", not wrong + unknown, _few(wrong + unknown)
    )


def money(orders: Sequence[Order], entries: Sequence[Entry]) -> Check:
    due = sum(order.cents for order in orders)
    taken = sum(entry.cents for entry in entries)
    return Check(
        f"the money taken is the money due: {due / 100:,.2f}", due == taken, f"taken {taken / 100:,.2f}"
    )


def workflows(count: int, workers: Workers) -> Check:
    """One workflow for each order, and each has ended well: `dbos-events workflow list`."""
    printed = workers.command("workflow", "list", "--name", "on_order", "--limit", str(count + 1), "--json",
                              "--application", workers.application)  # fmt: skip
    states = Counter(workflow["status"] for workflow in json.loads(printed))
    return Check(
        f"the database has {count} workflows, one for each event, all of them SUCCESS",
        states == Counter({"SUCCESS": count}),
        str(dict(states)),
    )


def watermarks(count: int, workers: Workers) -> Check:
    """Every record is behind a watermark, and nothing is left: `dbos-events kafka status`."""
    partitions = json.loads(workers.command("kafka", "status", "--json"))
    taken_in = sum(one["watermark"] for one in partitions)
    left = sum(one["in_flight"] + one["held"] + one["quarantined"] for one in partitions)
    return Check(
        f"the watermarks of {len(partitions)} partitions add up to {count}, nothing is held or quarantined",
        taken_in == count and left == 0,
        f"they add up to {taken_in}, {left} events are left",
    )


def _few(problems: Sequence[str]) -> str:
    more = f" and {len(problems) - 5} more" if len(problems) > 5 else ""
    return ", ".join(problems[:5]) + more

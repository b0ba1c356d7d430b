"""The faults, and the schedule of them that a seed gives.

A fault is a function of the field and of its strike, carried out on a thread of its own: it may rest, and others strike
meanwhile. What it does to a worker it does under that worker's slot's lock, what it does to a server under the server's.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import TYPE_CHECKING

from tests.chaos import database_faults  # noqa: F401 - registers them
from tests.chaos.proxy import is_database_commit, is_offset_commit
from tests.chaos.strikes import FAULTS, Strike, fault, pick

if TYPE_CHECKING:
    from tests.chaos.field import Field
    from tests.chaos.plan import Plan

__all__ = ("FAULTS", "names", "schedule")

LONG = 4.0, 6.5
"""Longer than a lease, and than the session of a member of the group."""

BETWEEN = 1.9, 2.2
"""Longer than a session, and over before a lease is: the last heartbeat may have been a quarter of it before."""

CLOCKS_OFF = -60.0, 60.0, -600.0, 600.0
"""Seconds by which a host's clock may be off."""


def schedule(plan: Plan) -> list[Strike]:
    """All strikes of a run: one of each kind in every round, in an order by chance."""
    chance = random.Random(plan.seed)
    strikes: list[Strike] = []
    at = min(plan.pace, 3.0)
    while plan.faults and at < plan.seconds:
        kinds = list(plan.faults)
        chance.shuffle(kinds)
        for name in kinds:
            kind = FAULTS[name]
            strikes.append(
                Strike(
                    at=round(at + chance.uniform(-0.5, 0.5), 2),
                    fault=name,
                    slot=chance.randrange(plan.processes),
                    seconds=round(chance.uniform(kind.shortest, kind.longest), 2),
                    coin=round(chance.random(), 3),
                )
            )
            at += plan.pace
    return sorted((strike for strike in strikes if strike.at < plan.seconds), key=lambda strike: strike.at)


# ------------------------------------------------------------------ processes


@fault()
def kill(field: Field, strike: Strike) -> None:
    """kill -9; another one comes under an id of its own."""
    with field.slot(strike.slot) as slot:
        slot.kill()
        slot.start()


@fault()
def same_id(field: Field, strike: Strike) -> None:
    """kill -9; it is there again at once under the same id."""
    with field.slot(strike.slot) as slot:
        slot.kill()
        slot.start(label=slot.worker.label)


@fault(*LONG)
def freeze(field: Field, strike: Strike) -> None:
    """SIGSTOP until its lease and its session are over: what wakes up is a zombie."""
    with field.slot(strike.slot) as slot:
        slot.freeze(strike.seconds, harms=True)


@fault(0.2, 0.8)
def hiccup(field: Field, strike: Strike) -> None:
    """SIGSTOP for so short a time that nobody may take anything from it."""
    with field.slot(strike.slot) as slot:
        slot.freeze(strike.seconds, harms=False)


@fault(*BETWEEN)
def doze(field: Field, strike: Strike) -> None:
    """SIGSTOP until its partitions are others', and its lease is not over: only their epochs tell it so."""
    with field.slot(strike.slot) as slot:
        slot.freeze(strike.seconds, harms=False)


@fault()
def deploy(field: Field, strike: Strike) -> None:
    """SIGTERM, and another one beside it while it drains."""
    with field.slot(strike.slot) as slot:
        leaving = slot.let_go()
        slot.start()
        field.crew.wait_stopped(leaving)


@fault(0.1, 2.5)
def stop_asleep(field: Field, strike: Strike) -> None:
    """SIGSTOP, SIGTERM while it is stopped, SIGCONT: it must hear what it was told, and end in time."""
    with field.slot(strike.slot) as slot:
        leaving = slot.let_go(asleep=strike.seconds)
        slot.start()
        field.crew.wait_stopped(leaving)


@fault()
def clock_off(field: Field, strike: Strike) -> None:
    """kill -9; another one comes from a host whose clock is a minute or ten off, behind or ahead."""
    with field.slot(strike.slot) as slot:
        slot.kill()
        slot.start(clock_seconds=pick(CLOCKS_OFF, strike.coin))


@fault(1.0, 3.0)
def crowd(field: Field, strike: Strike) -> None:
    """Members join in a burst and leave in another one: the group is balanced again and again."""
    guests = [field.crew.guest() for _ in range(2 if strike.coin < 0.5 else 3)]
    field.crew.wait_launched(guests)
    field.rest(strike.seconds)
    field.crew.kill(guests[0])
    field.crew.stop(guests[1:])


# ------------------------------------------------------------------ the database


@fault(0.0, 2.0)
def database_crash(field: Field, strike: Strike) -> None:
    """An immediate stop: no transaction is ended, all connections are gone, recovery from the log."""
    with field.database_lock:
        field.database.kill()
        field.rest(strike.seconds)
        field.database.start()


@fault(2.0, 4.0)
def disk_full(field: Field, strike: Strike) -> None:
    """Writes fail with SQLSTATE 53100, to one table or to all."""
    field.fill_disk(strike.coin)
    field.rest(strike.seconds)
    field.fill_disk(None)


@fault()
def database_cut(field: Field, strike: Strike) -> None:
    """All connections to the database break: of one worker, or of all."""
    for proxy in field.database_proxies(strike):
        proxy.cut()


@fault(0.5, 1.5)
def database_stall(field: Field, strike: Strike) -> None:
    """Nothing comes through to the database and nothing back, for less than a lease."""
    field.stall(field.database_proxies(strike), strike.seconds)


@fault(*LONG)
def database_isolated(field: Field, strike: Strike) -> None:
    """One worker cannot reach the database until its lease is over, and Kafka still thinks it well."""
    slot = field.slot(strike.slot)
    slot.harm()
    field.stall([slot.database], strike.seconds, then_cut=strike.coin < 0.5)


@fault(3.0, 3.0)
def database_answers(field: Field, strike: Strike) -> None:
    """The next commits are done, and whoever asked for them is not told."""
    for proxy in field.database_proxies(strike):
        proxy.lose_answers(is_database_commit, 4 + int(strike.coin * 12))
    field.rest(strike.seconds)
    for proxy in field.database_proxies(strike):
        proxy.lose_answers(is_database_commit, 0)


# ------------------------------------------------------------------ the broker


@fault(0.0, 2.0)
def broker_crash(field: Field, strike: Strike) -> None:
    """kill -9 of the only broker; it comes back with its log."""
    with field.broker_lock:
        field.broker.kill()
        field.rest(strike.seconds)
        field.broker.start()


@fault()
def broker_cut(field: Field, strike: Strike) -> None:
    """All connections to the broker break: of one worker, or of all."""
    for proxy in field.broker_proxies(strike):
        proxy.cut()


@fault(*LONG)
def broker_isolated(field: Field, strike: Strike) -> None:
    """One worker cannot reach the broker until its session is over: its partitions go to others while it works on."""
    slot = field.slot(strike.slot)
    field.stall([slot.broker], strike.seconds, then_cut=strike.coin < 0.5)


@fault(*BETWEEN)
def cut_off(field: Field, strike: Strike) -> None:
    """One worker reaches neither server until its partitions are others'; what it had sent arrives then."""
    slot = field.slot(strike.slot)
    field.stall([slot.database, slot.broker], strike.seconds)


@fault(3.0, 3.0)
def broker_answers(field: Field, strike: Strike) -> None:
    """The next commits of offsets are done, and whoever asked for them is not told."""
    for proxy in field.broker_proxies(strike):
        proxy.lose_answers(is_offset_commit, 1 + int(strike.coin * 3))
    field.rest(strike.seconds)
    for proxy in field.broker_proxies(strike):
        proxy.lose_answers(is_offset_commit, 0)


def names(strikes: Sequence[Strike]) -> str:
    """What struck, in order, for people."""
    return ", ".join(f"{strike.fault} {strike.slot} at {strike.at:g}" for strike in strikes)

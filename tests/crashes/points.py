"""Points at which a process may die or lose an answer: counted as they are passed, and struck when one is chosen."""

import os
import signal
import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, NamedTuple, TypeVar

R = TypeVar("R")

Fault = Literal["die", "lose"]
"""The process dies; or it lives, and the answer to what it did is lost with its connection."""


class Point(NamedTuple):
    """The `number`-th call of `name` in one life of a process, and which side of it."""

    name: str
    number: int
    when: Literal["before", "after"]

    def __str__(self) -> str:
        return f"{self.when} {self.name} #{self.number}"


class Seen(NamedTuple):
    """A point that a run has passed. Between two of the same `state` nothing became durable."""

    point: Point
    state: int


@dataclass(frozen=True, slots=True)
class Strike:
    """What happens at which point."""

    point: Point
    fault: Fault = "die"


class Watch:
    """Counts the calls of this process, and strikes at one of them.

    With `most`, only so many calls of one name are points.
    """

    def __init__(self, strike: Strike | None = None, most: int | None = None) -> None:
        self._strike = strike
        self._most = most
        self._lock = threading.Lock()
        self._counted = threading.Condition(self._lock)
        self._counts: Counter[str] = Counter()
        self._state = 0
        self.seen: list[Seen] = []
        self.struck = False

    def around(self, name: str, call: Callable[[], R], *, lose: Callable[[], Exception] | None = None) -> R:
        """Do `call`; `lose` cuts the connection and gives what the driver raises then."""
        number = self._count(name)
        self._pass(Point(name, number, "before"))
        answer = call()
        if self._pass(Point(name, number, "after")) and lose is not None:
            raise lose()
        return answer

    def after(self, name: str, answer: R) -> R:
        """As `around`, for a call that is a point only when it gave something."""
        if answer:
            self._pass(Point(name, self._count(name), "after"))
        return answer

    def wait_for(self, name: str, seconds: float) -> None:
        """Wait until a call of that name was begun."""
        with self._counted:
            self._counted.wait_for(lambda: self._counts[name] > 0, seconds)

    def became_durable(self) -> None:
        """What was done before cannot be undone by a crash any more."""
        with self._lock:
            self._state += 1

    def _count(self, name: str) -> int:
        with self._counted:
            self._counts[name] += 1
            self._counted.notify_all()
            return self._counts[name]

    def _pass(self, point: Point) -> bool:
        """Die if it is to be here; true when the answer is to be lost."""
        if self._most is not None and point.number > self._most:
            return False
        with self._lock:
            self.seen.append(Seen(point, self._state))
        if self._strike is None or self._strike.point != point:
            return False
        self.struck = True
        if self._strike.fault == "die":
            os.kill(os.getpid(), signal.SIGKILL)
        return True

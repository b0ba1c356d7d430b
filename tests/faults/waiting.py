"""Waiting for something to become true."""

import time
from collections.abc import Callable
from typing import TypeVar

R = TypeVar("R")

LOOK_SECONDS = 0.02


def wait_until(condition: Callable[[], R], what: str, *, seconds: float = 30.0) -> R:
    """Return the first true answer of `condition`; fail when there is none in time."""
    deadline = time.monotonic() + seconds
    while True:
        answer = condition()
        if answer:
            return answer
        if time.monotonic() > deadline:
            message = f"after {seconds:g} s: {what}; the last answer was {answer!r}"
            raise AssertionError(message)
        time.sleep(LOOK_SECONDS)


def stays(condition: Callable[[], object], what: str, *, seconds: float) -> None:
    """Fail as soon as `condition` ceases to hold within `seconds`: for what must *not* happen."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        assert condition(), what
        time.sleep(LOOK_SECONDS)

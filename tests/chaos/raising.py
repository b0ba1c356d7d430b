"""What a handler may raise: classes of every base, and exceptions that make trouble when they are written down."""

import asyncio
from collections.abc import Callable


class OutsideException(BaseException):
    """A class of a user's that is no Exception."""


class Unprintable(Exception):
    """Its text cannot be had."""

    def __str__(self) -> str:
        raise RuntimeError("no text")

    __repr__ = __str__


class Unwritable(Exception):
    """It cannot be pickled, nor copied."""

    def __reduce__(self) -> tuple[object, ...]:
        raise TypeError("not to be written down")


class NeedsMore(Exception):
    """It cannot be made again from its arguments."""

    def __init__(self, *, code: int) -> None:
        super().__init__()
        self.code = code


def _loop_of_causes() -> Exception:
    """Each of two is the cause of the other."""
    first, second = ValueError("first"), ValueError("second")
    first.__cause__, second.__cause__ = second, first
    return first


RAISED: tuple[Callable[[], BaseException], ...] = (
    lambda: ValueError("as asked \x00 \ud800"),
    lambda: OutsideException("as asked"),
    lambda: SystemExit(3),
    KeyboardInterrupt,
    GeneratorExit,
    asyncio.CancelledError,
    Unprintable,
    Unwritable,
    lambda: NeedsMore(code=7),
    lambda: StopIteration(1),
    lambda: StopAsyncIteration(1),
    MemoryError,
    lambda: RecursionError("as asked"),
    lambda: ExceptionGroup("group", [ValueError("as asked")]),
    lambda: BaseExceptionGroup("group", [SystemExit(3), KeyboardInterrupt()]),
    _loop_of_causes,
)


def raised_by(partition: int, offset: int) -> BaseException:
    """What the event at this place raises."""
    return RAISED[(partition + offset) % len(RAISED)]()

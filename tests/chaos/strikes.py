"""What a fault is, where it is registered, and one of its strikes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from tests.chaos.field import Field


@dataclass(frozen=True, slots=True)
class Strike:
    """One fault of the schedule: when it begins, on which slot, how long it lasts; `coin` chooses between variants."""

    at: float
    fault: str
    slot: int
    seconds: float
    coin: float


@dataclass(frozen=True, slots=True)
class Fault:
    """A kind of fault, and how long one of it lasts: at least and at most."""

    name: str
    strike: Callable[[Field, Strike], None]
    shortest: float
    longest: float


T = TypeVar("T")

FAULTS: dict[str, Fault] = {}


def fault(shortest: float = 0.0, longest: float = 0.0) -> Callable[[Callable[[Field, Strike], None]], Fault]:
    """Register the function as a fault under its name."""

    def register(function: Callable[[Field, Strike], None]) -> Fault:
        made = Fault(function.__name__, function, shortest, longest)
        FAULTS[made.name] = made
        return made

    return register


def pick(choices: Sequence[T], coin: float) -> T:
    """The one of the choices that the coin says."""
    return choices[int(coin * len(choices))]

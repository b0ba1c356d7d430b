"""Idempotency keys of steps: the same for the same effect, whatever is mended around it (docs/protocol.md, rule 15)."""

from __future__ import annotations

import reprlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from dbos_events.errors import DBOSArgumentsChangedError, DBOSException
from dbos_events.model.dataclass import dataclass
from dbos_events.serialization.plain import is_plain_text

if TYPE_CHECKING:
    from dbos_events.storage.subjects.generations import KeyDecision, UsedKey

_ESCAPES = str.maketrans({letter: f"%{ord(letter):02X}" for letter in "%:#/~"})
_DERIVED, _DECLARED = "k", "d"
SHOWN_CHARACTERS = 300
"""As much of a call's arguments is kept with a failure, for people to compare."""


def part(name: str, occurrence: int) -> str:
    """One part of a key: `charge`, `charge#2`. Two parts are equal only for the same name and occurrence."""
    escaped = _escaped(name)
    return escaped if occurrence == 1 else f"{escaped}#{occurrence}"


@lru_cache(maxsize=1_000)
def _escaped(name: str) -> str:
    return name.translate(_ESCAPES)


class StepKey:
    """The key of one call of a step, and whether somebody has asked for it.

    It is put together when somebody asks. `prefix` is that of the run, `path` that of the branch; `declared` is
    what the step says itself, `variant` tells a key that an operator has asked for from the first one.
    """

    # Of the class, not set for each call: most steps never ask.
    declared: str | None = None
    variant = 0
    asked = False

    def __init__(self, prefix: str, path: str, name: str, occurrence: int) -> None:
        self.prefix = prefix
        self.path = path
        self.name = name
        self.occurrence = occurrence

    @property
    def place(self) -> str:
        """What is derived from the call, without the run."""
        return self.path + part(self.name, self.occurrence)

    @property
    def text(self) -> str:
        """What is handed to others."""
        base = self.prefix + self.place if self.declared is None else self.declared
        return f"{base}~{self.variant}" if self.variant else base

    @property
    def kind(self) -> str:
        return _DERIVED if self.declared is None else _DECLARED

    @property
    def stored(self) -> str:
        """The key as a checkpoint names it."""
        base = self.place if self.declared is None else self.declared
        return f"{self.kind}{self.variant} {base}"

    def declare(self, value: object, step: str) -> None:
        """Take what `idempotency_key=` of the step gave.

        Raises:
            DBOSException: It is not a text that can be stored.
        """
        if not isinstance(value, str) or not value.strip() or "\0" in value or not is_plain_text(value):
            raise DBOSException(
                f"Step {step}: idempotency_key=... gave {value!r}. It has to give a text that is not blank."
            )
        self.declared = value
        self.asked = True


# -- what a checkpoint says of arguments and key --------------------------------------------------


def noted(arguments: str, key: StepKey, shown: str | None = None) -> str:
    """What a checkpoint stores of a call: the hash of its arguments; where its key was asked for, that too."""
    if not key.asked:
        return arguments
    text = f"{arguments} {key.stored}"
    return text if shown is None else f"{text}\n{shown}"


def arguments_in(noted_text: str | None) -> str | None:
    """The hash alone."""
    return None if noted_text is None else noted_text.partition(" ")[0]


class _Short(reprlib.Repr):
    def __init__(self) -> None:
        super().__init__()
        self.maxstring = self.maxother = 60
        self.maxdict = self.maxlist = self.maxtuple = 6

    def repr_instance(self, x: Any, level: int) -> str:
        """As its class shows it; an address says nothing."""
        if getattr(type(x), "__repr__", None) is object.__repr__:
            return f"<{type(x).__name__}>"
        text = repr(x)
        return text if len(text) <= self.maxother else f"{text[: self.maxother - 3]}..."


_SHORT = _Short()


def shown_arguments(args: Sequence[object], kwargs: Mapping[str, object]) -> str:
    """A call's arguments for people, cut short; never fails."""
    try:
        parts = [_SHORT.repr(value) for value in args]
        parts += [f"{name}={_SHORT.repr(value)}" for name, value in kwargs.items()]
        text = f"({', '.join(parts)})"
    except Exception:  # noqa: BLE001 - it runs code of the user's classes
        text = f"({len(args) + len(kwargs)} arguments)"
    text = ascii(text)[1:-1] if not is_plain_text(text) or not text.isprintable() else text
    return text if len(text) <= SHOWN_CHARACTERS else f"{text[: SHOWN_CHARACTERS - 3]}..."


# -- what earlier generations did under a key -----------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Use:
    """One call under a key in an earlier generation."""

    generation: int
    arguments: str
    variant: int
    shown: str


class UsedKeys:
    """The keys under which earlier generations of a workflow called steps, and what operators said of them."""

    __slots__ = ("_decisions", "_uses")

    def __init__(self, used: Iterable[UsedKey], decisions: Iterable[KeyDecision]) -> None:
        self._uses: dict[tuple[str, str, str], list[_Use]] = {}
        for one in used:
            head, _, shown = one.noted.partition("\n")
            arguments, kind, base = head.split(" ", 2)
            use = _Use(one.generation, arguments, int(kind[1:]), shown)
            self._uses.setdefault((one.name, kind[0], base), []).append(use)
        self._decisions = {one.generation: one.keys for one in decisions}

    def settle(self, key: StepKey, name: str, arguments: str, shown: Callable[[], str]) -> str | None:
        """Give `key` the variant that this call goes out under; None when it may.

        Otherwise what is wrong: it was used with other arguments, and nobody has said which key to use now.
        """
        uses = self._uses.get((name, key.kind, key.place if key.declared is None else key.declared))
        if not uses:
            return None
        latest = max(use.generation for use in uses)
        last = [use for use in uses if use.generation == latest]
        same = [use for use in last if use.arguments == arguments]
        if same:
            key.variant = same[-1].variant
            return None
        said = [generation for generation in self._decisions if generation >= latest]
        if not said:
            before = last[-1].shown or f"with the hash {last[-1].arguments}"
            return (
                f"Step {name} was called with the arguments {before} under the idempotency key {key.text!r} in "
                f"generation {latest}, and would now be called with {shown()} under the same key"
            )
        decided = max(said)
        key.variant = last[-1].variant if self._decisions[decided] == "same" else decided + 1
        return None


def arguments_changed(workflow_id: str, problem: str, *, of_an_event: bool) -> DBOSArgumentsChangedError:
    """The error of a call that does not go out, with what to do."""
    advice = (
        "Nothing was called. Redrive the event with --same-key (whoever got the key may answer as to the first call, "
        "or refuse) or with --new-key (if the first call had an effect, there will be two); or make the code call it "
        "as before, and redrive it with neither."
        if of_an_event
        else "Nothing was called. Make the code call it as before, or start the workflow anew under another id."
    )
    return DBOSArgumentsChangedError(f"Workflow {workflow_id}: {problem}. {advice}")

"""Why a value cannot be stored, and where inside the outermost value it lies."""

from __future__ import annotations

from dbos_events.errors import SerializationError

_SHOWN_STEPS = 12
_CONVERTIBLE: tuple[type, ...] = (str, int, float, bytes, list, tuple, set, dict)

PICKLE_ADVICE = 'or opt in to pickle with serializer="pickle" in the config'


class NotStorable(Exception):
    """A part of a value cannot be stored; each container it lies in adds its own step to the path."""

    def __init__(self, kind: type, reason: str) -> None:
        super().__init__(reason)
        self.kind = kind
        self.reason = reason
        self._steps: list[str] = []

    def add_step(self, step: str) -> None:
        """Add the step that leads from a container to the refused part, innermost first."""
        self._steps.append(step)

    def as_error(self, root: str = "value") -> SerializationError:
        """Return the error for the user: path, type, reason and what to do."""
        return SerializationError(f"{root}{self._path()} is of type {type_name(self.kind)}: {self.reason}")

    def _path(self) -> str:
        steps = self._steps[::-1]
        if len(steps) > _SHOWN_STEPS:
            half = _SHOWN_STEPS // 2
            steps = [*steps[:half], "...", *steps[-half:]]
        return "".join(steps)


def type_name(kind: type) -> str:
    """Return the name people know a class by: `ValueError`, `shop.orders.Order`."""
    if kind.__module__ == "builtins":
        return kind.__qualname__
    return f"{kind.__module__}.{kind.__qualname__}"


def unknown_type(kind: type) -> NotStorable:
    """Return the refusal of a class that is none of the kinds that replay can restore exactly."""
    if hasattr(kind, "__await__"):
        return NotStorable(
            kind,
            "it has to be awaited before it can be stored. Was `await` forgotten, or is the function that gave it async?",
        )
    parent = next((base for base in _CONVERTIBLE if issubclass(kind, base)), None)
    if parent is not None:
        advice = f"It is a subclass of {parent.__name__}: convert it with {parent.__name__}(...)"
    else:
        advice = "Make it a dataclass or a pydantic model, return only the plain values that are needed"
    return NotStorable(kind, f"replay could not give back the same type. {advice}, {PICKLE_ADVICE}.")

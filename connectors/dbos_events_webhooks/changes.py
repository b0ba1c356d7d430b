"""What may be said differently for one endpoint than its provider's row says."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any, TypedDict

from dbos_events.connect import Clock
from dbos_events.errors import ConfigurationError
from dbos_events_webhooks.decompressing import Coding, Decompress, decompress_of
from dbos_events_webhooks.places import Body, Place, checked_place
from dbos_events_webhooks.reading import Reading
from dbos_events_webhooks.rows import Row
from dbos_events_webhooks.signature import SignatureScheme


class Options(TypedDict, total=False):
    """What may be said differently for one endpoint, beside its secrets.

    `key`, `type`, `time` are places (`Header`, `Body`, `BodyHash`, `FirstOf`, a tuple of them, or a function of the
    content). `split` is a list's path such as `items[]`, or a `Body`. `replay_guard=False` is for senders that
    rightly send the same bytes twice.
    """

    key: Place
    type: Place
    time: Place
    split: str | Body | tuple[str, ...]
    replay_guard: bool
    max_body: int
    accepted_status: int
    tolerance_seconds: int
    decompress: Decompress | Coding | tuple[Coding, ...]
    clock: Clock


_READING = {item.name for item in fields(Reading)}


def changed_row(row: Row, options: Options) -> Row:
    """The row with what is said differently.

    Raises:
        ConfigurationError: The provider has nothing of that kind, or there is no such option, or no such value of it.
    """
    given: dict[str, Any] = dict(options)
    _check(given)
    if "split" in given:
        given["split"] = _split(given["split"])
    reading = replace(row.reading, **{name: given[name] for name in given.keys() & _READING})
    if "decompress" in given:
        given["decompress"] = decompress_of(given["decompress"])
    own = {name: given[name] for name in given.keys() & {"max_body", "accepted_status", "decompress"}}
    changed = replace(row, reading=reading, **own)
    if "tolerance_seconds" not in given:
        return changed
    if not isinstance(row.scheme, SignatureScheme) or row.scheme.timestamp is None:
        raise ConfigurationError(f"{row.title} signs no time, so there is no tolerance_seconds.")
    return changed_scheme(changed, tolerance_seconds=given["tolerance_seconds"])


def _check(given: dict[str, Any]) -> None:
    """Options are looked at when the program starts: a wrong one would else fail every request, or count for nothing."""
    if odd := given.keys() - Options.__annotations__.keys():
        known = ", ".join(sorted(Options.__annotations__))
        raise ConfigurationError(f"A provider has no option {min(odd)!r}. There are: {known}.")
    for name in ("key", "type", "time"):
        if given.get(name) is not None:
            checked_place(name, given[name])
    for name, least, most in (
        ("max_body", 1, None),
        ("accepted_status", 200, 299),
        ("tolerance_seconds", None, None),
    ):
        value = given.get(name, least or 0)
        if isinstance(value, bool) or not isinstance(value, int):
            raise ConfigurationError(f"{name} is {value!r}. It has to be a whole number.")
        if (least is not None and value < least) or (most is not None and value > most):
            wanted = f"at least {least}" if most is None else f"from {least} to {most}"
            raise ConfigurationError(f"{name} is {value!r}. It has to be {wanted}.")


def _split(given: str | Body | tuple[str, ...]) -> tuple[str, ...]:
    several = given if isinstance(given, tuple) else (given,)
    if not all(isinstance(each, (str, Body)) for each in several):
        raise ConfigurationError(
            f"split is the path of a list, such as 'items' or Body('data.items'), and not {given!r}."
        )
    if isinstance(given, Body):
        given = given.path if isinstance(given.path, str) else ".".join(given.path)
    several = (given,) if isinstance(given, str) else given
    return tuple(path if path.endswith("[]") else f"{path}[]" for path in several)


def changed_scheme(row: Row, **changes: Any) -> Row:
    """The row with a scheme that differs in these fields."""
    assert isinstance(row.scheme, SignatureScheme)  # noqa: S101 - the rows that are changed have one
    return replace(row, scheme=replace(row.scheme, **changes))

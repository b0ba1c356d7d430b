"""What the annotation of a handler's argument asks for, resolved once, at registration."""

from __future__ import annotations

import functools
import inspect
import re
import sys
import types
import typing
from collections.abc import Callable, Iterator, Mapping
from typing import Annotated, Any, TypeAlias

from dbos_events.errors import RegistrationError
from dbos_events.model.dataclass import dataclass

Form: TypeAlias = Any

UNSPECIFIED: tuple[Form, ...] = (inspect.Parameter.empty, Any, object)
_RAW = frozenset({bytes, str, type(None)})


@dataclass(frozen=True, slots=True)
class Wanted:
    """What one argument takes.

    `whole` says that it is the message, with its value decoded, and not the value alone. `raw` are the
    types of a value that is used as it came (bytes, or text), empty for one that is decoded; it is
    `constrained` when it has more to fulfil than its type. `form` is the annotation of the value.
    """

    form: Form
    whole: bool
    raw: frozenset[Any]
    constrained: bool
    name: str


BARE = Wanted(bytes | str | None, whole=True, raw=_RAW, constrained=False, name="bytes | str | None")
"""A message, and nothing else said."""


def wanted(
    described: str,
    function: Callable[..., Any],
    message: type,
    namespace: Mapping[str, Any] | None = None,
) -> Wanted | None:
    """What the function's first argument takes; None where it takes any message as it came.

    Args:
        described: What `function` is, for errors: "Consumer 'orders': its handler".
        function: Called with one argument.
        message: The class of the messages that its connector has.
        namespace: Local names of the place where it is defined.

    Raises:
        RegistrationError: It does not take one argument, or the annotation cannot be resolved.
    """
    parameter = _parameter(described, function, message)
    if any(parameter.annotation is one for one in UNSPECIFIED):
        return None
    form = _resolved(described, function, parameter, namespace or {})
    types_in_it = [leaf for leaf, _ in _leaves(form)]
    messages = [leaf for leaf in types_in_it if message in (leaf, typing.get_origin(leaf))]
    if messages:
        _refuse_others(described, parameter, types_in_it, message)
        form = next(iter(typing.get_args(messages[0])), BARE.form)
    if [leaf for leaf, _ in _leaves(form)] in ([Any], [object]):
        return None
    return _wanted(described, parameter, form, whole=bool(messages))


def _wanted(described: str, parameter: inspect.Parameter, form: Form, *, whole: bool) -> Wanted:
    leaves = [leaf for leaf, _ in _leaves(form)]
    if all(leaf in (None, type(None)) for leaf in leaves):
        raise RegistrationError(
            f"{described} annotates {parameter.name!r} with None, so it could take tombstones only. Name the type of "
            "the other values: `Order | None`."
        )
    is_raw = all(isinstance(leaf, type) and leaf in _RAW for leaf in leaves)
    constrained = any(remarked for _, remarked in _leaves(form))
    return Wanted(form, whole, frozenset(leaves) if is_raw else frozenset(), constrained, _shown(form))


def _parameter(described: str, function: Callable[..., Any], message: type) -> inspect.Parameter:
    try:
        signature = _signature(function)
    except ValueError:  # written in C, such as operator.attrgetter
        return inspect.Parameter("message", inspect.Parameter.POSITIONAL_ONLY)
    try:
        signature.bind(object())
    except TypeError as error:
        raise RegistrationError(f"{described} must take one argument, the message ({error}).") from error
    first = next(iter(signature.parameters.values()))
    if first.kind is inspect.Parameter.VAR_POSITIONAL:
        raise RegistrationError(
            f"{described} takes *{first.name}, so what it gets cannot be told. Name the argument and annotate it: "
            f"`message: {message.__name__}`. A decorator around it keeps its signature with functools.wraps."
        )
    return first


def _signature(function: Callable[..., Any]) -> inspect.Signature:
    if sys.version_info >= (3, 14):
        import annotationlib  # annotations that cannot be evaluated come as references, to be resolved below

        return inspect.signature(function, annotation_format=annotationlib.Format.FORWARDREF)
    return inspect.signature(function)


def _resolved(
    described: str, function: Callable[..., Any], parameter: inspect.Parameter, namespace: Mapping[str, Any]
) -> Form:
    """The annotation as an object; the others of the function, its result among them, are left alone."""

    def stub() -> None: ...

    stub.__annotations__ = {"value": parameter.annotation}
    known = _globals(function)
    try:
        try:
            return typing.get_type_hints(stub, known, include_extras=True)["value"]
        except NameError:
            return typing.get_type_hints(stub, known, dict(namespace), include_extras=True)["value"]
    except Exception as error:
        text = _shown(parameter.annotation)
        raise RegistrationError(
            f"{described} annotates {parameter.name!r} with {text}, which cannot be resolved "
            f"({type(error).__name__}: {error}). The annotation says what an event's value is decoded into, so its "
            "names must be there when the program runs: import them outside of `if TYPE_CHECKING:`, and define "
            "them before the function."
        ) from error


def _globals(function: Callable[..., Any]) -> dict[str, Any]:
    """The names of the module that the function, or the method of a callable object, is defined in."""
    function = inspect.unwrap(function)
    while isinstance(function, functools.partial):
        function = function.func
    found = getattr(function, "__globals__", None)
    return found if found is not None else getattr(type(function).__call__, "__globals__", {})


def _leaves(form: Form, *, remarked: bool = False) -> Iterator[tuple[Form, bool]]:
    """The types that an annotation comes down to, each with whether `Annotated` says more of it."""
    origin: Form = typing.get_origin(form)
    if type(form).__name__ == "TypeAliasType":
        yield from _leaves(getattr(form, "__value__"), remarked=remarked)  # noqa: B009 - of Python 3.12
    elif origin is Annotated:
        yield from _leaves(typing.get_args(form)[0], remarked=True)
    elif origin in (typing.Union, types.UnionType):
        for part in typing.get_args(form):
            yield from _leaves(part, remarked=remarked)
    elif hasattr(form, "__supertype__"):  # typing.NewType
        yield from _leaves(form.__supertype__, remarked=remarked)
    else:
        yield form, remarked


def _refuse_others(described: str, parameter: inspect.Parameter, beside: list[Form], message: type) -> None:
    if len(beside) > 1:
        raise RegistrationError(
            f"{described} annotates {parameter.name!r} with a message among others. It always gets a message, or always "
            f"its value: write {message.__name__}[...], or the type of the value alone."
        )


def _shown(annotation: Form) -> str:
    """The annotation as people would write it, without the modules of its names."""
    if isinstance(annotation, type) and not typing.get_args(annotation):
        return annotation.__name__
    origin: Form = typing.get_origin(annotation)
    if origin is Annotated:
        return _shown(typing.get_args(annotation)[0])
    return re.sub(r"[\w.<>]*\.(\w+)", r"\1", str(annotation))[:200]

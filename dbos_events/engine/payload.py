"""Events' values: decoded into what a handler, or a filter, says it takes.

A plan is made once for each function, at registration. A record is decoded when a run of its event
starts, and anew in each run of it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, TypeAlias

from dbos_events.engine.annotations import BARE, Wanted, wanted
from dbos_events.engine.expiring import times_of
from dbos_events.engine.problems import problem_with, problem_with_json
from dbos_events.engine.shapes import at_once, check_answers, is_async, may_await
from dbos_events.errors import FilterFailed, RegistrationError, TryAgain, UndecodablePayload
from dbos_events.model.dataclass import dataclass
from dbos_events.model.message_type import Message, MessageType
from dbos_events.serialization.raised import is_interrupt

if TYPE_CHECKING:
    from dbos_events.model.event import PayloadCodec

Decode: TypeAlias = Callable[[Message], Any]


@dataclass(frozen=True, slots=True)
class Late:
    """The workflow that is started for an event that is too late, and how the event becomes its argument."""

    name: str
    decode: Decode | None


@dataclass(frozen=True, slots=True)
class Binding:
    """How an event becomes the argument of its handler, and which events do.

    `decode` is None where the handler takes the message as it came, `when` where every event is run, `until` where none
    is too late; `rule` and `expires` are the functions behind `when` and `until`.
    """

    decode: Decode | None
    when: Callable[[Message], bool] | None
    codec: PayloadCodec | None = None
    rule: Callable[[Any], bool] | None = None
    until: Callable[[Message], int | None] | None = None
    expires: Callable[[Any], Any] | None = None
    late: Late | None = None


NO_BINDING = Binding(None, None)


def bind(
    consumer: str,
    handler: Callable[..., Any],
    codec: PayloadCodec | None,
    when: Callable[[Any], bool] | None,
    namespace: Mapping[str, Any],
    messages: MessageType,
    expires: Callable[[Any], Any] | None = None,
    on_expired: tuple[str, Callable[..., Any]] | None = None,
) -> Binding | None:
    """The binding of a consumer's handler; None where it takes every message as it came.

    Args:
        consumer: Its name, for errors.
        handler: The user's function.
        codec: Makes values of bytes; JSON where there is none.
        when: Which events are run.
        namespace: Local names where the handler is defined.
        messages: What its events are before they are decoded.
        expires: Until when an event may begin.
        on_expired: The name and the function of the workflow that is started for one that is too late.

    Raises:
        RegistrationError: An annotation cannot be resolved or decoded into, codec, `when` or `expires` do not fit.
    """
    described = f"Consumer {consumer!r}: its handler"
    _check_codec(consumer, codec)
    decode = _decoder(described, handler, codec, namespace, messages)
    judge = None if when is None else _judge(consumer, when, codec, namespace, messages)
    until = None if expires is None else _until(consumer, expires, codec, namespace, messages)
    if decode is None and judge is None and until is None:
        return None
    late = None
    if on_expired is not None:
        described = f"Consumer {consumer!r}: its `on_expired`"
        name, function = on_expired
        late = Late(name, _decoder(described, function, codec, namespace, messages))
    return Binding(decode, judge, codec, when, until, expires, late)


def _until(
    consumer: str,
    expires: Callable[[Any], Any],
    codec: PayloadCodec | None,
    namespace: Mapping[str, Any],
    messages: MessageType,
) -> Callable[[Message], int | None]:
    described = f"Consumer {consumer!r}: its `expires`"
    check_answers(described, expires)
    return times_of(consumer, of_messages(described, expires, codec, namespace, messages), messages.place)


def of_messages(
    described: str,
    function: Callable[[Any], Any],
    codec: PayloadCodec | None,
    namespace: Mapping[str, Any],
    messages: MessageType,
) -> Callable[[Message], Any]:
    """The function, for messages: it is given the decoded value where its argument is annotated with a type.

    Raises:
        RegistrationError: It does not take one argument, or what its annotation says.
    """
    decode = _decoder(described, function, codec, namespace, messages, bare_is_raw=True)
    return function if decode is None else lambda message: function(decode(message))


def _check_codec(consumer: str, codec: PayloadCodec | None) -> None:
    if codec is None:
        return
    decode = getattr(codec, "decode", None)
    if not callable(decode) or isinstance(codec, type):
        raise RegistrationError(
            f"Consumer {consumer!r}: codec={codec!r} is no codec. It is an object with a method decode(message) that "
            "gives the value."
        )
    if is_async(decode) or may_await(decode):
        raise RegistrationError(
            f"Consumer {consumer!r}: the decode method of its codec is async. It is called as a plain function; fetch "
            "what it needs beforehand, or block."
        )


# -- filters --------------------------------------------------------------------------------------


def _judge(
    consumer: str,
    when: Callable[[Any], bool],
    codec: PayloadCodec | None,
    namespace: Mapping[str, Any],
    messages: MessageType,
) -> Callable[[Message], bool]:
    described = f"Consumer {consumer!r}: its `when`"
    check_answers(described, when)
    decode = _decoder(described, when, codec, namespace, messages, bare_is_raw=True)

    def judge(message: Message) -> bool:
        try:
            argument = message if decode is None else decode(message)
        except UndecodablePayload as error:
            undecodable = f"`when` of the consumer {consumer} cannot be asked: {error.message}"
            raise UndecodablePayload(undecodable) from None
        try:
            return _answer(when(argument))
        except TryAgain:
            raise
        except BaseException as error:
            if is_interrupt(error):
                raise
            problem = problem_with(error)
        raise FilterFailed(
            f"`when` of the consumer {consumer} could not judge {messages.place(message)}: {problem}. The event was taken "
            "in, and its handler was not called."
        )

    return judge


def _answer(answer: object) -> bool:
    at_once(answer)
    return bool(answer)


# -- values ---------------------------------------------------------------------------------------


def _decoder(
    described: str,
    function: Callable[..., Any],
    codec: PayloadCodec | None,
    namespace: Mapping[str, Any],
    messages: MessageType,
    *,
    bare_is_raw: bool = False,
) -> Decode | None:
    """What makes the function's argument of a message; None where that is the message itself."""
    form = wanted(described, function, messages.form, namespace)
    if form is None or (form == BARE and bare_is_raw):
        if codec is None or bare_is_raw:
            return None
        return _with_value(messages, _Values(messages).of_codec(codec, None, "value"))
    if codec is not None and form == BARE:
        raise RegistrationError(
            f"{described} takes a {messages.form.__name__} of bytes, and its codec makes other values of them. Write "
            f"{messages.form.__name__}[Order], or {messages.form.__name__}[Any] for whatever the codec gives."
        )
    values = _Values(messages)
    if codec is None and form.whole and bytes in form.raw and not form.constrained:
        if form != BARE and getattr(messages, "reads_values", False):
            return _with_value(messages, values.of_raw(form, None))
        return None if type(None) in form.raw else values.none_empty(form.name)
    value = _value_decoder(values, described, form, codec)
    return _with_value(messages, value) if form.whole else value


def _value_decoder(values: _Values, described: str, form: Wanted, codec: PayloadCodec | None) -> Decode:
    name = values.messages.form.__name__
    if codec is not None:
        return values.of_codec(codec, _adapter(described, form, codec, name), form.name)
    if form.raw:
        check = _adapter(described, form, None, name) if form.constrained else None
        return values.of_raw(form, check)
    return values.of_json(_adapter(described, form, None, name), form.name)


def _with_value(messages: MessageType, decode: Decode) -> Decode:
    replaced = messages.with_value
    return lambda message: replaced(message, decode(message))


class _Values:
    """Makes the decoders of values of one connector's messages."""

    def __init__(self, messages: MessageType) -> None:
        self.messages = messages

    def none_empty(self, name: str) -> Decode:
        """The message as it came, but none without a value."""
        value_of = self.messages.value

        def message_itself(message: Message) -> Message:
            if value_of(message) is None:
                raise self._empty(message, name)
            return message

        return message_itself

    def of_json(self, adapter: Any, name: str) -> Decode:
        validate, value_of = adapter.validate_json, self.messages.value

        def decode(message: Message) -> Any:
            value = value_of(message)
            if value is None:
                return self._of_none(message, adapter, name)
            try:
                return validate(value)
            except BaseException as error:
                if is_interrupt(error):
                    raise
                problem = problem_with_json(value) or problem_with(error)
            raise self._unfit(message, name, problem)

        return decode

    def of_raw(self, form: Wanted, adapter: Any) -> Decode:
        as_text, value_of = bytes not in form.raw, self.messages.value

        def decode(message: Message) -> Any:
            value = value_of(message)
            if value is None:
                if type(None) in form.raw:
                    return None
                raise self._empty(message, form.name)
            if not as_text and adapter is None:
                return value
            try:
                text = value.decode() if as_text else value
                return text if adapter is None else adapter.validate_python(text)
            except BaseException as error:
                if is_interrupt(error):
                    raise
                problem = problem_with(error)
            raise self._unfit(message, form.name, problem)

        return decode

    def of_codec(self, codec: PayloadCodec, adapter: Any, name: str) -> Decode:
        called, value_of, place = type(codec).__qualname__, self.messages.value, self.messages.place

        def decode(message: Message) -> Any:
            encoded = value_of(message)
            if encoded is None:
                return None if adapter is None else self._of_none(message, adapter, name)
            try:
                value = at_once(codec.decode(message))
            except TryAgain as again:
                raise TryAgain(
                    f"The codec {called} cannot decode the value of {place(message)} now: {again.message}"
                ) from again
            except BaseException as error:
                if is_interrupt(error):
                    raise
                problem = problem_with(error)
            else:
                return value if adapter is None else checked(message, value)
            raise UndecodablePayload(
                f"The codec {called} cannot decode the value of {place(message)} ({len(encoded)} bytes): {problem}."
            )

        def checked(message: Message, value: object) -> Any:
            try:
                return adapter.validate_python(value)
            except BaseException as error:
                if is_interrupt(error):
                    raise
                problem = problem_with(error)
            raise self._unfit(
                message, name, f"{problem} (the codec {called} gave a {type(value).__qualname__})"
            )

        return decode

    def _of_none(self, message: Message, adapter: Any, name: str) -> Any:
        try:
            return adapter.validate_python(None)
        except BaseException as raised:
            if is_interrupt(raised):
                raise
            raise self._empty(message, name) from None

    def _empty(self, message: Message, name: str) -> UndecodablePayload:
        return UndecodablePayload(
            f"{self.messages.place(message)} is a tombstone, a record without a value, and {name} is wanted. Annotate it "
            f"with `{name} | None` to take tombstones."
        )

    def _unfit(self, message: Message, name: str, problem: str) -> UndecodablePayload:
        return UndecodablePayload(f"The value of {self.messages.place(message)} is no {name}: {problem}.")


def _adapter(described: str, form: Wanted, codec: PayloadCodec | None, message: str) -> Any:
    """The validator of an annotation, by pydantic, complete: nothing is left to be found out at the first event."""
    # 80 ms, which a program without typed handlers need not wait for.
    from pydantic import ConfigDict, TypeAdapter
    from pydantic.errors import PydanticSchemaGenerationError

    try:
        try:
            adapter: TypeAdapter[Any] = TypeAdapter(form.form)
        except PydanticSchemaGenerationError:
            if codec is None:
                raise
            # Classes that pydantic does not know, such as those of protobuf: instances of them pass.
            adapter = TypeAdapter(form.form, config=ConfigDict(arbitrary_types_allowed=True))
        rebuild = getattr(adapter, "rebuild", None)
        if rebuild is not None:  # pydantic 2.10; earlier ones tell at the first value
            rebuild(raise_errors=True)
    except Exception as error:
        advice = (
            f"Take the record as it came (`message: {message}`), or give a codec=... that makes it."
            if codec is None
            else "Complete it before the handler is decorated."
        )
        raise RegistrationError(
            f"{described} takes {form.name}, which values cannot be decoded into: {type(error).__name__}: "
            f"{str(error).partition(chr(10))[0]} {advice}"
        ) from error
    return adapter

"""Errors come back as their own class, and recording one never fails."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dbos_events import errors
from dbos_events.errors import DBOSException, RecordedError, SerializationError
from dbos_events.serialization import decode, decode_error, encode, encode_error, error_summary
from tests.unit.serialization.samples import (
    CodedFailure,
    Failure,
    FileFailure,
    Order,
    ReducedFailure,
    SlottedFailure,
    Speechless,
    assert_same,
)
from tests.unit.serialization.strategies import values


def recorded(error: BaseException) -> Any:
    return decode_error(encode_error(error))


def raised(function: Any, *args: Any) -> BaseException:
    with pytest.raises(BaseException) as caught:  # noqa: PT011
        function(*args)
    return caught.value


@given(st.lists(values, max_size=3))
@settings(deadline=None)
def test_class_and_arguments_come_back(args: list[Any]) -> None:
    found = recorded(Failure(*args))

    assert type(found) is Failure
    assert_same(found.args, tuple(args))


@pytest.mark.parametrize(
    "error",
    [
        ValueError(),
        KeyError("k"),
        Failure("a", 1),
        UnicodeDecodeError("utf-8", b"\xff", 0, 1, "bad"),
        StopIteration(5),
        SystemExit(3),
        asyncio.CancelledError("stop"),
        TimeoutError("late"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_errors_of_python(error: BaseException) -> None:
    found = recorded(error)

    assert type(found) is type(error)
    assert found.args == error.args
    assert str(found) == str(error)
    assert getattr(found, "value", None) == getattr(error, "value", None)
    assert getattr(found, "code", None) == getattr(error, "code", None)


def test_what_python_keeps_outside_the_arguments() -> None:
    missing_file = recorded(raised(open, "/no/such/file"))
    assert type(missing_file) is FileNotFoundError
    assert (missing_file.errno, missing_file.filename) == (2, "/no/such/file")

    missing_module = recorded(raised(__import__, "no_such_module"))
    assert type(missing_module) is ModuleNotFoundError
    assert missing_module.name == "no_such_module"

    subclass = recorded(FileFailure("f"))
    assert type(subclass) is FileFailure
    assert (subclass.filename, subclass.name_given, str(subclass)) == ("f", "f", str(FileFailure("f")))


def test_a_constructor_with_other_arguments_is_no_obstacle() -> None:
    found = recorded(CodedFailure(5, detail={"items": (1, 2)}))

    assert type(found) is CodedFailure
    assert (found.code, found.detail, found.args) == (5, {"items": (1, 2)}, ("failed with 5",))


def test_attributes_in_slots_come_back() -> None:
    error = SlottedFailure("a")
    error.code = 5

    assert recorded(error).code == 5


def test_a_class_that_says_how_to_rebuild_it_is_rebuilt_so() -> None:
    found = recorded(ReducedFailure(7))

    assert type(found) is ReducedFailure
    assert (found.code, str(found)) == (7, "code 7")
    assert type(found.lock) is object


def test_attributes_that_cannot_be_stored_are_left_out() -> None:
    found = recorded(CodedFailure(5, detail=object()))

    assert type(found) is CodedFailure
    assert found.code == 5
    assert not hasattr(found, "detail")


def test_an_argument_that_cannot_be_stored_becomes_its_text() -> None:
    class Local:
        def __str__(self) -> str:
            return "the local thing"

    found = recorded(ValueError(Local()))

    assert type(found) is ValueError
    assert str(found) == "the local thing"


def test_notes_and_causes_come_back() -> None:
    error = Failure("outer")
    cause = CodedFailure(5, detail=None)
    cause.__cause__ = KeyError("inner")
    error.__cause__ = cause
    error.add_note("while paying")

    found = recorded(error)

    assert found.__notes__ == ["while paying"]
    assert type(found.__cause__) is CodedFailure
    assert type(found.__cause__.__cause__) is KeyError


def test_causes_that_go_round_in_a_circle_end() -> None:
    one, other = Failure("one"), Failure("other")
    one.__cause__, other.__cause__ = other, one

    assert type(recorded(one).__cause__) is Failure


def test_errors_that_refer_to_each_other_in_many_ways_are_recorded_in_short_time() -> None:
    one, other = Failure("one"), Failure("other")
    one.args = other.args = (one, other)
    one.__cause__, other.__cause__ = other, one
    one.__dict__.update(original=other, me=one)
    other.__dict__.update(original=one, me=other)

    found = recorded(one)

    assert type(found) is type(found.original) is type(found.__cause__) is Failure


def test_groups_come_back_with_their_errors() -> None:
    found: Any = recorded(
        ExceptionGroup("many", [ValueError(1), ExceptionGroup("inner", [CodedFailure(2, detail=3)])])
    )

    assert isinstance(found, ExceptionGroup)
    assert found.message == "many"
    first, inner = found.exceptions
    assert first.args == (1,)
    assert isinstance(inner, ExceptionGroup)
    [failure] = inner.exceptions
    assert isinstance(failure, CodedFailure)
    assert failure.detail == 3


@pytest.mark.parametrize(
    "error",
    [
        errors.DBOSException("text"),
        errors.DBOSNonExistentWorkflowError("w"),
        errors.DBOSQueueDeduplicatedError("w", "q", "d"),
        errors.DBOSUnexpectedStepError("w", "text", version_mismatch=True),
        errors.DBOSStepTimeoutError("s", 1.5),
        errors.RecordedError("shop.Gone", "text"),
        errors.DBOSWorkflowCancelledError("w"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_the_packages_own_errors(error: BaseException) -> None:
    found = recorded(error)

    assert type(found) is type(error)
    assert str(found) == str(error)
    assert vars(found) == vars(error)


def test_the_errors_of_all_attempts_come_back() -> None:
    found = recorded(
        errors.DBOSMaxStepRetriesExceeded("pay", 2, [CodedFailure(1, detail=(1,)), Failure("b")])
    )

    assert type(found) is errors.DBOSMaxStepRetriesExceeded
    assert [type(error) for error in found.errors] == [CodedFailure, Failure]
    first: Any = found.errors[0]
    assert first.detail == (1,)


def test_errors_are_values_too() -> None:
    found: Any = decode(encode([1, {"error": CodedFailure(5, detail=Order(1))}]))

    assert type(found[1]["error"]) is CodedFailure
    assert found[1]["error"].detail == Order(1)


def test_a_local_class_comes_back_as_a_recorded_error() -> None:
    class Local(Exception):
        pass

    error = Local("text")
    error.__cause__ = KeyError("k")

    found = recorded(error)

    assert type(found) is RecordedError
    assert isinstance(found, DBOSException)
    assert found.type_name.endswith("<locals>.Local")
    assert found.recorded_message == "text"
    assert type(found.__cause__) is KeyError


def test_an_error_without_words_is_recorded_all_the_same() -> None:
    text = encode_error(Speechless())

    assert error_summary(text)[1] == "<Speechless.__str__ failed>"
    assert type(decode_error(text)) is RecordedError


@given(st.text(st.characters(categories=None)))
def test_any_message_can_be_recorded(message: str) -> None:
    text = encode_error(Failure(message))

    assert text.isascii()
    assert decode_error(text).args == (message,)


def test_people_can_read_name_message_and_traceback_without_any_import() -> None:
    def fails() -> None:
        raise CodedFailure(5, detail=None)

    name, message, traceback = error_summary(encode_error(raised(fails)))

    assert name == f"{CodedFailure.__module__}.CodedFailure"
    assert message == "failed with 5"
    assert "in fails" in traceback
    assert error_summary(encode_error(KeyError("k")))[0] == "KeyError"


def test_a_long_traceback_is_cut_in_the_middle() -> None:
    error = Failure("start" + "x" * 100_000 + "end")

    traceback = error_summary(encode_error(error))[2]

    assert len(traceback) <= 20_000
    assert "characters left out" in traceback
    assert traceback.rstrip().endswith("end")


@pytest.mark.parametrize(
    "text", ["", "null", "[]", '{"$":"tuple","v":[]}', "{", '{"$":"error"}', '{"$":"error","n":1,"m":2}']
)
def test_text_that_is_no_stored_error(text: str) -> None:
    with pytest.raises(SerializationError):
        decode_error(text)
    assert error_summary(text) == ("", text, "")


@pytest.mark.parametrize("name", ["os:system", "builtins:int", "nowhere:Gone", "", 5])
def test_an_error_whose_class_name_was_tampered_with_is_a_recorded_error(name: object) -> None:
    node = json.loads(encode_error(ValueError("text")))
    node["t"] = name

    found = decode_error(json.dumps(node))

    assert type(found) is RecordedError
    assert found.recorded_message == "text"


class TooMuch(Exception):
    """An error with more in it than a message."""

    def __init__(self, text: str, rows: object = None) -> None:
        super().__init__(text, rows)
        self.body = text


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (ValueError("x" * 30_000_000), ValueError),
        (TooMuch("y" * 2_000_000, {"answer": ["z" * 3_000_000]}), TooMuch),
        (ExceptionGroup("many", [ValueError("w" * 2_000_000) for _ in range(3)]), ExceptionGroup),
        (ValueError(list(range(1_000_000))), RecordedError),
        (ValueError(b"b" * 5_000_000), RecordedError),
        (ValueError("\N{SNOWMAN}" * 2_000_000), ValueError),
    ],
    ids=["message", "attributes", "group", "list", "bytes", "not-ascii"],
)
def test_an_error_that_holds_a_whole_response_is_stored_cut(
    error: BaseException, kind: type[BaseException]
) -> None:
    stored = encode_error(error)
    assert len(stored) < 1_200_000
    again = decode_error(stored)
    assert type(again) is kind
    assert len(str(again)) < 1_200_000
    assert "left out" in stored


def test_an_error_just_below_the_limit_is_stored_whole() -> None:
    text = "x" * 400_000
    assert str(decode_error(encode_error(ValueError(text)))) == text

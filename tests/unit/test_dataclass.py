"""Our `dataclass` gives the classes of the standard library, and makes their methods when they are asked for."""

from __future__ import annotations

import copy
import dataclasses
import inspect
import pickle
import threading
from dataclasses import FrozenInstanceError
from typing import Any, ClassVar, Generic, TypeVar

import pytest

from dbos_events.model.dataclass import dataclass, field, replace

V = TypeVar("V")


def is_made(cls: type, name: str) -> bool:
    return inspect.isfunction(vars(cls)[name])


@dataclass(frozen=True, slots=True)
class Frozen:
    """With a place, a default and a list."""

    place: str
    number: int = 3
    many: list[int] = field(default_factory=list, compare=False)
    shared: ClassVar[int] = 7


@dataclass(slots=True)
class Open:
    place: str
    hidden: int = field(default=0, repr=False)


@dataclass(frozen=True, kw_only=True)
class Checked:
    """With a check, and room for more attributes."""

    number: int

    def __post_init__(self) -> None:
        if self.number < 0:
            raise ValueError("below zero")


@dataclass(frozen=True, slots=True)
class Own:
    """With methods of its own."""

    number: int

    def __repr__(self) -> str:
        return "own"

    def __eq__(self, other: object) -> bool:
        return True

    def __hash__(self) -> int:
        return 5


@dataclass(frozen=True, slots=True)
class Of(Generic[V]):
    """Of a type."""

    value: V


@dataclass(frozen=True)
class Derived(Checked):
    """Of another one."""

    more: str = field(default="", kw_only=True)


@dataclass(frozen=True, slots=True, init=False)
class Built:
    """With an `__init__` of its own."""

    number: int

    def __init__(self) -> None:
        object.__setattr__(self, "number", 1)


def test_a_method_is_made_when_it_is_first_asked_for_and_no_other_with_it() -> None:
    @dataclass(frozen=True, slots=True)
    class Fresh:
        number: int

    assert not any(is_made(Fresh, name) for name in ("__init__", "__repr__", "__eq__", "__hash__"))
    one = Fresh(2)
    assert one.number == 2
    assert is_made(Fresh, "__init__")
    assert not is_made(Fresh, "__eq__")
    assert one == Fresh(2)
    assert is_made(Fresh, "__eq__")
    assert {one: "known"}[Fresh(2)] == "known"


def test_it_takes_defaults_and_makes_a_list_for_each() -> None:
    one, other = Frozen("here"), Frozen("here")
    assert (one.place, one.number, one.many) == ("here", 3, [])
    one.many.append(1)
    assert other.many == []
    assert Frozen.shared == 7


def test_it_shows_compares_and_hashes_as_its_fields_say() -> None:
    assert repr(Frozen("here")) == "Frozen(place='here', number=3, many=[])"
    assert repr(Open("here")) == "Open(place='here')"
    assert Frozen("here", many=[1]) == Frozen("here")
    assert Frozen("here") != Frozen("there")
    assert Frozen("here") != Open("here")
    assert len({Frozen("here"), Frozen("here", many=[1])}) == 1


def test_what_is_not_frozen_can_be_changed_and_not_hashed() -> None:
    one = Open("here")
    one.place = "there"
    assert one == Open("there")
    with pytest.raises(TypeError, match="unhashable"):
        hash(one)


@pytest.mark.parametrize("name", ["place", "stranger"])
def test_what_is_frozen_refuses_every_change(name: str) -> None:
    one = Frozen("here")
    with pytest.raises(FrozenInstanceError, match=f"cannot assign to field '{name}'"):
        setattr(one, name, 1)
    with pytest.raises(FrozenInstanceError, match=f"cannot delete field '{name}'"):
        delattr(one, name)


def test_wrong_arguments_are_refused_by_the_name_of_the_class() -> None:
    with pytest.raises(
        TypeError, match=r"Frozen\.__init__\(\) missing 1 required positional argument: 'place'"
    ):
        Frozen()  # type: ignore[call-arg]
    with pytest.raises(TypeError, match=r"Checked\.__init__\(\) takes 1 positional argument"):
        Checked(1)  # type: ignore[misc]


def test_its_check_runs_and_its_own_methods_stay() -> None:
    with pytest.raises(ValueError, match="below zero"):
        Checked(number=-1)
    assert (repr(Own(1)), Own(1) == Own(2), hash(Own(3))) == ("own", True, 5)
    assert Built().number == 1


def test_it_can_be_copied_pickled_replaced_and_taken_apart() -> None:
    one = Frozen("here", 4, [1])
    for again in (copy.copy(one), copy.deepcopy(one), pickle.loads(pickle.dumps(one))):  # noqa: S301
        assert again == one
        assert again.many == [1]
    assert replace(one, number=5) == Frozen("here", 5)
    assert dataclasses.asdict(one) == {"place": "here", "number": 4, "many": [1]}
    match one:
        case Frozen(place, number):
            assert (place, number) == ("here", 4)


def test_it_has_the_signature_and_the_parameters_of_the_standard_library() -> None:
    def declared(decorator: Any) -> Any:
        class Sample:
            place: str
            number: int = 3

        return decorator(Sample, frozen=True, slots=True)

    ours, theirs = declared(dataclass), declared(dataclasses.dataclass)
    assert inspect.signature(ours) == inspect.signature(theirs)
    assert repr(ours.__dataclass_params__) == repr(theirs.__dataclass_params__)
    assert ours.__match_args__ == theirs.__match_args__
    assert ours.__slots__ == theirs.__slots__


def test_a_class_of_a_user_may_derive_from_it() -> None:
    @dataclasses.dataclass(frozen=True)
    class Theirs(Frozen):
        note: str = ""

    class Plain(Checked):
        pass

    assert Theirs("here", note="seen") == Theirs("here", note="seen")
    assert Derived(number=1, more="b") == Derived(number=1, more="b")
    plain = Plain(number=1)
    plain.more = 2  # type: ignore[attr-defined]
    assert plain.more == 2  # type: ignore[attr-defined]
    with pytest.raises(FrozenInstanceError):
        plain.number = 2  # type: ignore[misc]


def test_it_may_be_generic() -> None:
    assert Of[int](3) == Of(3)


def test_threads_that_ask_at_once_get_a_method_that_works() -> None:
    for _ in range(50):

        @dataclass(frozen=True, slots=True)
        class Fresh:
            number: int

        gate = threading.Barrier(4)
        made: list[Any] = []

        def ask(fresh: Any = Fresh, gate: threading.Barrier = gate, made: list[Any] = made) -> None:
            gate.wait()
            made.append(fresh(1))

        threads = [threading.Thread(target=ask) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert made == [Fresh(1)] * 4


def test_making_a_method_leaves_the_fields_alone_which_another_thread_may_be_reading() -> None:
    changed: list[Any] = []

    class Watched(dataclasses.Field):  # type: ignore[type-arg]
        __slots__ = ()

        def __setattr__(self, name: str, value: object) -> None:
            changed.append(self)
            super().__setattr__(name, value)

    @dataclass(frozen=True, slots=True)
    class Fresh:
        number: int
        shared: ClassVar[int] = 7

    for one in Fresh.__dataclass_fields__.values():
        object.__setattr__(one, "__class__", Watched)
    assert {Fresh(1): "seen"}[Fresh(1)] == "seen"
    assert repr(Fresh(1)).endswith("Fresh(number=1)")
    assert not [one for one in changed if any(one is own for own in Fresh.__dataclass_fields__.values())]

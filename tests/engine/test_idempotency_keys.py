"""Idempotency keys (docs/protocol.md, rule 15): the same effect has the same key, whatever was mended around it."""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from types import SimpleNamespace
from typing import Any, Protocol

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dbos_events import DBOS, App, KafkaMessage, Retry, SetWorkflowID
from dbos_events.engine.context import Scope
from dbos_events.errors import DBOSArgumentsChangedError, DBOSException, RegistrationError
from dbos_events.model.quarantine import QuarantinedDetail
from dbos_events.testing import TestApp
from dbos_events.testing.plugin import MakeTestApp


class Provider:
    """What a step calls outside: notes each key with the amount, and does not answer while it is down."""

    def __init__(self) -> None:
        self.calls: list[tuple[str | None, object]] = []
        self.is_down = True

    def __call__(self, amount: object) -> str:
        self.calls.append((DBOS.idempotency_key, amount))
        if self.is_down:
            raise TimeoutError("no answer")
        return "charged"

    @property
    def keys(self) -> list[str | None]:
        return [key for key, _ in self.calls]


class Shop:
    """A consumer that charges `amount`; what its handler does besides is `before`."""

    def __init__(
        self, app: App, *, is_async: bool = False, key: Any = None, asks: bool = True, **options: Any
    ) -> None:
        self.app = app
        self.provider = Provider()
        self.amount = 1200
        self.before: Callable[[], object] = lambda: None
        provider = self.provider

        def call(cents: int) -> str:
            if asks:
                return provider(cents)
            provider.calls.append((None, cents))
            if provider.is_down:
                raise TimeoutError("no answer")
            return "charged"

        if is_async:

            @app.step(name="charge", idempotency_key=key)
            async def charge_async(cents: int) -> str:
                return call(cents)

            @app.kafka_consumer(None, "orders", name="shop", **options)
            async def on_order_async(msg: KafkaMessage[bytes]) -> str:
                self.before()
                return await charge_async(self.amount)

            self.handler: Any = on_order_async
        else:
            charge = app.step(name="charge", idempotency_key=key)(call)

            @app.kafka_consumer(None, "orders", name="shop", **options)
            def on_order(msg: KafkaMessage[bytes]) -> str:
                self.before()
                return charge(self.amount)

            self.handler = on_order

    def fail(self, dbos: TestApp) -> str:
        """Deliver an event that ends in quarantine; gives its id."""
        handle = dbos.deliver(self.handler, b"x")
        dbos.run_until_idle()
        return handle.workflow_id

    def fail_in_all_attempts(self, dbos: TestApp) -> str:
        """As `fail`, with retries."""
        failed = self.fail(dbos)
        for _ in range(3):
            dbos.advance(seconds=60)
        return failed

    def redrive(self, dbos: TestApp, workflow_id: str, **options: Any) -> str | None:
        """Redrive it; gives the reason for which it is in quarantine again, None when it has succeeded."""
        self.app.redrive_events(workflow_id, **options)
        dbos.run_until_idle()
        waiting = self.app.list_quarantined(workflow_ids=workflow_id)
        return waiting[0].reason if waiting else None

    def detail(self, workflow_id: str) -> QuarantinedDetail:
        found = self.app.get_quarantined(workflow_id)
        assert found is not None
        return found


@pytest.fixture
def app() -> App:
    return App({"name": "keys"})


class Start(Protocol):
    """Launches an App whose workflows are declared."""

    def __call__(self, app: App) -> TestApp: ...


@pytest.fixture
def start(database_url: str) -> Iterator[Start]:
    with ExitStack() as stack:
        yield lambda app: stack.enter_context(TestApp(app, database_url=database_url))


@pytest.fixture
def dbos(shop: Shop, start: Start) -> TestApp:
    return start(shop.app)


@pytest.fixture(params=[False, True], ids=["sync", "async"])
def shop(app: App, request: pytest.FixtureRequest) -> Shop:
    return Shop(app, is_async=request.param)


# ------------------------------------------------------------------ what a key is


def test_a_key_is_the_workflow_the_step_and_which_call_of_it(app: App, dbos_test_app: MakeTestApp) -> None:
    keys: list[str | None] = []

    @app.step(name="charge")
    def charge() -> None:
        keys.append(DBOS.idempotency_key)

    @app.step(name="ship")
    def ship() -> None:
        keys.append(DBOS.idempotency_key)

    @app.workflow()
    def order() -> None:
        charge()
        ship()
        charge()
        app.run_step({"name": "charge"}, lambda: keys.append(DBOS.idempotency_key))
        ship()

    dbos_test_app(app)
    with SetWorkflowID("A1"):
        order()
    assert keys == ["A1:charge", "A1:ship", "A1:charge#2", "A1:charge#3", "A1:ship#2"]
    assert DBOS.idempotency_key is None


def test_a_branch_adds_its_path_and_which_branch_is_faster_changes_nothing(
    app: App, dbos_test_app: MakeTestApp
) -> None:
    keys: list[tuple[str, str | None]] = []

    @app.step(name="charge")
    async def charge(who: str) -> None:
        keys.append((who, DBOS.idempotency_key))

    async def twice(who: str, pause: float) -> None:
        await asyncio.sleep(pause)
        await charge(who)
        await charge(who)

    @app.workflow()
    async def order(pause: float) -> None:
        await asyncio.gather(twice("A", pause), twice("B", 0.02 - pause), charge("C"))
        await asyncio.create_task(twice("D", 0))

    dbos_test_app(app)
    for workflow_id, pause in (("1", 0.0), ("2", 0.02)):
        keys.clear()
        with SetWorkflowID(workflow_id):
            asyncio.run(_awaited(order(pause)))
        branch = twice.__qualname__
        paths = {"A": f"~{branch}/", "B": f"~{branch}#2/", "D": f"~{branch}#3/"}
        expected = [
            (who, f"{workflow_id}:{path}charge{n}") for who, path in paths.items() for n in ("", "#2")
        ]
        assert sorted(keys, key=repr) == sorted([*expected, ("C", f"{workflow_id}:charge")], key=repr)


async def _awaited(awaitable: Any) -> Any:
    return await awaitable


class _Runs:
    """A run as a scope sees it."""

    def __init__(self, workflow_id: str) -> None:
        self.key_prefix = f"{workflow_id}:"


names = st.one_of(st.sampled_from(["a", "b", "a#2", "a:b", "~a", "a/b", "%23", "a%3A"]), st.text(max_size=4))


@given(
    st.lists(st.tuples(names, st.lists(names, max_size=2), names, st.integers(1, 3)), min_size=2, max_size=5)
)
def test_two_calls_never_have_one_key(calls: list[tuple[str, list[str], str, int]]) -> None:
    found: dict[str, object] = {}
    for workflow_id, branches, name, occurrence in calls:
        scope = Scope(_Runs(workflow_id))  # type: ignore[arg-type]
        for branch in branches:
            scope = scope.branch(branch)
        for _ in range(occurrence):
            key = scope.key_of(name, scope.count(name)).text
        assert found.setdefault(key, (workflow_id, branches, name, occurrence)) == (
            workflow_id,
            branches,
            name,
            occurrence,
        )


def test_a_branch_and_a_child_of_one_name_have_keys_of_their_own() -> None:
    of_a_branch = Scope(_Runs("A1")).branch("pay").key_of("charge", 1).text  # type: ignore[arg-type]
    prefix = Scope(_Runs("A1")).child_prefix("pay")  # type: ignore[arg-type]
    of_a_child = Scope(SimpleNamespace(key_prefix=prefix)).key_of("charge", 1).text  # type: ignore[arg-type]
    assert of_a_child == "A1:pay/charge"
    assert of_a_branch != of_a_child


@pytest.mark.parametrize("is_async", [False, True])
def test_a_step_may_say_its_key_itself(is_async: bool, app: App, dbos_test_app: MakeTestApp) -> None:
    shop = Shop(app, is_async=is_async, key=lambda cents: f"order-A1-{cents}")
    dbos = dbos_test_app(app)
    shop.provider.is_down = False
    shop.fail(dbos)
    assert shop.provider.calls == [("order-A1-1200", 1200)]


def test_run_step_takes_what_the_decorator_takes(app: App, dbos_test_app: MakeTestApp) -> None:
    keys: list[str | None] = []

    async def charge(order: str, cents: int) -> None:
        keys.append(DBOS.idempotency_key)

    @app.workflow()
    async def order() -> None:
        await app.run_step_async({"idempotency_key": lambda order, **_: order}, charge, "A1", cents=5)

    dbos_test_app(app)
    asyncio.run(_awaited(order()))
    assert keys == ["A1"]


@pytest.mark.parametrize("given_key", [None, "", " ", 5, b"A1", "a\0b", "\ud800"], ids=repr)
def test_what_is_no_key_fails_the_step_before_it_is_called(
    given_key: object, app: App, dbos_test_app: MakeTestApp
) -> None:
    shop = Shop(app, key=lambda _cents: given_key)
    dbos = dbos_test_app(app)
    failed = shop.fail(dbos)
    assert shop.provider.calls == []
    assert "idempotency_key=... gave" in str(shop.detail(failed).error)


@pytest.mark.parametrize("given_key", ["A1", 5, _awaited], ids=["text", "number", "async"])
def test_what_cannot_give_a_key_is_refused_where_it_is_declared(given_key: Any, app: App) -> None:
    with pytest.raises(RegistrationError, match="idempotency_key"):
        app.step(idempotency_key=given_key)(lambda: None)


# ------------------------------------------------------------------ the same key, whatever was mended


@pytest.mark.parametrize("how", [{}, {"fresh": True}, {"from_step": 1}], ids=str)
def test_rule_15_a_step_that_was_put_in_before_it_does_not_move_the_key(
    how: dict[str, Any], app: App, start: Start
) -> None:
    shop = Shop(app)
    validated: list[str | None] = []
    validate = app.step(name="validate")(lambda: validated.append(DBOS.idempotency_key))
    dbos = start(app)
    failed = shop.fail(dbos)
    shop.before = validate
    assert shop.redrive(dbos, failed, **how) == "handler-failed"
    shop.provider.is_down = False
    assert shop.redrive(dbos, failed, **how) is None
    assert shop.provider.keys == [f"{failed}:charge"] * 3
    assert set(validated) == {f"{failed}:validate"}


def test_rule_15_retries_crashes_and_redrives_use_one_key(app: App, start: Start) -> None:
    shop = Shop(app, retries=Retry(max_attempts=3, interval_seconds=1))
    dbos = start(app)
    failed = shop.fail_in_all_attempts(dbos)
    dbos.crash(application_version="mended")
    shop.provider.is_down = False
    assert shop.redrive(dbos, failed) is None
    assert shop.provider.keys == [f"{failed}:charge"] * 4


@pytest.mark.parametrize("queued", [False, True])
def test_rule_15_a_child_has_the_keys_of_its_place_among_the_children_of_its_name(
    queued: bool, app: App, start: Start
) -> None:
    provider = Provider()
    queue = app.queue("payments")
    charge = app.step(name="charge")(provider)

    @app.workflow(name="pay")
    def pay(cents: int) -> str:
        return charge(cents)

    validate = app.step(name="validate")(lambda: None)
    mended = False

    @app.kafka_consumer(None, "orders", name="shop")
    def on_order(msg: KafkaMessage[bytes]) -> str:
        if mended:
            validate()
        handle = queue.enqueue(pay, 5) if queued else app.start_workflow(pay, 5)
        return str(handle.get_result())

    dbos = start(app)
    failed = dbos.deliver(on_order, b"x").workflow_id
    dbos.run_until_idle()
    mended, provider.is_down = True, False
    app.redrive_events(failed)
    dbos.run_until_idle()
    assert provider.keys == [f"{failed}:pay/charge"] * 2
    (child,) = (one for one in app.list_workflows(name="pay") if one.status == "SUCCESS")
    assert child.input == {"args": (5,), "kwargs": {}}


# -- edits of a program ---------------------------------------------------------------------------

TRACKED = "charge"
OTHERS = st.sampled_from(["validate", "reserve", "notify", "audit"])
Program = list[Any]
"""Names of steps, and gathers: lists of (branch, names of steps)."""

gathers = st.lists(
    st.tuples(st.sampled_from(["left", "right"]), st.lists(OTHERS, max_size=2)), min_size=1, max_size=3
)
programs: st.SearchStrategy[Program] = st.lists(st.one_of(OTHERS, gathers), max_size=4)


def placed(program: Program, where: str, at: int, within: list[str]) -> Program:
    """The program with the tracked step in it: called directly, as one of a gather's, or in a branch of its own."""
    place = at % (len(program) + 1)
    step: Any = TRACKED
    if where == "branch":
        middle = at % (len(within) + 1)
        step = [("right", ["audit"]), ("payment", [*within[:middle], TRACKED, *within[middle:]])]
    return [*program[:place], step, *program[place:]]


class Edited:
    """A handler that runs whatever program it is given."""

    def __init__(self) -> None:
        self.app = app = App({"name": "edited"})
        self.program: Program = []
        self.provider = provider = Provider()
        steps = {
            name: app.step(name=name)(self._other) for name in ("validate", "reserve", "notify", "audit")
        }

        @app.step(name=TRACKED)
        async def charge() -> str:
            return provider(1200)

        async def walk(names: list[str]) -> None:
            for name in names:
                await (charge() if name == TRACKED else steps[name]())

        async def left(names: list[str]) -> None:
            await walk(names)

        async def right(names: list[str]) -> None:
            await walk(names)

        async def payment(names: list[str]) -> None:
            await walk(names)

        branches = {"left": left, "right": right, "payment": payment}

        @app.kafka_consumer(None, "orders", name="edited", breaker=None)
        async def on_order(msg: KafkaMessage[bytes]) -> None:
            for node in self.program:
                if isinstance(node, str):
                    await walk([node])
                else:
                    await asyncio.gather(*(branches[name](names) for name, names in node))

        self.handler = on_order

    @staticmethod
    async def _other() -> None: ...


@pytest.fixture(scope="module")
def edited() -> Iterator[tuple[Edited, TestApp]]:
    made = Edited()
    with TestApp(made.app) as kit:
        yield made, kit


@given(
    before=programs,
    after=programs,
    where=st.sampled_from(["directly", "branch"]),
    places=st.tuples(st.integers(0, 9), st.integers(0, 9)),
    within=st.tuples(st.lists(OTHERS, max_size=2), st.lists(OTHERS, max_size=2)),
)
@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_rule_15_whatever_is_edited_around_it_the_same_effect_has_the_same_key(
    edited: tuple[Edited, TestApp],
    before: Program,
    after: Program,
    where: str,
    places: tuple[int, int],
    within: tuple[list[str], list[str]],
) -> None:
    made, kit = edited
    made.provider.calls.clear()
    made.provider.is_down = True
    made.program = placed(before, where, places[0], within[0])
    event = kit.deliver(made.handler, b"x").workflow_id
    kit.run_until_idle()
    made.program = placed(after, where, places[1], within[1])
    made.provider.is_down = False
    made.app.redrive_events(event, fresh=True)
    kit.run_until_idle()
    first, second = made.provider.keys
    assert first == second
    assert made.app.retrieve_workflow(event).get_status().status == "SUCCESS"


# ------------------------------------------------------------------ other arguments under the same key


def test_rule_15_other_arguments_under_a_used_key_put_the_event_aside_and_show_both(
    shop: Shop, dbos: TestApp
) -> None:
    failed = shop.fail(dbos)
    shop.provider.is_down = False
    shop.amount = 1300
    assert shop.redrive(dbos, failed) == "arguments-changed"
    assert shop.provider.calls == [(f"{failed}:charge", 1200)]
    error = shop.detail(failed).error
    assert isinstance(error, DBOSArgumentsChangedError)
    for shown in ("(1200)", "(1300)", f"{failed}:charge", "--same-key", "--new-key"):
        assert shown in str(error)


def test_it_is_put_aside_again_until_somebody_says_which_key(shop: Shop, dbos: TestApp) -> None:
    failed = shop.fail(dbos)
    shop.provider.is_down = False
    shop.amount = 1300
    assert [shop.redrive(dbos, failed) for _ in range(3)] == ["arguments-changed"] * 3
    shop.amount = 1200
    assert shop.redrive(dbos, failed) is None
    assert shop.provider.calls == [(f"{failed}:charge", 1200)] * 2


@pytest.mark.parametrize(("said", "ending"), [("same_key", ""), ("new_key", "~2")])
def test_the_redrive_says_which_key_and_all_attempts_after_it_have_that(
    said: str, ending: str, shop: Shop, dbos: TestApp
) -> None:
    failed = shop.fail(dbos)
    shop.amount = 1300
    assert shop.redrive(dbos, failed) == "arguments-changed"
    assert shop.redrive(dbos, failed, **{said: True}) == "handler-failed"
    dbos.crash()
    shop.provider.is_down = False
    assert shop.redrive(dbos, failed) is None
    assert shop.provider.calls == [(f"{failed}:charge", 1200)] + [(f"{failed}:charge{ending}", 1300)] * 2
    keys = [one.details.get("keys") for one in shop.detail(failed).decisions]
    assert keys == [None, said.removesuffix("_key"), None]


def test_what_was_said_holds_for_no_later_change(shop: Shop, dbos: TestApp) -> None:
    failed = shop.fail(dbos)
    for amount, said in ((1300, "new_key"), (1400, "new_key"), (1500, "same_key")):
        shop.amount = amount
        assert shop.redrive(dbos, failed) == "arguments-changed"
        assert shop.redrive(dbos, failed, **{said: True}) == "handler-failed"
    first, second, third, fourth = shop.provider.calls
    assert len({first[0], second[0], third[0]}) == 3
    assert third[0] == fourth[0]


def test_both_keys_cannot_be_asked_for(shop: Shop, dbos: TestApp) -> None:
    failed = shop.fail(dbos)
    with pytest.raises(DBOSException, match="Give one of same_key, new_key"):
        shop.redrive(dbos, failed, same_key=True, new_key=True)


def test_a_retry_of_the_handler_is_not_made_with_other_arguments_either(app: App, start: Start) -> None:
    shop = Shop(app, retries=Retry(max_attempts=3, interval_seconds=1))
    amounts = iter([1200, 1201, 1202])

    def another() -> None:
        shop.amount = next(amounts)

    shop.before = another
    dbos = start(app)
    failed = shop.fail_in_all_attempts(dbos)
    assert [one.reason for one in app.list_quarantined()] == ["arguments-changed"]
    assert shop.provider.calls == [(f"{failed}:charge", 1200)]


def test_a_handler_that_catches_everything_cannot_hide_it(app: App, start: Start) -> None:
    provider = Provider()
    charge = app.step(name="charge")(provider)
    amount = 1200

    @app.kafka_consumer(None, "orders", name="shop")
    def on_order(msg: KafkaMessage[bytes]) -> str:
        try:
            return charge(amount)
        except DBOSArgumentsChangedError:
            return "never mind"

    dbos = start(app)
    failed = dbos.deliver(on_order, b"x").workflow_id
    dbos.run_until_idle()
    amount = 1300
    app.redrive_events(failed)
    dbos.run_until_idle()
    assert [one.reason for one in app.list_quarantined()] == ["arguments-changed"]


def test_a_step_that_never_asked_for_its_key_is_called_with_whatever_it_gets(app: App, start: Start) -> None:
    shop = Shop(app, asks=False)
    dbos = start(app)
    failed = shop.fail(dbos)
    shop.provider.is_down = False
    shop.amount = 1300
    assert shop.redrive(dbos, failed) is None
    assert shop.provider.calls == [(None, 1200), (None, 1300)]


@pytest.mark.parametrize("is_async", [False, True])
def test_a_declared_key_counts_as_asked_for_and_another_key_as_another_effect(
    is_async: bool, app: App, start: Start
) -> None:
    orders = iter(["A1", "A1", "A2"])
    shop = Shop(app, is_async=is_async, asks=False, key=lambda _cents: next(orders))
    dbos = start(app)
    failed = shop.fail(dbos)
    shop.provider.is_down = False
    shop.amount = 1300
    assert shop.redrive(dbos, failed) == "arguments-changed"
    assert shop.redrive(dbos, failed) is None
    assert [cents for _, cents in shop.provider.calls] == [1200, 1300]


def test_what_had_succeeded_counts_too_when_it_is_done_anew(app: App, start: Start) -> None:
    shop = Shop(app)
    shop.provider.is_down = False
    broken = True
    ship = app.step(name="ship")(lambda: 1 / 0 if broken else None)
    charge = app.step(name="charge_first")(shop.provider)
    amount = 1
    shop.before = lambda: (charge(amount), ship())
    dbos = start(app)
    failed = shop.fail(dbos)
    broken, amount = False, 2
    assert shop.redrive(dbos, failed, fresh=True) == "arguments-changed"
    assert shop.redrive(dbos, failed, fresh=True, new_key=True) is None
    assert [cents for _, cents in shop.provider.calls] == [1, 2, 1200]


def test_a_call_that_a_timeout_cancelled_may_have_had_its_effect(app: App, start: Start) -> None:
    calls: list[tuple[str | None, int]] = []
    hangs = True

    @app.step(name="charge")
    async def charge(cents: int) -> str:
        calls.append((DBOS.idempotency_key, cents))
        if hangs:
            await asyncio.sleep(3600)
        return "ok"

    amount = 1200

    @app.kafka_consumer(None, "orders", name="shop")
    async def on_order(msg: KafkaMessage[bytes]) -> str:
        async with asyncio.timeout(0.05):
            return await charge(amount)

    dbos = start(app)
    failed = dbos.deliver(on_order, b"x").workflow_id
    dbos.run_until_idle()
    hangs, amount = False, 1300
    app.redrive_events(failed)
    dbos.run_until_idle()
    assert [one.reason for one in app.list_quarantined()] == ["arguments-changed"]
    assert calls == [(f"{failed}:charge", 1200)]


class Hostile:
    def __repr__(self) -> str:
        raise RuntimeError("no words")


@pytest.mark.parametrize(
    "value",
    ["x" * 5000, "\0\ud800\n", {"a": [1] * 1000}, object(), Hostile()],
    ids=["long", "odd", "big", "plain", "hostile"],
)
def test_arguments_of_any_kind_are_shown_short(value: object, app: App, start: Start) -> None:
    provider = Provider()
    charge = app.step(name="charge")(lambda cents, _value: provider(cents))
    amount = 1200

    @app.kafka_consumer(None, "orders", name="shop")
    def on_order(msg: KafkaMessage[bytes]) -> str:
        return str(charge(amount, value))

    dbos = start(app)
    failed = dbos.deliver(on_order, b"x").workflow_id
    dbos.run_until_idle()
    amount = 1300
    app.redrive_events(failed)
    dbos.run_until_idle()
    (event,) = app.list_quarantined()
    assert event.reason == "arguments-changed"
    assert len(event.error_message or "") < 2000
    assert " object at 0x" not in (event.error_message or "")

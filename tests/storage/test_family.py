"""The family of writes: each member is written, alone and beside others, whichever way its batch goes."""

import pytest

from dbos_events.model.workflow import ERROR, PENDING, SUCCESS
from dbos_events.storage.sqldatabase import SqlStorage
from dbos_events.storage.writes import (
    Anchor,
    Awaited,
    Bounce,
    Change,
    Consume,
    Debounced,
    Failure,
    Match,
    NewMessage,
    NewPublication,
    NewWorkflow,
    NextAttempt,
    Outcome,
    Park,
    Piece,
    Publish,
    QuarantineNote,
    Register,
    Send,
    SettleEntries,
    SetValue,
    StreamEntry,
    Write,
    Written,
    message_key,
    result_key,
)
from dbos_events.storage.writes.family import CHANGES, fits_one_call
from dbos_events.storage.writes.own_checkpoints import part
from tests.storage.building import begin, end, read, register, start, step, workflow

PLACE = Anchor("shop", "payment", "1")
FAILURE = Failure("json", '{"message": "no"}', "ValueError", "no", ())


def new(name: str) -> NewWorkflow:
    change = start(name, input='"in"').change
    assert isinstance(change, NewWorkflow)
    return change


# Each kind of change, in each form that takes another way, and the rows that it must leave.
FORMS = {
    "start": (lambda: new("child"), "SELECT status FROM {schema}.workflows WHERE id = 'child'", PENDING),
    "input of a start": (
        lambda: new("child"),
        "SELECT input FROM {schema}.payloads WHERE workflow_id = 'child'",
        '"in"',
    ),
    "outcome": (lambda: Outcome(SUCCESS), "SELECT status FROM {schema}.workflows WHERE id = 'w'", SUCCESS),
    "result": (
        lambda: Outcome(SUCCESS, "json", "7"),
        "SELECT output FROM {schema}.results WHERE workflow_id = 'w'",
        "7",
    ),
    "quarantine": (
        lambda: Outcome(
            ERROR, "json", None, "{}", None, QuarantineNote(1, "failed", "{}", 1, FAILURE), False
        ),
        "SELECT reason FROM {schema}.quarantine WHERE workflow_id = 'w'",
        "failed",
    ),
    "waking a parent": (
        lambda: Outcome(SUCCESS, parent_id="parent"),
        "SELECT awaits FROM {schema}.workflows WHERE id = 'parent'",
        None,
    ),
    "retry": (
        lambda: NextAttempt(5, 1, "failed", FAILURE),
        "SELECT generation FROM {schema}.workflows WHERE id = 'w'",
        1,
    ),
    "send": (
        lambda: Send((NewMessage("other", "m", "t", "json", "1", "w"),)),
        "SELECT value FROM {schema}.messages WHERE destination = 'other' AND topic = 't' AND sender = 'w'",
        "1",
    ),
    "waking by a message": (
        lambda: Send((NewMessage("waiter", "m", "t", "json", "1"),)),
        "SELECT awaits FROM {schema}.workflows WHERE id = 'waiter'",
        None,
    ),
    "consume": (
        lambda: Consume(0),
        "SELECT consumed_step FROM {schema}.messages WHERE destination = 'w'",
        1,
    ),
    "register": (
        lambda: Register(1, (Awaited(PLACE, takes=True),)),
        "SELECT workflow_id FROM {schema}.waits WHERE step = 1",
        "w",
    ),
    "match": (
        lambda: Match((Awaited(PLACE, takes=True),), ((0, 1),)),
        "SELECT taken_by FROM {schema}.publications WHERE event_id = 'first'",
        "w",
    ),
    "publish": (
        lambda: Publish((NewPublication(PLACE, "e", "json", "1"),)),
        "SELECT value FROM {schema}.publications WHERE event_id = 'e'",
        "1",
    ),
    "value": (
        lambda: SetValue("k", 1, 1, "json", "7", 900),
        "SELECT value FROM {schema}.published_values WHERE workflow_id = 'w' AND key = 'k'",
        "7",
    ),
    "stream": (
        lambda: StreamEntry("s", 0, 1, 0, True, False, "json", "7", 901),
        "SELECT value FROM {schema}.stream_entries WHERE workflow_id = 'w' AND stream = 's'",
        "7",
    ),
    "end of a step that wrote into a stream": (
        lambda: SettleEntries((Piece("kept", 0, 3, 1, 0, False),)),
        "SELECT CASE WHEN committed THEN 1 ELSE 0 END FROM {schema}.stream_entries WHERE stream = 'kept'",
        0,
    ),
    "debounced call": (
        lambda: Bounce("k", 5, None, "last", 1, new("debounced")),
        "SELECT workflow_id FROM {schema}.debounces WHERE key = 'k'",
        "debounced",
    ),
    "park": (lambda: Park(10**15), "SELECT wake_at FROM {schema}.workflows WHERE id = 'w'", 10**15),
}


def test_each_kind_of_change_is_here() -> None:
    names = {type(make()).__name__ for make, _, _ in FORMS.values()}
    assert (
        names
        == {change.__name__ for change in CHANGES}
        == {
            change.__name__
            for change in Change.__subclasses__()
            if change.__module__.startswith("dbos_events.")
        }
    )


@pytest.mark.parametrize("beside", [False, True], ids=["alone", "beside-plain-writes"])
@pytest.mark.parametrize("form", FORMS)
def test_what_a_change_asks_for_is_in_the_rows(storage: SqlStorage, form: str, beside: bool) -> None:
    make, query, expected = FORMS[form]
    executor = register(storage)
    begin(storage, executor, "parent")
    begin(storage, executor, "w", parent_id="parent")
    begin(storage, executor, "other", "waiter")
    storage.write_batch(executor, [Write("waiter", 1, 0, change=Park(None, (message_key("waiter", "t"),)))])
    storage.messages.send([NewMessage("w", "m", None, "json", "1")])
    chunk = StreamEntry("kept", 2, 1, 0, None, False, "json", "1", 902)
    storage.write_batch(executor, [Write("w", 1, 0, change=chunk)])
    storage.write_batch(executor, [Write("parent", 1, 0, change=Park(None, (result_key("w"),)))])
    storage.publications.publish([NewPublication(PLACE, "first", "json", "7")])
    change = make()
    if isinstance(change, Match):
        [row] = read(storage, "SELECT number FROM {schema}.publications")
        change.found = ((0, row.number),)
    if isinstance(change, Consume):
        message = storage.messages.peek("w", None)
        assert message is not None
        change.message = message.number
    writes = [Write("w", 1, 0, step("w").checkpoint, change)]
    if beside:
        writes = [step("other"), *writes, end("other")]
    answers = storage.write_batch(executor, writes)
    assert [isinstance(answer, Written | Debounced) for answer in answers] == [True] * len(writes)
    [row] = read(storage, query)
    assert row[0] == expected
    assert storage.workflows.list_steps("w"), "the checkpoint of the same write"
    if beside:
        assert workflow(storage, "other").status == SUCCESS


def test_a_change_that_says_nothing_of_itself_is_not_left_to_a_function() -> None:
    class Later(Change):
        """A member that does not exist yet."""

    try:
        assert not fits_one_call(part([step("w"), Write("w", 1, 0, change=Later()), end("x")]))
    finally:
        del Later


def test_a_crash_that_is_forgotten_is_not_left_to_a_function(storage: SqlStorage) -> None:
    executor = register(storage)
    begin(storage, executor, "w")
    write = step("w")
    write.reset_crashes = True
    assert not fits_one_call(part([write]))

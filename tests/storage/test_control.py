"""Control over one database: each change is made and told, whoever asks for it."""

import getpass
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import pytest

from dbos_events.control.control import Control
from dbos_events.control.opening import opened_control, opened_schema
from dbos_events.control.quarantine import Order
from dbos_events.errors import (
    ConfigurationError,
    DBOSException,
    DBOSNonExistentConsumerError,
    DBOSNonExistentWorkflowError,
    MigrationRequired,
    StorageUnavailable,
)
from dbos_events.model.quarantine import QuarantineFilter, Redrive
from dbos_events.model.workflow import ENQUEUED, ERROR
from dbos_events.serialization import Codecs
from dbos_events.settings import read_settings
from dbos_events.storage.sqldatabase import SqlStorage
from dbos_events.storage.writes import Failure, QuarantineNote
from tests.storage.building import APP, end, register, start, workflow, write
from tests.storage.topics import topic

EVENT = "e-0-0"
WORKFLOW = "w"
CONSUMER = "orders"
ALL = QuarantineFilter(workflow_ids=(EVENT,))

Told = list[str]


@pytest.fixture
def told(storage: SqlStorage, monkeypatch: pytest.MonkeyPatch) -> Told:
    """The channels that other processes were notified on."""
    channels: Told = []
    monkeypatch.setattr(storage, "notify", channels.extend)
    return channels


@pytest.fixture
def control(storage: SqlStorage) -> Control:
    """Over a workflow that waits, an event in quarantine, and the consumer `orders`."""
    executor = register(storage)
    orders = topic(storage)
    orders.intake(executor, {0: (orders.epoch(executor, 0), 0, 1)})
    note = QuarantineNote(
        orders.consumer, "attempts-exhausted", "boom", 3, Failure("json", "boom", "shop.Down", "boom", ())
    )
    write(storage, executor, start(WORKFLOW, queue="q"))
    write(storage, executor, end(EVENT, status=ERROR, error="boom", quarantine=note, frees_lane=False))
    return Control(storage, Codecs(), APP)  # type: ignore[arg-type]


Act = Callable[[Control], object]


class Change(NamedTuple):
    """A change, what has to be so before it, and the channels that hear of it."""

    act: Act
    channels: Told
    before: Act = lambda _control: None


CHANGES = {
    "cancel": Change(
        lambda control: control.workflows.cancel([WORKFLOW]),
        [f"workflow:{WORKFLOW}", "cancelled", "timers"],
    ),
    "resume": Change(
        lambda control: control.workflows.resume([WORKFLOW]),
        ["queues"],
        lambda control: control.workflows.cancel([WORKFLOW]),
    ),
    "pause": Change(lambda control: control.consumers.pause(CONSUMER), ["consumers"]),
    "resume a consumer": Change(
        lambda control: control.consumers.resume(CONSUMER),
        ["consumers"],
        lambda control: control.consumers.pause(CONSUMER),
    ),
    "redrive": Change(
        lambda control: control.quarantine.redrive(ALL, Redrive(), Order()), ["lanes", "queues"]
    ),
    "discard": Change(
        lambda control: control.quarantine.discard(ALL, Order(reason="why")), ["lanes", "queues"]
    ),
}


@pytest.mark.parametrize("name", CHANGES)
def test_a_change_wakes_the_processes_that_it_concerns(control: Control, told: Told, name: str) -> None:
    CHANGES[name].before(control)
    told.clear()

    CHANGES[name].act(control)

    assert told == CHANGES[name].channels


@pytest.mark.parametrize("name", CHANGES)
def test_a_change_is_made_also_when_nobody_can_be_told(
    control: Control, storage: SqlStorage, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    def silent(_channels: Sequence[str]) -> None:
        raise StorageUnavailable("The database does not answer.")

    CHANGES[name].before(control)
    before = rows(storage, control)
    monkeypatch.setattr(storage, "notify", silent)

    CHANGES[name].act(control)

    assert rows(storage, control) != before


def rows(storage: SqlStorage, control: Control) -> list[object]:
    """What the changes are made to."""
    paused = control.consumers.state(CONSUMER).paused_at is not None
    released = [one.released_as for one in control.quarantine.find(QuarantineFilter(released=True))]
    found = [workflow(storage, one) for one in (WORKFLOW, EVENT)]
    return [paused, released, *((row.status, row.generation) for row in found)]


def test_what_cannot_be_found_is_not_changed_and_nobody_is_told(control: Control, told: Told) -> None:
    with pytest.raises(DBOSNonExistentWorkflowError):
        control.workflows.cancel([WORKFLOW, "none"])
    with pytest.raises(DBOSNonExistentWorkflowError):
        control.workflows.resume(["none"])
    for act in (control.consumers.pause, control.consumers.resume):
        with pytest.raises(DBOSNonExistentConsumerError):
            act("order")

    assert told == []
    found = control.workflows.get(WORKFLOW)
    assert found is not None
    assert found.status == ENQUEUED


def test_a_second_pause_changes_nothing_and_says_who_paused_first(control: Control) -> None:
    first = control.consumers.pause(CONSUMER, by="ada", reason="migration")
    second = control.consumers.pause(CONSUMER, by="bob", reason="holiday")

    assert (first.changed, second.changed) == (True, False)
    assert (second.state.paused_by, second.state.paused_reason) == ("ada", "migration")
    assert second.state == first.state


def test_an_operator_without_a_name_is_the_same_in_every_record(
    control: Control, monkeypatch: pytest.MonkeyPatch
) -> None:
    def nameless() -> str:
        raise KeyError("getpwuid(): uid not found")

    monkeypatch.setattr(getpass, "getuser", nameless)
    control.consumers.pause(CONSUMER)
    control.quarantine.discard(ALL, Order(reason="why"))

    [decision] = control.quarantine.show(EVENT).decisions
    assert decision.decided_by == control.consumers.state(CONSUMER).paused_by
    assert decision.decided_by.startswith(f"uid {os.getuid()}@")


def test_an_event_is_asked_for_by_an_id_that_is_wrong_in_two_ways(control: Control) -> None:
    with pytest.raises(DBOSNonExistentWorkflowError):
        control.quarantine.show("none")
    with pytest.raises(DBOSException, match="w is not in quarantine, and never was"):
        control.quarantine.show(WORKFLOW)


def test_a_workflow_tells_the_event_that_started_it(control: Control) -> None:
    event = control.workflows.event(EVENT)

    assert event is not None
    assert (event.topic, event.partition, event.offset) == ("orders", 0, 0)
    assert control.workflows.event(WORKFLOW) is None


def test_looking_makes_no_database(tmp_path: Path) -> None:
    missing = tmp_path / "missing.sqlite"
    settings = read_settings({"system_database_url": f"sqlite:///{missing}"})

    with (
        pytest.raises(ConfigurationError, match=r"There is no database file .* Look elsewhere"),
        opened_control(settings, advice="Look elsewhere."),
    ):
        pass
    with pytest.raises(ConfigurationError, match="There is no"), opened_schema(settings, create=False):
        pass
    assert not missing.exists()


def test_control_begins_where_the_schema_fits(tmp_path: Path) -> None:
    settings = read_settings({"system_database_url": f"sqlite:///{tmp_path / 'new.sqlite'}", "name": APP})

    with opened_schema(settings, create=True) as schema:
        assert schema.state().revision is None
        with pytest.raises(MigrationRequired):
            schema.verify()
        assert schema.migrate().revision == schema.needed_revision

    with opened_control(settings) as control:
        assert control.application == APP
        assert control.workflows.get("none") is None
        assert control.positions.partitions() == []

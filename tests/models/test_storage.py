"""The storage under whatever is asked of it, in an order by chance: it answers as its model does."""

from __future__ import annotations

from typing import Any

import pytest

from dbos_events.storage.sqldatabase import SqlStorage
from dbos_events.testing import ManualClock
from tests.models.eventmachine import EventMachine
from tests.models.profiles import LONG, run
from tests.storage.conftest import Open

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900 + 120 * LONG)]


def machine(storage: SqlStorage, clock: ManualClock, ordering: str, queue: str | None = None) -> Any:
    fields = {"storage": storage, "clock": clock, "ordering": ordering, "queue": queue}
    return type("Machine", (EventMachine,), fields)


@pytest.mark.parametrize("ordering", ["none", "partition", "key", "topic", "queue"])
def test_rules_1_to_11_the_storage_answers_as_its_model_does(
    ordering: str, migrated_url: str, opened: Open, clock: ManualClock
) -> None:
    storage = opened(migrated_url)
    if ordering == "queue":
        run(machine(storage, clock, "none", "q"), examples=10, steps=80)
    else:
        run(machine(storage, clock, ordering), examples=10, steps=80)

"""A process that stands still in the middle of a transaction keeps its connection, and with it its locks."""

import pytest

from dbos_events.errors import StorageUnavailable
from dbos_events.storage.database import Tx
from dbos_events.storage.statements import POSTGRES
from dbos_events.storage.subjects.executors import fence
from dbos_events.testing import ManualClock
from tests.storage.building import LEASE_MS, kill, register
from tests.storage.conftest import Open
from tests.storage.racing import meanwhile, open_transaction


@pytest.mark.parametrize("transaction", ["fenced", "renewal"])
def test_a_process_that_is_frozen_within_a_transaction_can_be_declared_dead(
    migrated_postgres: str,
    opened: Open,
    monkeypatch: pytest.MonkeyPatch,
    clock: ManualClock,
    transaction: str,
) -> None:
    shorter = POSTGRES.pieces["idle_bound"].replace("5000", "200")
    monkeypatch.setitem(POSTGRES.pieces, "idle_bound", shorter)  # type: ignore[arg-type]
    frozen, watcher = opened(migrated_postgres), opened(migrated_postgres)
    executor = register(frozen)

    def stands_still(tx: Tx) -> None:
        if transaction == "fenced":
            fence(tx, executor)
        else:
            tx.run("renew_lease", executor=executor, identity=0, lease_ms=LEASE_MS)
        with meanwhile(lambda: kill(watcher, executor)) as burial:
            burial.result(10.0)

    with pytest.raises(StorageUnavailable):
        frozen.database.transact(stands_still)
    with open_transaction(watcher) as tx:
        assert not tx.run("fence", executor=executor, identity=0)

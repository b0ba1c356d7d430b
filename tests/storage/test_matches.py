"""A wait that is decided by a batch whose answer was lost, and that is written again, counts once."""

import pytest

from dbos_events.storage.sqldatabase import SqlStorage
from dbos_events.storage.writes import Anchor, Awaited, Match, NewPublication, Written
from tests.storage.building import APP, begin, read, register, step, write

PLACE = Anchor(APP, "payment", "1")


@pytest.mark.parametrize("takes", [False, True])
def test_a_wait_that_is_written_again_has_seen_its_publication_once(storage: SqlStorage, takes: bool) -> None:
    executor = register(storage, "a")
    begin(storage, executor, "w")
    storage.publications.publish([NewPublication(PLACE, "event:1", "json", "1")])
    (found,) = storage.publications.next_of("w", 1, (Awaited(PLACE, takes),))
    decided = step("w", 1, write_id=5)
    decided.change = Match((Awaited(PLACE, takes),), ((0, found.number),))
    for _ in range(2):
        assert all(isinstance(one, Written) for one in write(storage, executor, decided))
    assert read(storage, "SELECT seen FROM {schema}.publications") == [(1,)]

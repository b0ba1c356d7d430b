"""Wake-ups of other processes: the first goes at once, a burst goes together."""

from types import SimpleNamespace
from typing import cast

import pytest

from dbos_events.engine.waking import Hub
from dbos_events.runtime import notifier
from dbos_events.runtime.notifier import NotifierService
from dbos_events.storage.protocol import Storage


@pytest.fixture
def sent() -> list[list[str]]:
    return []


@pytest.fixture
def service(sent: list[list[str]]) -> NotifierService:
    made = NotifierService(cast("Storage", SimpleNamespace(notify=sent.append)), Hub(), enabled=True)
    made._end_listening = lambda: None
    return made


def test_a_signal_after_a_quiet_time_goes_out_at_once(
    service: NotifierService, sent: list[list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(notifier, "GATHER_SECONDS", 3600.0)
    service.announce("queue:a")
    service.tick()
    assert sent == [["queue:a"]]


def test_what_follows_soon_is_gathered_in_one_notify(
    service: NotifierService, sent: list[list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    waits: list[float] = []

    def gather(seconds: float) -> None:
        waits.append(seconds)
        service.announce("queue:c")

    monkeypatch.setattr(notifier, "GATHER_SECONDS", 3600.0)
    monkeypatch.setattr(notifier, "sleep", gather)
    service.announce("queue:a")
    service.tick()
    service.announce("queue:b")
    service.tick()
    assert sent == [["queue:a"], ["queue:b", "queue:c"]]
    assert 0 < waits[0] <= 3600.0

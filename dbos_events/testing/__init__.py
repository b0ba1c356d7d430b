"""Tests of workflows and consumers: no server, no broker, no waiting.

    def test_the_reminder_goes_out_after_a_day(dbos_test_app):
        dbos = dbos_test_app()                     # the App behind `DBOS`, on a temporary SQLite file
        event = dbos.deliver(on_order, {"id": 7})  # a consumer's handler, through the real intake
        dbos.run_until_idle()
        assert outbox == []
        dbos.advance(days=1)                       # the handler's `DBOS.sleep` is over
        assert outbox == ["reminder for 7"]
        assert event.get_status().status == "SUCCESS"

`dbos.crash()` ends the process as `kill -9` would and starts it anew.
"""

from dbos_events.testing.clock import ManualClock as ManualClock
from dbos_events.testing.harness import TestApp as TestApp

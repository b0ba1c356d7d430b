"""What bounds a listing is checked before a database sees it: one refuses a negative number, another takes it for all."""

from typing import Any

import pytest

from dbos_events import App
from dbos_events.errors import DBOSException


@pytest.mark.parametrize("bounds", [{"limit": -1}, {"offset": -1}], ids=["limit", "offset"])
def test_a_negative_bound_of_a_listing_is_told(database_url: str, bounds: dict[str, Any]) -> None:
    app = App({"name": "lists", "system_database_url": database_url})
    app.launch()
    try:
        for verb in (app.list_workflows, app.list_queued_workflows):
            with pytest.raises(DBOSException, match="must be 0 or more"):
                verb(**bounds)
        assert app.list_workflows(limit=0) == []
    finally:
        app.destroy()

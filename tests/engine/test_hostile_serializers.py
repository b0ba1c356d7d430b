"""A serializer of the user's own that fails, also for errors: every workflow ends, and says so."""

import json
from typing import Any

import pytest

from dbos_events import App, KafkaMessage
from dbos_events.errors import SerializationError
from dbos_events.testing import TestApp


class Failing:
    """Stores nothing but None: raises, or gives what no database stores."""

    def __init__(self, given: str | None) -> None:
        self.given = given

    def name(self) -> str:
        return "failing"

    def serialize(self, data: Any) -> str:
        if self.given is None:
            raise ValueError("not today")
        return self.given

    def deserialize(self, serialized_data: str) -> Any:
        return json.loads(serialized_data)


def refuses(message: KafkaMessage) -> bool:
    if message.value == b"filter":
        raise KeyError("filter")
    return True


@pytest.mark.parametrize("given", [None, "a\0b", "\ud800"], ids=["raises", "NUL", "surrogate"])
def test_each_event_is_put_aside_and_the_next_one_runs(given: str | None, database_url: str) -> None:
    app = App({"name": "shop", "serializer": Failing(given)})

    @app.step()
    def fails() -> None:
        raise KeyError("step")

    @app.kafka_consumer(topics=["orders"], when=refuses)
    def on_order(message: KafkaMessage) -> Any:
        if message.value == b"step":
            fails()
        if message.value == b"handler":
            raise KeyError("handler")
        return None if message.value == b"sound" else "a result"

    with TestApp(app, database_url=database_url) as dbos:
        kinds = ("filter", "step", "handler", "result")
        failed = {kind: dbos.deliver(on_order, kind) for kind in kinds}
        sound = dbos.deliver(on_order, "sound")
        dbos.run_until_idle()
        assert sound.get_status().status == "SUCCESS"
        aside = {one.workflow_id: str(one.error_message) for one in app.list_quarantined()}
        assert aside.keys() == {handle.workflow_id for handle in failed.values()}
        with pytest.raises(SerializationError, match="KeyError could not be stored by the codec 'failing'"):
            failed["handler"].get_result()
        assert "failing" in aside[failed["result"].workflow_id]

"""Pickle is never loaded by an App that did not opt in, wherever a row says so."""

import base64
import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from dbos_events import App, KafkaMessage
from dbos_events.cli.root import app as command_line
from dbos_events.errors import DBOSException
from dbos_events.testing import TestApp
from tests.storage.building import change

LOADED: list[str] = []


def load(where: str) -> str:
    LOADED.append(where)
    return where


class Canary:
    """Tells when it is unpickled."""

    def __reduce__(self) -> tuple[Callable[[str], str], tuple[str]]:
        return load, ("here",)


PICKLED = base64.b64encode(pickle.dumps(Canary())).decode()
ERRORS = json.dumps({"$": "error", "n": "KeyError", "m": "a key", "pickle": PICKLED})


def test_the_canary_sings_where_pickle_is_read() -> None:
    from dbos_events.serialization import Codecs

    LOADED.clear()
    pickles = Codecs("pickle").get("pickle")
    pickles.decode(PICKLED)
    pickles.decode_error(ERRORS)
    assert LOADED == ["here", "here"]


def poison(dbos: TestApp, codec: str) -> None:
    """Have every stored value and error be pickled, whatever its row calls it."""
    for table, column, text in (
        ("payloads", "input", PICKLED),
        ("checkpoints", "output", PICKLED),
        ("results", "output", PICKLED),
        ("results", "error", ERRORS),
        ("quarantine", "error", ERRORS),
    ):
        statement = (
            f"UPDATE {{schema}}.{table} SET codec = :codec, {column} = :text WHERE {column} IS NOT NULL"
        )
        change(dbos.core.storage, statement, codec=codec, text=text)


def look(app: App, url: str, ids: list[str]) -> None:
    """Show each workflow in every way there is."""
    app.list_workflows()
    app.list_quarantined()
    commands = [("kafka", "trace", "orders", "0", "0", "--application", "shop")]
    for id_ in ids:
        assert app.get_workflow_status(id_) is not None
        app.list_workflow_steps(id_)
        app.get_quarantined(id_)
        commands += [("workflow", "get", id_), ("workflow", "steps", id_), ("quarantine", "show", id_)]
    for command in commands:
        CliRunner().invoke(command_line, [*command, "--database", url])


@pytest.mark.parametrize("codec", ["pickle", "json"])
def test_no_way_to_a_row_loads_pickle(codec: str, tmp_path: Path) -> None:
    LOADED.clear()
    url = f"sqlite:///{tmp_path / 'pickled.sqlite'}"
    app = App({"name": "shop"})

    @app.step()
    def work(value: int) -> int:
        return value

    @app.workflow()
    def plain(value: int) -> int:
        work(value)
        app.sleep(100)
        return value

    @app.workflow()
    def ended(value: int) -> int:
        return work(value)

    @app.kafka_consumer(topics=["orders"])
    def on_order(message: KafkaMessage[dict[str, Any]]) -> str:
        raise KeyError(str(message.value))

    with TestApp(app, database_url=url) as dbos:
        parked, done = app.start_workflow(plain, 1), app.start_workflow(ended, 1)
        event = dbos.deliver(on_order, PICKLED.encode(), headers={"h": PICKLED.encode()})
        typed = dbos.deliver(on_order, {"py/object": "os.system", "$": "pickle", "v": PICKLED})
        dbos.run_until_idle()
        poison(dbos, codec)
        look(app, url, [one.workflow_id for one in (parked, done, event, typed)])
        for handle in (done, event):
            with pytest.raises((DBOSException, KeyError)):
                app.retrieve_workflow(handle.workflow_id).get_result()
        app.redrive_events([event.workflow_id, typed.workflow_id])
        dbos.advance(seconds=200)
        assert parked.get_status().status == "ERROR"
        assert "pickle" in str(parked.get_status().error) or codec == "json"
    assert LOADED == []

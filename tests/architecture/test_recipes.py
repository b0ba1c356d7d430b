"""What it costs to add something: each recipe of CONTRIBUTING.md is followed on a copy of the tree, which then runs.

A test that fails because a text is not there any more says that the recipe has changed. One that fails because of a
number says that adding got more expensive: look for the second place at which something is stated.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.architecture.growing import Growth


@pytest.fixture
def growth(tmp_path: Path) -> Growth:
    return Growth(tmp_path)


# ------------------------------------------------------------------ a column of checkpoints

STEPS_WITH_A_COLUMN = """
import json, sys
from dbos_events import DBOS

DBOS(config={"name": "grown", "system_database_url": sys.argv[1]})

@DBOS.step()
def step(fails):
    if fails:
        raise ValueError("in a row of its own")

@DBOS.workflow()
def flow(fails):
    step(False)
    step(fails)

DBOS.launch()
flow(False)
try:
    flow(True)
except ValueError:
    pass
from sqlalchemy import text
from dbos_events.facade import default_app
storage = default_app().launched.storage
with storage.database.engine.connect() as connection:
    schema = "" if storage.name == "sqlite" else "dbos_events."
    rows = [noted for (noted,) in connection.execute(text(f"SELECT noted FROM {schema}steps"))]
listed = [
    entry.noted
    for workflow in DBOS.list_workflows()
    for entry in storage.workflows.list_steps(workflow.workflow_id)
]
print(json.dumps([rows, listed]))
DBOS.destroy()
"""


def test_a_column_of_checkpoints_touches_five_files(growth: Growth, empty_database_url: str) -> None:
    growth.change(
        "migrations/versions/0001_initial.py",
        (
            'column("completion_order", INT),\n',
            'column("completion_order", INT),\n        column("noted", TEXT, null=True),\n',
        ),
        ("writer, write_id, recorded_in\nFROM", "writer, write_id, recorded_in, noted\nFROM"),
        ("       CAST(NULL AS int)\nFROM", "       CAST(NULL AS int), {c[12]}\nFROM"),
        ("range(12)", "range(13)"),
    )
    growth.change(
        "dbos_events/storage/sql/batch.sql", ("completion_order int,", "completion_order int, noted text,")
    )
    growth.change(
        "dbos_events/storage/sql/workflows.sql", ("c.completion_order,", "c.completion_order, c.noted,")
    )
    growth.change(
        "dbos_events/storage/writes/write.py",
        ("    write_id: int = 0\n", '    write_id: int = 0\n    noted: str | None = "by hand"\n'),
    )
    growth.change(
        "dbos_events/storage/writes/own_checkpoints.py",
        ("{entry.write_id}]", "{entry.write_id},{'null' if entry.noted is None else text(entry.noted)}]"),
    )

    rows, listed = json.loads(growth.run("-c", STEPS_WITH_A_COLUMN, empty_database_url))

    assert rows == ["by hand"] * 4, "as rows of their own, and in the row of a workflow that ended with them"
    assert listed == ["by hand"] * 4
    assert len(growth.touched) <= 5, growth.touched


# ------------------------------------------------------------------ a durable verb

FLOW = '''"""A workflow that wants to be claimed sooner, or later, from now on."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dbos_events.engine.effects import Flow, Recorded
from dbos_events.engine.operations.common import operation
from dbos_events.engine.values_and_streams import refuse_unwritten
from dbos_events.serialization import fingerprint
from dbos_events.storage.writes.hurry import Hurry

if TYPE_CHECKING:
    from dbos_events.engine.run import Run
    from dbos_events.engine.runvalues import Place

NAME = "DBOS.hurry"


def hurry(run: Run, place: Place, more: int) -> Flow[None]:
    """Change the priority: one write with its checkpoint, durable when this returns."""
    arguments = fingerprint((more,), {})

    def fresh() -> Flow[None]:
        now = run.core.clock.now_ms()
        write = run.checkpoint(place, NAME, arguments=arguments, started_at=now, completed_at=now)
        write.change = Hurry(more)
        refuse_unwritten(run, (yield Recorded(run.core, write, run)))

    return operation(run, place, NAME, arguments, fresh)
'''

WRITE = '''"""Another priority of the workflow that runs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from dbos_events.storage.writes.write import Change

if TYPE_CHECKING:
    from dbos_events.storage.writes.member import Batch


@dataclass(slots=True)
class Hurry(Change):
    """The priority grows by `more`."""

    more: int


class Hurries:
    """Writes them, each once."""

    def write(self, batch: Batch) -> None:
        for number, write, change in batch.changes(Hurry):
            rows = batch.tx.rows("hurry_workflows", [(write, change)])
            if batch.change("hurry_workflows", rows) < 1:
                batch.refuse([(number, write)])
'''

STATEMENT = """

-- name: hurry_workflows
-- Only under the token.
UPDATE {schema}.workflows AS w
SET priority = w.priority + u.more
FROM {rows: workflow_id text, take int, more int}
WHERE w.id = u.workflow_id AND w.owner = :executor AND w.take = u.take AND w.status = 'PENDING';
"""

VERB = '''    def hurry(self, more: int) -> None:
        """Let the workflow have a priority that is larger by `more`, exactly once."""
        refuse_on_loop("hurry")
        drive(_hurry(self, more))

    async def hurry_async(self, more: int) -> None:
        """As `hurry`, without blocking the loop."""
        await drive_async(_hurry(self, more))

'''

USE = """
import asyncio, json, sys
from dbos_events import DBOS

DBOS(config={"name": "grown", "system_database_url": sys.argv[1]})

@DBOS.step()
def step():
    pass

@DBOS.workflow()
def flow():
    DBOS.hurry(2)
    step()
    DBOS.hurry(3)

@DBOS.workflow()
async def flow_async():
    await DBOS.hurry_async(4)

async def start():
    handle = await DBOS.start_workflow_async(flow_async)
    await handle.get_result()
    return handle.workflow_id

DBOS.launch()
handle = DBOS.start_workflow(flow)
handle.get_result()
ids = [handle.workflow_id, asyncio.run(start())]
names = [step["function_name"] for step in DBOS.list_workflow_steps(ids[0])]
print(json.dumps([[DBOS.get_workflow_status(one).priority for one in ids], names]))
DBOS.destroy()
"""


def test_a_durable_verb_touches_six_files(growth: Growth, empty_database_url: str) -> None:
    growth.add("dbos_events/engine/operations/hurry.py", FLOW)
    growth.add("dbos_events/storage/writes/hurry.py", WRITE)
    growth.change(
        "dbos_events/storage/writes/family.py",
        (
            "from dbos_events.storage.writes.match import",
            "from dbos_events.storage.writes.hurry import Hurries, Hurry\nfrom dbos_events.storage.writes.match import",
        ),
        ("    NewWorkflow, Bounce,", "    NewWorkflow, Hurry, Bounce,"),
        ("Starts(), Bounces(),", "Starts(), Hurries(), Bounces(),"),
    )
    growth.add("dbos_events/storage/sql/batch.sql", STATEMENT)
    growth.change(
        "dbos_events/api/values.py",
        ("    def get_event(self,", f"{VERB}    def get_event(self,"),
        (
            "def _set(session",
            (
                "def _hurry(session: Session, more: int) -> Flow[None]:\n"
                "    from dbos_events.engine.operations.hurry import hurry\n\n"
                '    scope = writing_scope(session, "hurry")\n'
                "    return hurry(scope.run, scope.run.locate(scope), more)\n\n\n"
                "def _set(session"
            ),
        ),
    )
    growth.run("-m", "tests.architecture.facade")

    priorities, names = json.loads(growth.run("-c", USE, empty_database_url))

    assert priorities == [5, 4]
    assert names == ["DBOS.hurry", "step", "DBOS.hurry"]
    assert len(growth.touched) <= 6, growth.touched
    assert "dbos_events/api/surface.py" in growth.touched


# ------------------------------------------------------------------ a service

SERVICE = '''"""Says that the process lives."""

from __future__ import annotations

import threading

from dbos_events.runtime.service import Service


class BeatService(Service):
    """Beats."""

    name = "beat"

    def __init__(self) -> None:
        super().__init__(3600.0)
        self.beaten = threading.Semaphore(0)

    @property
    def signals(self) -> tuple[str, ...]:
        return ("beats",)

    def tick(self) -> None:
        self.beaten.release()
'''

LIVE = """
import threading
from dbos_events import App

with App({"name": "grown", "system_database_url": "sqlite:///grown.sqlite"}) as app:
    beat = app.launched.beat
    assert beat.beaten.acquire(timeout=60), "it is launched"
    app.core.signal("beats")
    assert beat.beaten.acquire(timeout=60), "its signal wakes it"
    thread = next(one for one in threading.enumerate() if one.name == "dbos-beat")
thread.join(60)
assert not thread.is_alive(), "it is stopped"
"""


def test_a_service_touches_two_files(growth: Growth) -> None:
    growth.add("dbos_events/runtime/beat.py", SERVICE)
    growth.change(
        "dbos_events/launched.py",
        (
            "from dbos_events.runtime.contested import",
            "from dbos_events.runtime.beat import BeatService\nfrom dbos_events.runtime.contested import",
        ),
        ("        self.expiry = ", "        self.beat = BeatService()\n        self.expiry = "),
        ("self.inbox, self.backlog,", "self.inbox, self.backlog, self.beat,"),
    )

    growth.run("-c", LIVE)

    assert len(growth.touched) <= 2, growth.touched


# ------------------------------------------------------------------ a connector

PLUGIN = """
import typer
from dbos_events.connect import Connector, Ends, Record

class Messages:
    form = bytes

    @staticmethod
    def of(topic, record):
        return record.value

def ask_ends(section, stored, topics):
    return Ends({}, {})

connector = Connector("pulse", lambda options: None, lambda intake, settings: None, Messages(), ask_ends)

def group(commands):
    made = typer.Typer(help="Consumers of pulses.", add_completion=False, rich_markup_mode=None)
    commands.add_to(made, "status", "pause", system="the Pulse server")

    @made.command()
    def beat(ctx: typer.Context):
        "Say what only this connector says."
        ctx.obj.say("beats")

    return made
"""

ENTRY_POINTS = """
[dbos_events.connectors]
pulse = pulse_events:connector

[dbos_events.log_commands]
pulse = pulse_events:group
"""

ASK = """
import json
from dbos_events.connect import find_connector
from dbos_events.errors import ConfigurationError
from dbos_events.settings import read_settings

def refused(config):
    try:
        read_settings(config)
    except ConfigurationError as error:
        return error.message

print(json.dumps([
    find_connector("pulse").name,
    read_settings({"pulse": {"a": 1}}).section("pulse"),
    refused({"pulses": {"a": 1}}),
    refused({"pulse": "fast"}),
]))
"""
COMMAND = "import sys; from dbos_events.cli import main; sys.argv[1:] = {!r}; main()"


def test_a_connector_touches_nothing_of_the_core(growth: Growth) -> None:
    """It has commands and settings as soon as it is installed. `tests/inbox` runs one whose events are pushed."""
    distribution = growth.folder / "pulse_events-1.0.dist-info"
    distribution.mkdir()
    (distribution / "METADATA").write_text("Metadata-Version: 2.1\nName: pulse-events\nVersion: 1.0\n")
    (distribution / "entry_points.txt").write_text(ENTRY_POINTS)
    growth.add("pulse_events.py", PLUGIN)

    name, given, unknown, wrong = json.loads(growth.run("-c", ASK, DBOS_EVENTS_PULSE__RATE="70"))
    listed = growth.run("-c", COMMAND.format(["--help"]))
    status = growth.run("-c", COMMAND.format(["pulse", "status", "--help"]))
    group = growth.run("-c", COMMAND.format(["pulse", "--help"]))

    assert name == "pulse"
    assert given == {"a": 1, "rate": "70"}
    assert "pulses: there is no such setting. Did you mean pulse?" in unknown
    assert "pulse: Input should be a valid dictionary" in wrong
    assert "pulse       Consumers of pulses." in listed
    assert "dbos-events pulse status --watch" in status
    assert "Ask the Pulse server for END" in " ".join(status.split())
    assert growth.run("-c", COMMAND.format(["pulse", "beat"])) == "beats\n"
    assert "resume" not in group
    assert growth.touched == ["pulse_events.py"]

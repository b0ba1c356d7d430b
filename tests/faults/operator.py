"""What an operator does with the command line, without one."""

from dbos_events.clock import SystemClock
from dbos_events.config import DEFAULT_SCHEMA
from dbos_events.control.quarantine import Order, QuarantineControl
from dbos_events.control.schedules import ScheduleControl
from dbos_events.model.quarantine import QuarantineFilter, Redrive
from dbos_events.serialization import Codecs
from dbos_events.storage.migrate import migrate
from dbos_events.storage.opening import open_storage


def redrive_all(url: str) -> int:
    """Let everything run again that was put aside."""
    storage = open_storage(url, schema=DEFAULT_SCHEMA, clock=SystemClock(), pool_size=2)
    try:
        control = QuarantineControl(storage, Codecs(default="json"), tell=storage.notify)
        return len(control.redrive(QuarantineFilter(), Redrive(), Order()).changed)
    finally:
        storage.close()


def pause_schedule(url: str, application: str, name: str) -> bool:
    """Let no tick of a schedule run from now on; gives whether it was not paused before."""
    storage = open_storage(url, schema=DEFAULT_SCHEMA, clock=SystemClock(), pool_size=2)
    try:
        return ScheduleControl(storage, Codecs(default="json"), application, tell=storage.notify).pause(name)
    finally:
        storage.close()


def make_schema(url: str) -> None:
    """Make the engine's tables in an empty database."""
    storage = open_storage(url, schema=DEFAULT_SCHEMA, clock=SystemClock(), pool_size=2)
    try:
        migrate(storage)
    finally:
        storage.close()

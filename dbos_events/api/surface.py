"""All that an App can be asked to do, put together from the families of verbs."""

from __future__ import annotations

from dbos_events.api.callbacks import CallbackVerbs
from dbos_events.api.messages import Messages
from dbos_events.api.publications import PublicationVerbs
from dbos_events.api.pushed import PushedConsumers
from dbos_events.api.quarantine import QuarantineVerbs
from dbos_events.api.queueing import Queueing
from dbos_events.api.racing import Racing
from dbos_events.api.schedules import Scheduling
from dbos_events.api.streams import Streams
from dbos_events.api.values import Values
from dbos_events.api.verbs import Verbs


class Surface(
    Verbs,
    QuarantineVerbs,
    Messages,
    PublicationVerbs,
    Values,
    Streams,
    Queueing,
    Scheduling,
    Racing,
    PushedConsumers,
    CallbackVerbs,
):
    """The verbs of an App; `DBOS` has the same."""

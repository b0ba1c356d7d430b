"""Listing and changing workflows, written once for DBOS, the client and the command line."""

from dbos_events.control.consumers import ConsumerControl as ConsumerControl
from dbos_events.control.quarantine import QuarantineControl as QuarantineControl
from dbos_events.control.workflows import Control as Control

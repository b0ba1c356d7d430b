"""What an operator may ask and do, written once for DBOS, the command line and whatever comes beside it."""

from dbos_events.control.consumers import ConsumerControl as ConsumerControl
from dbos_events.control.control import Control as Control
from dbos_events.control.positions import PositionControl as PositionControl
from dbos_events.control.proofs import ProofControl as ProofControl
from dbos_events.control.quarantine import Order as Order
from dbos_events.control.quarantine import QuarantineControl as QuarantineControl
from dbos_events.control.workflows import WorkflowControl as WorkflowControl
from dbos_events.storage.quarantined import Redrive as Redrive

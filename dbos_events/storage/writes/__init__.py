"""What the committer asks the storage to write, and the answers.

A `Write` belongs to one workflow and is fenced by its owner token (executor, take). Writes of many workflows go out in
one transaction; each gets an answer of its own. `family.py` has the kinds of writes and their order.
"""

from dbos_events.storage.writes.answers import WRITTEN as WRITTEN
from dbos_events.storage.writes.answers import Debounced as Debounced
from dbos_events.storage.writes.answers import Deduplicated as Deduplicated
from dbos_events.storage.writes.answers import Existing as Existing
from dbos_events.storage.writes.answers import Fenced as Fenced
from dbos_events.storage.writes.answers import Gone as Gone
from dbos_events.storage.writes.answers import NoWorkflow as NoWorkflow
from dbos_events.storage.writes.answers import Refused as Refused
from dbos_events.storage.writes.answers import Result as Result
from dbos_events.storage.writes.answers import Written as Written
from dbos_events.storage.writes.consume import Consume as Consume
from dbos_events.storage.writes.debounce import Bounce as Bounce
from dbos_events.storage.writes.match import Awaited as Awaited
from dbos_events.storage.writes.match import Found as Found
from dbos_events.storage.writes.match import Match as Match
from dbos_events.storage.writes.match import Register as Register
from dbos_events.storage.writes.outcome import Failure as Failure
from dbos_events.storage.writes.outcome import Outcome as Outcome
from dbos_events.storage.writes.outcome import QuarantineNote as QuarantineNote
from dbos_events.storage.writes.park import Park as Park
from dbos_events.storage.writes.publish import Anchor as Anchor
from dbos_events.storage.writes.publish import NewPublication as NewPublication
from dbos_events.storage.writes.publish import Publish as Publish
from dbos_events.storage.writes.publish import anchor_key as anchor_key
from dbos_events.storage.writes.retry import NextAttempt as NextAttempt
from dbos_events.storage.writes.send import NewMessage as NewMessage
from dbos_events.storage.writes.send import Send as Send
from dbos_events.storage.writes.send import message_key as message_key
from dbos_events.storage.writes.start import NewWorkflow as NewWorkflow
from dbos_events.storage.writes.stream import Piece as Piece
from dbos_events.storage.writes.stream import SettleEntries as SettleEntries
from dbos_events.storage.writes.stream import StreamEntry as StreamEntry
from dbos_events.storage.writes.stream import stream_key as stream_key
from dbos_events.storage.writes.value import SetValue as SetValue
from dbos_events.storage.writes.value import value_key as value_key
from dbos_events.storage.writes.waiting import Key as Key
from dbos_events.storage.writes.waiting import result_key as result_key
from dbos_events.storage.writes.write import CANCELLED_CALL as CANCELLED_CALL
from dbos_events.storage.writes.write import Change as Change
from dbos_events.storage.writes.write import Checkpoint as Checkpoint
from dbos_events.storage.writes.write import Write as Write

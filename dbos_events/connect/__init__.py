"""What the author of a connector reads and implements."""

from dbos_events.clock import Clock as Clock
from dbos_events.clock import SystemClock as SystemClock
from dbos_events.connect.connector import Connector as Connector
from dbos_events.connect.connector import Ends as Ends
from dbos_events.connect.connector import LogMessages as LogMessages
from dbos_events.connect.connector import PushConnector as PushConnector
from dbos_events.connect.connector import PushedMessages as PushedMessages
from dbos_events.connect.hosts import default_host as default_host
from dbos_events.connect.inbox import Inbox as Inbox
from dbos_events.connect.inbox import Outcome as Outcome
from dbos_events.connect.inbox import PushedEvent as PushedEvent
from dbos_events.connect.inbox import PushHost as PushHost
from dbos_events.connect.inbox import PushOptions as PushOptions
from dbos_events.connect.plugins import find_connector as find_connector
from dbos_events.connect.source import Intake as Intake
from dbos_events.connect.source import PartitionReport as PartitionReport
from dbos_events.connect.source import Position as Position
from dbos_events.connect.source import Record as Record
from dbos_events.connect.source import Source as Source
from dbos_events.connect.source import SourceHealth as SourceHealth
from dbos_events.connect.source import TakenIn as TakenIn
from dbos_events.engine.readers import Readers as Readers
from dbos_events.model.topic import TopicHistory as TopicHistory
from dbos_events.telemetry.log import Recurring as Recurring
from dbos_events.telemetry.log import logger as logger

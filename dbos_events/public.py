# ruff: noqa: PLC0414 - each name is given again, which the alias says to type checkers
"""The public names, for type checkers, and where each comes from: its module is imported when it is asked for.

A program that only starts workflows pays nothing for debouncers, schedules or clients.
"""

from typing import TYPE_CHECKING, Any

from dbos_events.bundled import MESSAGES

if TYPE_CHECKING:
    from dbos_events import error as error
    from dbos_events.api.contexts import SetWorkflowID as SetWorkflowID
    from dbos_events.api.contexts import SetWorkflowTimeout as SetWorkflowTimeout
    from dbos_events.api.contexts import WorkflowIDReusePolicy as WorkflowIDReusePolicy
    from dbos_events.api.debouncing import Debouncer as Debouncer
    from dbos_events.api.enqueueing import SetEnqueueOptions as SetEnqueueOptions
    from dbos_events.api.enqueueing import SetWorkflowAttributes as SetWorkflowAttributes
    from dbos_events.api.handles import WorkflowHandle as WorkflowHandle
    from dbos_events.api.handles import WorkflowHandleAsync as WorkflowHandleAsync
    from dbos_events.api.queueing import EnqueueOptions as EnqueueOptions
    from dbos_events.app import App as App
    from dbos_events.bundled import *  # noqa: F403 - the messages of connectors
    from dbos_events.bundled import DBOSConfig as DBOSConfig
    from dbos_events.client.client import DBOSClient as DBOSClient
    from dbos_events.client.debouncing import DebouncerClient as DebouncerClient
    from dbos_events.errors import Quarantine as Quarantine
    from dbos_events.errors import TryAgain as TryAgain
    from dbos_events.facade import DBOS as DBOS
    from dbos_events.model.event import Breaker as Breaker
    from dbos_events.model.event import PayloadCodec as PayloadCodec
    from dbos_events.model.event import Retry as Retry
    from dbos_events.model.message import SendMessage as SendMessage
    from dbos_events.model.publication import ExpiredPublication as ExpiredPublication
    from dbos_events.model.publication import Matched as Matched
    from dbos_events.model.publication import Publication as Publication
    from dbos_events.model.publication import WaitFor as WaitFor
    from dbos_events.model.quarantine import QuarantinedDetail as QuarantinedDetail
    from dbos_events.model.quarantine import QuarantinedEvent as QuarantinedEvent
    from dbos_events.model.queue import DuplicationPolicy as DuplicationPolicy
    from dbos_events.model.schedule import ClientScheduleInput as ClientScheduleInput
    from dbos_events.model.schedule import ScheduleInput as ScheduleInput
    from dbos_events.model.schedule import WorkflowSchedule as WorkflowSchedule
    from dbos_events.model.stream import StreamReset as StreamReset
    from dbos_events.model.workflow import StepInfo as StepInfo
    from dbos_events.model.workflow import StepOptions as StepOptions
    from dbos_events.model.workflow import StepStatus as StepStatus
    from dbos_events.model.workflow import WorkflowFilter as WorkflowFilter
    from dbos_events.model.workflow import WorkflowStatus as WorkflowStatus
    from dbos_events.model.workflow import WorkflowStatusString as WorkflowStatusString
    from dbos_events.queue import Queue as Queue

PLACES = {
    **MESSAGES,
    "App": "dbos_events.app",
    "Breaker": "dbos_events.model.event",
    "ClientScheduleInput": "dbos_events.model.schedule",
    "DBOS": "dbos_events.facade",
    "DBOSConfig": "dbos_events.bundled",
    "Debouncer": "dbos_events.api.debouncing",
    "DuplicationPolicy": "dbos_events.model.queue",
    "EnqueueOptions": "dbos_events.api.queueing",
    "ExpiredPublication": "dbos_events.model.publication",
    "Matched": "dbos_events.model.publication",
    "PayloadCodec": "dbos_events.model.event",
    "Publication": "dbos_events.model.publication",
    "Quarantine": "dbos_events.errors",
    "QuarantinedDetail": "dbos_events.model.quarantine",
    "QuarantinedEvent": "dbos_events.model.quarantine",
    "Queue": "dbos_events.queue",
    "Retry": "dbos_events.model.event",
    "ScheduleInput": "dbos_events.model.schedule",
    "SendMessage": "dbos_events.model.message",
    "SetEnqueueOptions": "dbos_events.api.enqueueing",
    "SetWorkflowAttributes": "dbos_events.api.enqueueing",
    "SetWorkflowID": "dbos_events.api.contexts",
    "SetWorkflowTimeout": "dbos_events.api.contexts",
    "StepInfo": "dbos_events.model.workflow",
    "StepOptions": "dbos_events.model.workflow",
    "StepStatus": "dbos_events.model.workflow",
    "StreamReset": "dbos_events.model.stream",
    "TryAgain": "dbos_events.errors",
    "WaitFor": "dbos_events.model.publication",
    "WorkflowFilter": "dbos_events.model.workflow",
    "WorkflowHandle": "dbos_events.api.handles",
    "WorkflowHandleAsync": "dbos_events.api.handles",
    "WorkflowIDReusePolicy": "dbos_events.api.contexts",
    "WorkflowSchedule": "dbos_events.model.schedule",
    "WorkflowStatus": "dbos_events.model.workflow",
    "WorkflowStatusString": "dbos_events.model.workflow",
    "DBOSClient": "dbos_events.client.client",
    "DebouncerClient": "dbos_events.client.debouncing",
    "error": "dbos_events",
}
"""The modules of the public names."""


def __getattr__(name: str) -> Any:
    module = PLACES.get(name)
    if module is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    if name == "error":  # a module
        return import_module("dbos_events.error")
    found = globals()[name] = getattr(import_module(module), name)
    return found

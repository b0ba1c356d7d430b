"""`DBOS`: the surface that programs use, over one default App."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from dbos_events.api.queues import Queue as AppQueue
from dbos_events.app import App
from dbos_events.bundled import DBOSConfig
from dbos_events.engine.context import CURRENT
from dbos_events.model.queue import QueueRateLimit
from dbos_events.model.workflow import StepStatus
from dbos_events.telemetry.log import logger

_DEFAULT = App()


class _Context(type):
    """The properties of `DBOS` that tell where the running code stands."""

    @property
    def workflow_id(cls) -> str | None:
        """The id of the running workflow; None outside of workflows."""
        scope = CURRENT.get()
        return None if scope is None else scope.run.id

    @property
    def step_id(cls) -> int | None:
        """The number of the running step; None outside of steps."""
        scope = CURRENT.get()
        return scope.step.step_id if scope is not None and scope.step is not None else None

    @property
    def step_status(cls) -> StepStatus | None:
        """The attempt that the running step is in; None outside of steps."""
        scope = CURRENT.get()
        return None if scope is None else scope.step

    @property
    def idempotency_key(cls) -> str | None:
        """The key of the running step: hand it to whoever must not act twice. None outside of steps.

        `workflow:step`, with `#2` for the second call of that name; or what the step's `idempotency_key=` gave. It is
        the same in every attempt, retry, recovery and redrive, whatever other calls were put in or removed.
        """
        scope = CURRENT.get()
        if scope is None or scope.key is None:
            return None
        scope.key.asked = True
        return scope.key.text

    @property
    def logger(cls) -> logging.Logger:
        """The package's logger."""
        return logger

    @property
    def executor_id(cls) -> str:
        """The label of this process."""
        return _DEFAULT.launched.label

    @property
    def application_version(cls) -> str:
        """The version of the running code."""
        return _DEFAULT.core.version


class DBOS(metaclass=_Context):
    """The default App: `DBOS(config=...)`, decorators, `DBOS.launch()`.

    Decorators may run before the configuration is given; everything else needs `launch`. A second
    `DBOS(config=...)` before launch replaces the configuration.
    """

    def __init__(self, *, config: DBOSConfig | Mapping[str, Any] | None = None) -> None:
        if config is not None:
            _DEFAULT.configure(config)

    workflow = _DEFAULT.workflow
    step = _DEFAULT.step
    kafka_consumer = _DEFAULT.kafka_consumer

    launch = _DEFAULT.launch
    launch_async = _DEFAULT.launch_async
    destroy = _DEFAULT.destroy
    destroy_async = _DEFAULT.destroy_async
    health = _DEFAULT.health
    lifespan = _DEFAULT.lifespan

    # Verbs, made by `make facade` out of the classes in dbos_events/api/.
    start_workflow = _DEFAULT.start_workflow
    start_workflow_async = _DEFAULT.start_workflow_async
    run_step = _DEFAULT.run_step
    run_step_async = _DEFAULT.run_step_async
    sleep = _DEFAULT.sleep
    sleep_async = _DEFAULT.sleep_async
    get_result = _DEFAULT.get_result
    get_result_async = _DEFAULT.get_result_async
    retrieve_workflow = _DEFAULT.retrieve_workflow
    retrieve_workflow_async = _DEFAULT.retrieve_workflow_async
    get_workflow_status = _DEFAULT.get_workflow_status
    get_workflow_status_async = _DEFAULT.get_workflow_status_async
    list_workflows = _DEFAULT.list_workflows
    list_workflows_async = _DEFAULT.list_workflows_async
    list_queued_workflows = _DEFAULT.list_queued_workflows
    list_queued_workflows_async = _DEFAULT.list_queued_workflows_async
    list_workflow_steps = _DEFAULT.list_workflow_steps
    list_workflow_steps_async = _DEFAULT.list_workflow_steps_async

    cancel_workflow = _DEFAULT.cancel_workflow
    cancel_workflow_async = _DEFAULT.cancel_workflow_async
    cancel_workflows = _DEFAULT.cancel_workflows
    cancel_workflows_async = _DEFAULT.cancel_workflows_async
    resume_workflow = _DEFAULT.resume_workflow
    resume_workflow_async = _DEFAULT.resume_workflow_async
    resume_workflows = _DEFAULT.resume_workflows
    resume_workflows_async = _DEFAULT.resume_workflows_async

    pause_consumer = _DEFAULT.pause_consumer
    pause_consumer_async = _DEFAULT.pause_consumer_async
    resume_consumer = _DEFAULT.resume_consumer
    resume_consumer_async = _DEFAULT.resume_consumer_async

    list_quarantined = _DEFAULT.list_quarantined
    list_quarantined_async = _DEFAULT.list_quarantined_async
    get_quarantined = _DEFAULT.get_quarantined
    get_quarantined_async = _DEFAULT.get_quarantined_async
    redrive_events = _DEFAULT.redrive_events
    redrive_events_async = _DEFAULT.redrive_events_async
    discard_events = _DEFAULT.discard_events
    discard_events_async = _DEFAULT.discard_events_async

    send = _DEFAULT.send
    send_async = _DEFAULT.send_async
    send_bulk = _DEFAULT.send_bulk
    send_bulk_async = _DEFAULT.send_bulk_async
    recv = _DEFAULT.recv
    recv_async = _DEFAULT.recv_async

    publish = _DEFAULT.publish
    publish_async = _DEFAULT.publish_async
    wait_for = _DEFAULT.wait_for
    wait_for_async = _DEFAULT.wait_for_async
    wait_for_any = _DEFAULT.wait_for_any
    wait_for_any_async = _DEFAULT.wait_for_any_async
    wait_for_all = _DEFAULT.wait_for_all
    wait_for_all_async = _DEFAULT.wait_for_all_async

    set_event = _DEFAULT.set_event
    set_event_async = _DEFAULT.set_event_async
    get_event = _DEFAULT.get_event
    get_event_async = _DEFAULT.get_event_async
    get_all_events = _DEFAULT.get_all_events
    get_all_events_async = _DEFAULT.get_all_events_async

    write_stream = _DEFAULT.write_stream
    write_stream_async = _DEFAULT.write_stream_async
    close_stream = _DEFAULT.close_stream
    close_stream_async = _DEFAULT.close_stream_async
    read_stream = _DEFAULT.read_stream
    read_stream_async = _DEFAULT.read_stream_async
    read_stream_offset = _DEFAULT.read_stream_offset
    read_stream_offset_async = _DEFAULT.read_stream_offset_async

    enqueue_workflow = _DEFAULT.enqueue_workflow
    enqueue_workflow_async = _DEFAULT.enqueue_workflow_async
    enqueue_workflow_with_options = _DEFAULT.enqueue_workflow_with_options
    enqueue_workflow_with_options_async = _DEFAULT.enqueue_workflow_with_options_async
    register_queue = _DEFAULT.register_queue
    register_queue_async = _DEFAULT.register_queue_async
    retrieve_queue = _DEFAULT.retrieve_queue
    retrieve_queue_async = _DEFAULT.retrieve_queue_async
    list_queues = _DEFAULT.list_queues
    list_queues_async = _DEFAULT.list_queues_async
    delete_queue = _DEFAULT.delete_queue
    delete_queue_async = _DEFAULT.delete_queue_async
    listen_queues = _DEFAULT.listen_queues
    set_workflow_delay = _DEFAULT.set_workflow_delay
    set_workflow_delay_async = _DEFAULT.set_workflow_delay_async
    update_workflow_attributes = _DEFAULT.update_workflow_attributes
    update_workflow_attributes_async = _DEFAULT.update_workflow_attributes_async

    scheduled = _DEFAULT.scheduled
    create_schedule = _DEFAULT.create_schedule
    create_schedule_async = _DEFAULT.create_schedule_async
    apply_schedules = _DEFAULT.apply_schedules
    apply_schedules_async = _DEFAULT.apply_schedules_async
    delete_schedule = _DEFAULT.delete_schedule
    delete_schedule_async = _DEFAULT.delete_schedule_async
    pause_schedule = _DEFAULT.pause_schedule
    pause_schedule_async = _DEFAULT.pause_schedule_async
    resume_schedule = _DEFAULT.resume_schedule
    resume_schedule_async = _DEFAULT.resume_schedule_async
    list_schedules = _DEFAULT.list_schedules
    list_schedules_async = _DEFAULT.list_schedules_async
    get_schedule = _DEFAULT.get_schedule
    get_schedule_async = _DEFAULT.get_schedule_async
    trigger_schedule = _DEFAULT.trigger_schedule
    trigger_schedule_async = _DEFAULT.trigger_schedule_async
    backfill_schedule = _DEFAULT.backfill_schedule
    backfill_schedule_async = _DEFAULT.backfill_schedule_async

    asyncio_wait = _DEFAULT.asyncio_wait
    wait_first = _DEFAULT.wait_first
    wait_first_async = _DEFAULT.wait_first_async

    shielded = _DEFAULT.shielded

    pushed_consumer = _DEFAULT.pushed_consumer

    callback = _DEFAULT.callback
    callback_async = _DEFAULT.callback_async
    answer_callback = _DEFAULT.answer_callback
    answer_callback_async = _DEFAULT.answer_callback_async
    # End of the verbs.


class Queue(AppQueue):
    """A durable queue; see `dbos_events.api.queues.Queue`. It belongs to the default App unless `app` is given."""

    def __init__(
        self,
        name: str,
        concurrency: int | None = None,
        limiter: QueueRateLimit | None = None,
        *,
        app: App | None = None,
        **settings: Any,
    ) -> None:
        super().__init__(name, concurrency, limiter, app=_DEFAULT if app is None else app, **settings)


def default_app() -> App:
    """The App that `DBOS` is the facade of."""
    return _DEFAULT

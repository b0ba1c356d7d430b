"""All that an App can be asked to do, put together from the families of verbs.

A family is imported with the first of its verbs that somebody asks for: most programs use few.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from dbos_events.api.families import Family

if TYPE_CHECKING:
    from dbos_events.api.callbacks import CallbackVerbs
    from dbos_events.api.logged import LogConsumers
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
        LogConsumers,
        CallbackVerbs,
    ):
        """The verbs of an App; `DBOS` has the same."""

    _verbs: Verbs
    _quarantine: QuarantineVerbs
    _messages: Messages
    _publications: PublicationVerbs
    _values: Values
    _streams: Streams
    _queueing: Queueing
    _schedules: Scheduling
    _racing: Racing
    _pushed: PushedConsumers
    _logged: LogConsumers
    _callbacks: CallbackVerbs
else:
    _verbs = Family("dbos_events.api.verbs", "Verbs")
    _quarantine = Family("dbos_events.api.quarantine", "QuarantineVerbs")
    _messages = Family("dbos_events.api.messages", "Messages")
    _publications = Family("dbos_events.api.publications", "PublicationVerbs")
    _values = Family("dbos_events.api.values", "Values")
    _streams = Family("dbos_events.api.streams", "Streams")
    _queueing = Family("dbos_events.api.queueing", "Queueing")
    _schedules = Family("dbos_events.api.schedules", "Scheduling")
    _racing = Family("dbos_events.api.racing", "Racing")
    _pushed = Family("dbos_events.api.pushed", "PushedConsumers")
    _logged = Family("dbos_events.api.logged", "LogConsumers")
    _callbacks = Family("dbos_events.api.callbacks", "CallbackVerbs")


class BoundVerbs:
    """The verbs as `DBOS` has them, for type checkers; where it runs, what loads them."""

    # Verbs, made by `make facade` out of the classes in dbos_events/api/.
    start_workflow = _verbs.start_workflow
    start_workflow_async = _verbs.start_workflow_async
    run_step = _verbs.run_step
    run_step_async = _verbs.run_step_async
    sleep = _verbs.sleep
    sleep_async = _verbs.sleep_async
    get_result = _verbs.get_result
    get_result_async = _verbs.get_result_async
    retrieve_workflow = _verbs.retrieve_workflow
    retrieve_workflow_async = _verbs.retrieve_workflow_async
    get_workflow_status = _verbs.get_workflow_status
    get_workflow_status_async = _verbs.get_workflow_status_async
    list_workflows = _verbs.list_workflows
    list_workflows_async = _verbs.list_workflows_async
    list_queued_workflows = _verbs.list_queued_workflows
    list_queued_workflows_async = _verbs.list_queued_workflows_async
    list_workflow_steps = _verbs.list_workflow_steps
    list_workflow_steps_async = _verbs.list_workflow_steps_async

    cancel_workflow = _verbs.cancel_workflow
    cancel_workflow_async = _verbs.cancel_workflow_async
    cancel_workflows = _verbs.cancel_workflows
    cancel_workflows_async = _verbs.cancel_workflows_async
    resume_workflow = _verbs.resume_workflow
    resume_workflow_async = _verbs.resume_workflow_async
    resume_workflows = _verbs.resume_workflows
    resume_workflows_async = _verbs.resume_workflows_async

    pause_consumer = _verbs.pause_consumer
    pause_consumer_async = _verbs.pause_consumer_async
    resume_consumer = _verbs.resume_consumer
    resume_consumer_async = _verbs.resume_consumer_async

    list_quarantined = _quarantine.list_quarantined
    list_quarantined_async = _quarantine.list_quarantined_async
    get_quarantined = _quarantine.get_quarantined
    get_quarantined_async = _quarantine.get_quarantined_async
    redrive_events = _quarantine.redrive_events
    redrive_events_async = _quarantine.redrive_events_async
    discard_events = _quarantine.discard_events
    discard_events_async = _quarantine.discard_events_async

    send = _messages.send
    send_async = _messages.send_async
    send_bulk = _messages.send_bulk
    send_bulk_async = _messages.send_bulk_async
    recv = _messages.recv
    recv_async = _messages.recv_async

    publish = _publications.publish
    publish_async = _publications.publish_async
    wait_for = _publications.wait_for
    wait_for_async = _publications.wait_for_async
    wait_for_any = _publications.wait_for_any
    wait_for_any_async = _publications.wait_for_any_async
    wait_for_all = _publications.wait_for_all
    wait_for_all_async = _publications.wait_for_all_async

    set_event = _values.set_event
    set_event_async = _values.set_event_async
    get_event = _values.get_event
    get_event_async = _values.get_event_async
    get_all_events = _values.get_all_events
    get_all_events_async = _values.get_all_events_async

    write_stream = _streams.write_stream
    write_stream_async = _streams.write_stream_async
    close_stream = _streams.close_stream
    close_stream_async = _streams.close_stream_async
    read_stream = _streams.read_stream
    read_stream_async = _streams.read_stream_async
    read_stream_offset = _streams.read_stream_offset
    read_stream_offset_async = _streams.read_stream_offset_async

    enqueue_workflow = _queueing.enqueue_workflow
    enqueue_workflow_async = _queueing.enqueue_workflow_async
    enqueue_workflow_with_options = _queueing.enqueue_workflow_with_options
    enqueue_workflow_with_options_async = _queueing.enqueue_workflow_with_options_async
    register_queue = _queueing.register_queue
    register_queue_async = _queueing.register_queue_async
    retrieve_queue = _queueing.retrieve_queue
    retrieve_queue_async = _queueing.retrieve_queue_async
    list_queues = _queueing.list_queues
    list_queues_async = _queueing.list_queues_async
    delete_queue = _queueing.delete_queue
    delete_queue_async = _queueing.delete_queue_async
    listen_queues = _queueing.listen_queues
    set_workflow_delay = _queueing.set_workflow_delay
    set_workflow_delay_async = _queueing.set_workflow_delay_async
    update_workflow_attributes = _queueing.update_workflow_attributes
    update_workflow_attributes_async = _queueing.update_workflow_attributes_async

    scheduled = _schedules.scheduled
    create_schedule = _schedules.create_schedule
    create_schedule_async = _schedules.create_schedule_async
    apply_schedules = _schedules.apply_schedules
    apply_schedules_async = _schedules.apply_schedules_async
    delete_schedule = _schedules.delete_schedule
    delete_schedule_async = _schedules.delete_schedule_async
    pause_schedule = _schedules.pause_schedule
    pause_schedule_async = _schedules.pause_schedule_async
    resume_schedule = _schedules.resume_schedule
    resume_schedule_async = _schedules.resume_schedule_async
    list_schedules = _schedules.list_schedules
    list_schedules_async = _schedules.list_schedules_async
    get_schedule = _schedules.get_schedule
    get_schedule_async = _schedules.get_schedule_async
    trigger_schedule = _schedules.trigger_schedule
    trigger_schedule_async = _schedules.trigger_schedule_async
    backfill_schedule = _schedules.backfill_schedule
    backfill_schedule_async = _schedules.backfill_schedule_async

    asyncio_wait = _racing.asyncio_wait
    wait_first = _racing.wait_first
    wait_first_async = _racing.wait_first_async

    shielded = _racing.shielded

    pushed_consumer = _pushed.pushed_consumer

    log_consumer = _logged.log_consumer

    callback = _callbacks.callback
    callback_async = _callbacks.callback_async
    answer_callback = _callbacks.answer_callback
    answer_callback_async = _callbacks.answer_callback_async
    # End of the verbs.


if not TYPE_CHECKING:

    class Surface(BoundVerbs):
        """The verbs of an App; `DBOS` has the same."""


VERBS = tuple(name for name in vars(BoundVerbs) if name[0] != "_")
"""The names of all verbs."""

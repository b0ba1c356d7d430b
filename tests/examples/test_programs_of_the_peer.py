"""Programs as users of DBOS Transact write them, with no more than the import changed."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

SECONDS = 90

HEAD = """
from dbos_events import DBOS, Queue, SetWorkflowID, WorkflowHandle
from dbos_events.testing import TestApp

calls = []
"""

PROGRAMS = {
    "two steps of a workflow": (
        """
        @DBOS.step()
        def step_one():
            calls.append("one")

        @DBOS.step()
        def step_two():
            calls.append("two")

        @DBOS.workflow()
        def workflow():
            step_one()
            step_two()

        DBOS(config={"name": "program"})
        DBOS.launch()
        workflow()
        DBOS.destroy()
        print(calls)
        """,
        "['one', 'two']",
    ),
    "steps on a queue": (
        """
        queue = Queue("example_queue")

        @DBOS.step()
        def process_task(task):
            return task * 2

        @DBOS.workflow()
        def process_tasks(tasks):
            task_handles = []
            for task in tasks:
                handle = queue.enqueue(process_task, task)
                task_handles.append(handle)
            return [handle.get_result() for handle in task_handles]

        DBOS(config={"name": "program"})
        DBOS.launch()
        print(process_tasks(list(range(20))) == [2 * task for task in range(20)])
        DBOS.destroy()
        """,
        "True",
    ),
    "a workflow that undoes what it did": (
        """
        def named(name, result=None):
            def work(*_):
                calls.append(name)
                return result
            work.__name__ = work.__qualname__ = name
            return DBOS.step()(work)

        create_order = named("create_order", 7)
        reserve_inventory = named("reserve_inventory")
        process_payment = named("process_payment", "refused")
        fulfill_order = named("fulfill_order")
        undo_reserve_inventory = named("undo_reserve_inventory")
        cancel_order = named("cancel_order")

        @DBOS.workflow()
        def checkout_workflow(items):
            order = create_order()
            reserve_inventory(order, items)
            payment_status = process_payment(order, items)
            if payment_status == "paid":
                fulfill_order(order)
            else:
                undo_reserve_inventory(order, items)
                cancel_order(order)

        DBOS(config={"name": "program"})
        DBOS.launch()
        handle = DBOS.start_workflow(checkout_workflow, ["book"])
        handle.get_result()
        print(*[step["function_name"] for step in DBOS.list_workflow_steps(handle.workflow_id)])
        DBOS.destroy()
        """,
        "create_order reserve_inventory process_payment undo_reserve_inventory cancel_order",
    ),
    "a reminder after days": (
        """
        def days_to_seconds(days):
            return days * 24 * 3600

        @DBOS.step()
        def send_reminder_email(to_email, days):
            calls.append((to_email, days))

        @DBOS.workflow()
        def schedule_reminder(to_email: str, days_to_wait: int):
            DBOS.sleep(days_to_seconds(days_to_wait))
            send_reminder_email(to_email, days_to_wait)

        with TestApp() as dbos:
            DBOS.start_workflow(schedule_reminder, "a@example.com", 30)
            dbos.advance(days=29)
            print(calls)
            dbos.advance(days=1)
            print(calls)
        """,
        "[]\n[('a@example.com', 30)]",
    ),
    "a workflow of each hour": (
        """
        from datetime import datetime

        @DBOS.scheduled("0 * * * *")
        @DBOS.workflow()
        def run_hourly(scheduled_time: datetime, actual_time: datetime):
            assert actual_time >= scheduled_time
            calls.append(scheduled_time.minute)

        with TestApp() as dbos:
            dbos.advance(hours=3)
            print(calls)
        """,
        "[0, 0, 0]",
    ),
    "a pipeline over a queue": (
        """
        from typing import List

        queue = Queue("indexing_queue")

        @DBOS.workflow()
        def index_document(url: str) -> int:
            return len(url)

        @DBOS.workflow()
        def indexing_workflow(urls: List[str]):
            handles: List[WorkflowHandle] = []
            for url in urls:
                handle = queue.enqueue(index_document, url)
                handles.append(handle)
            indexed_pages = 0
            for handle in handles:
                indexed_pages += handle.get_result()
            DBOS.logger.info(f"Indexed {len(urls)} documents totaling {indexed_pages} pages")
            return indexed_pages

        DBOS(config={"name": "program"})
        DBOS.launch()
        print(indexing_workflow(["a" * number for number in range(300)]))
        DBOS.destroy()
        """,
        "44850",
    ),
    "steps that are retried, as tools of an agent": (
        """
        @DBOS.step(retries_allowed=True, max_attempts=2)
        def process_refund(item, reason):
            return f"Processed refund for item {item}, because {reason}"

        @DBOS.step(retries_allowed=True, max_attempts=3, interval_seconds=0.01)
        def apply_discount(amount):
            calls.append(amount)
            if len(calls) < 3:
                raise ConnectionError("not yet")
            return f"Applied discount of {amount}%"

        class Agent:
            def __init__(self, functions):
                self.functions = functions

        refunds_agent = Agent(functions=[process_refund, apply_discount])

        @DBOS.workflow()
        def agentic_workflow():
            refund, discount = refunds_agent.functions
            return [refund("book", "it was too expensive"), discount(10)]

        DBOS(config={"name": "program"})
        DBOS.launch()
        print(*agentic_workflow(), len(calls), sep="; ")
        DBOS.destroy()
        """,
        "Processed refund for item book, because it was too expensive; Applied discount of 10%; 3",
    ),
    "one workflow for each event id": (
        """
        class BoltRequest:
            def __init__(self, body):
                self.body = body

        @DBOS.workflow()
        def message_workflow(event):
            calls.append(event)

        def handle_message(request: BoltRequest) -> None:
            event_id = request.body["event_id"]
            with SetWorkflowID(event_id):
                DBOS.start_workflow(message_workflow, request.body["event"])

        DBOS(config={"name": "program"})
        DBOS.launch()
        for _ in range(3):
            handle_message(BoltRequest({"event_id": "Ev1", "event": "hello"}))
        DBOS.retrieve_workflow("Ev1").get_result()
        DBOS.destroy()
        print(calls)
        """,
        "['hello']",
    ),
    "waiting for a notification": (
        """
        @DBOS.workflow()
        def waits():
            DBOS.set_event("state", "waiting")
            payment = DBOS.recv("payment", timeout_seconds=60)
            DBOS.set_event("state", payment)
            return payment

        DBOS(config={"name": "program"})
        DBOS.launch()
        handle = DBOS.start_workflow(waits)
        print(DBOS.get_event(handle.workflow_id, "state", timeout_seconds=30))
        DBOS.send(handle.workflow_id, "paid", topic="payment")
        print(handle.get_result(), DBOS.get_event(handle.workflow_id, "state"))
        DBOS.destroy()
        """,
        "waiting\npaid paid",
    ),
}


@pytest.mark.parametrize("name", PROGRAMS)
def test_it_runs_after_its_import_was_changed(name: str, tmp_path: Path) -> None:
    body, printed = PROGRAMS[name]
    program = tmp_path / "program.py"
    program.write_text(f"{HEAD}\nif True:\n{textwrap.indent(textwrap.dedent(body), '    ')}")
    kept = {key: value for key, value in os.environ.items() if not key.startswith("DBOS")}
    done = subprocess.run(
        [sys.executable, str(program)],
        cwd=tmp_path,
        env=kept,
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == printed, done.stderr

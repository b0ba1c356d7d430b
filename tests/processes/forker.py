"""A process that launches and then forks, as its arguments say: see test_forks.py.

It prints one line of JSON for each thing that it found; those of the child are put through a pipe.
"""

import gc
import json
import multiprocessing
import os
import signal
import sys
from collections.abc import Callable
from typing import Any

from dbos_events import DBOS, SetWorkflowID
from dbos_events.facade import default_app

url, how = sys.argv[1:3]
DBOS(config={"name": "forking", "system_database_url": url, "lease_seconds": 2.0})


@DBOS.workflow()
def job(number: int) -> int:
    return step(number)


@DBOS.step()
def step(number: int) -> int:
    return number * 2


@DBOS.workflow()
def forks_within() -> str:
    return said_by(lambda: tell_what_is_called(lambda: step(1)))


def tell_what_is_called(call: Callable[[], Any]) -> str:
    """What comes of a call: its result, or the error."""
    try:
        return f"result {call()}"
    except Exception as error:  # noqa: BLE001 - all that it may be is told
        return f"{type(error).__name__}: {error}"


def said_by(work: Callable[[], str]) -> str:
    """What `work` gives in a process that is forked here and leaves without cleaning up."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        signal.alarm(30)
        os.write(writing, work().encode())
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as answers:
        text = answers.read()
    os.waitpid(pid, 0)
    return text


def in_child(handle_of: Callable[[str], Any]) -> dict[str, str]:
    """What a forked process gets from everything that it may call first."""
    calls: dict[str, Callable[[], Any]] = {
        "start": lambda: DBOS.start_workflow(job, 1),
        "call": lambda: job(1),
        "result": lambda: handle_of("first").get_result(),
        "status": lambda: handle_of("first").get_status(),
        "list": DBOS.list_workflows,
        "cancel": lambda: DBOS.cancel_workflow("w"),
        "health": DBOS.health,
    }
    said = {name: tell_what_is_called(call) for name, call in calls.items()}
    said["destroy"] = tell_what_is_called(DBOS.destroy)
    gc.collect()
    return said


def launch_anew() -> str:
    def work() -> int:
        DBOS.launch()
        result: int = DBOS.start_workflow(job, 21).get_result()
        DBOS.destroy()
        gc.collect()
        return result

    return tell_what_is_called(work)


def of_multiprocessing(connection: Any) -> None:
    connection.send(in_child(DBOS.retrieve_workflow))


def of_exit() -> int:
    """The exit code of a forked process that ends with all that the interpreter does at its end."""
    pid = os.fork()
    if pid == 0:
        signal.alarm(30)
        tell_what_is_called(lambda: job(1))
        sys.exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def by_multiprocessing() -> dict[str, str]:
    context = multiprocessing.get_context("fork")
    ours, theirs = context.Pipe()
    process = context.Process(target=of_multiprocessing, args=(theirs,))
    process.start()
    said: dict[str, str] = ours.recv()
    process.join(30)
    assert process.exitcode == 0
    return said


def before_the_launch() -> dict[str, Any]:
    answer = said_by(launch_anew)
    DBOS.launch()
    found = {"child": answer, "parent": job(21)}
    DBOS.destroy()
    return found


def after_the_launch() -> dict[str, Any]:
    DBOS.launch()
    executor = default_app().core.executor
    with SetWorkflowID("first"):
        handle = DBOS.start_workflow(job, 1)
    handle.get_result()
    ways: dict[str, Callable[[], Any]] = {
        "fork": lambda: json.loads(said_by(lambda: json.dumps(in_child(lambda _id: handle)))),
        "exit": of_exit,
        "multiprocessing": by_multiprocessing,
        "within": forks_within,
        "anew": lambda: said_by(launch_anew),
        "preload": lambda: [said_by(launch_anew) for _ in range(3)],
    }
    found = {
        "child": ways[how](),
        "parent": [DBOS.start_workflow(job, number).get_result() for number in range(20)],
        "health": list(DBOS.health().problems),
        "executors": [executor, default_app().core.executor],
    }
    DBOS.destroy()
    return found


print(json.dumps(before_the_launch() if how == "before" else after_the_launch()))  # noqa: T201

"""The scenarios: small programs, each with what has come of it in the end, whatever happened on the way.

A program is played from its beginning by every process: what it asks for is asked for again by the next one, as a
client does that got no answer.
"""

import asyncio
import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from hashlib import blake2b
from typing import Any

from dbos_events import (
    Debouncer,
    KafkaMessage,
    Quarantine,
    Retry,
    SendMessage,
    SetEnqueueOptions,
    SetWorkflowID,
    WaitFor,
)
from tests.connectors.folder.connector import File, event, folder_consumer
from tests.crashes.outcome import End, Expected
from tests.crashes.points import Point
from tests.crashes.world import Log, Play, Program, Scenario, World

SCENARIOS: dict[str, Scenario] = {}
"""By name, those whose points are statements."""
KAFKA_SCENARIOS: dict[str, Scenario] = {}
"""Those whose points are calls of the Kafka client."""

TWO_BY_THREE: Log = {0: (b"a0", b"b1", b"a2"), 1: (b"c0", b"c1", b"d2")}
BY_PARTITION = (("0/0", "0/1", "0/2"), ("1/0", "1/1", "1/2"))
BY_KEY = (("0/0", "0/2"), ("1/0", "1/1"))


def scenario(
    ends: Mapping[str, End],
    *,
    log: Log | None = None,
    children: Mapping[str, int] | None = None,
    gaps: int = 0,
    lanes: Sequence[Sequence[str]] = (),
    **more: Any,
) -> Callable[[Program], Program]:
    """Enter a program into the table."""

    def enter(program: Program) -> Program:
        marks = {partition: len(values) for partition, values in (log or {}).items()}
        expected = Expected(ends, marks, children or {}, gaps, lanes)
        name = program.__name__
        table = KAFKA_SCENARIOS if more.get("on_kafka") else SCENARIOS
        table[name] = Scenario(program, expected, log or {}, name=name, **more)
        return program

    return enter


def all_of(log: Log, end: End) -> dict[str, End]:
    return {
        f"{partition}/{offset}": end for partition, values in log.items() for offset in range(len(values))
    }


BOTH = End("SUCCESS", ["one", "two"], ("one", "two"))


def two_steps(world: World, **options: Any) -> Play:
    """A consumer with two steps."""
    one, two = world.step("one", lambda: "one"), world.step("two", lambda: "two")

    @world.app.kafka_consumer(None, "orders", name="shop", **options)
    def handle(message: KafkaMessage) -> list[str]:
        return [one(), two()]

    return reading(world)


def reading(world: World) -> Play:
    """Take in what the log holds, and do what can be done."""

    def play() -> None:
        world.receive()
        world.settle()

    return play


@scenario(all_of(TWO_BY_THREE, BOTH), log=TWO_BY_THREE)
def intake(world: World) -> Play:
    """Events are taken in, run their steps and end."""
    return two_steps(world)


@scenario(all_of(TWO_BY_THREE, BOTH), log=TWO_BY_THREE, lanes=BY_PARTITION)
def partition_order(world: World) -> Play:
    """The lanes of partitions; async, so that what is started together begins in its order."""
    one, two = world.async_step("one", lambda: "one"), world.async_step("two", lambda: "two")

    @world.app.kafka_consumer(None, "orders", name="shop", ordering="partition")
    async def handle(message: KafkaMessage) -> list[str]:
        return [await one(), await two()]

    return reading(world)


@scenario(all_of(TWO_BY_THREE, BOTH), log=TWO_BY_THREE, lanes=BY_KEY)
def key_order(world: World) -> Play:
    """The lanes of keys: two of them have more than one event."""
    return two_steps(world, ordering="key")


@scenario(all_of(TWO_BY_THREE, BOTH), log=TWO_BY_THREE, lanes=BY_PARTITION)
def topic_order(world: World) -> Play:
    """One lane over both partitions."""
    return two_steps(world, ordering="topic")


@scenario(all_of(TWO_BY_THREE, BOTH), log=TWO_BY_THREE)
def events_on_a_queue(world: World) -> Play:
    """Events are enqueued and claimed, one at a time."""
    world.app.queue("line", concurrency=1)
    return two_steps(world, queue_name="line")


@scenario({"0/0": BOTH, "0/3": BOTH}, log={0: (b"a", b"-", b"-", b"b")}, gaps=2)
def filtered(world: World) -> Play:
    """What the consumer's filter says no to is counted, and nothing else."""
    return two_steps(world, when=lambda message: message.value != b"-")


@scenario({"job": End("SUCCESS", 6, ("one", "two", "three"))})
def steps(world: World) -> Play:
    """A workflow that a client starts."""
    names = [world.step(name, lambda number: number) for name in ("one", "two", "three")]

    @world.app.workflow(name="job")
    def job() -> int:
        return sum(step(number + 1) for number, step in enumerate(names))

    def play() -> None:
        begin(world, "job", world.app.start_workflow, job)
        world.settle()

    return play


@scenario(
    {
        "parent": End("SUCCESS", [1, 2], ("before", "after")),
        "parent-2": End("SUCCESS", 1, ("work",)),
        "parent-3": End("SUCCESS", 2, ("work",)),
    },
    children={"parent": 2},
)
def children(world: World) -> Play:
    """A workflow starts two others and waits for them."""
    before, after = world.step("before"), world.step("after")
    work = world.step("work", lambda number: number)

    @world.app.workflow(name="child")
    def child(number: int) -> int:
        return int(work(number))

    @world.app.workflow(name="parent")
    def parent() -> list[int]:
        before()
        handles = [world.app.start_workflow(child, number) for number in (1, 2)]
        results = [handle.get_result() for handle in handles]
        after()
        return results

    def play() -> None:
        begin(world, "parent", world.app.start_workflow, parent)
        world.settle()

    return play


@scenario({f"task-{number}": End("SUCCESS", number, ("work",)) for number in range(3)})
def queue(world: World) -> Play:
    """Workflows are enqueued, and claimed one at a time and two in a minute."""
    work = world.step("work", lambda number: number)
    line = world.app.queue("line", concurrency=1, limiter={"limit": 2, "period": 60})

    @world.app.workflow(name="task")
    def task(number: int) -> int:
        return int(work(number))

    def play() -> None:
        for number in range(3):
            begin(world, f"task-{number}", line.enqueue, task, number)
        world.settle()
        world.advance(61)

    return play


@scenario({"sleeper": End("SUCCESS", None, ("before", "between", "after"))})
def sleep(world: World) -> Play:
    """A workflow is parked twice, and woken."""
    before, between, after = (world.step(name) for name in ("before", "between", "after"))

    @world.app.workflow(name="sleeper")
    def sleeper() -> None:
        before()
        world.app.sleep(60)
        between()
        world.app.sleep(30)
        after()

    def play() -> None:
        begin(world, "sleeper", world.app.start_workflow, sleeper)
        world.advance(120)

    return play


@scenario(
    {
        "0/0": End("SUCCESS", 2, ("kept", "fails", "fails", "fails")),
        "0/1": End("SUCCESS", 2, ("kept", "fails", "fails", "fails")),
    },
    log={0: (b"a", b"b")},
)
def retries(world: World) -> Play:
    """A step fails in two generations of each event; the third one succeeds."""
    kept = world.step("kept")

    def fails(generation: int) -> int:
        if generation < 2:
            raise OSError("down")
        return generation

    failing = world.step("fails", fails)

    @world.app.kafka_consumer(None, "orders", name="shop", retries=Retry(max_attempts=3, interval_seconds=10))
    def handle(message: KafkaMessage) -> int:
        kept()
        return int(failing(world.generation))

    def play() -> None:
        world.receive()
        world.advance(300)

    return play


@scenario(
    {
        "0/0": End("SUCCESS", "mended", ("look", "look")),
        "0/1": End("ERROR", None, ("look",)),
        "0/2": End("SUCCESS", "good", ("look",)),
        "0/3": End("ERROR", None, ("look",), quarantined=True),
    },
    log={0: (b"redriven", b"discarded", b"good", b"left")},
)
def quarantine(world: World) -> Play:
    """Events are put aside; one is redriven after a fix, one is given up, one stays."""

    def look(value: bytes, generation: int) -> str:
        if value == b"good":
            return "good"
        if generation == 0:
            raise Quarantine("no such customer")
        return "mended"

    looks = world.step("look", look)

    @world.app.kafka_consumer(None, "orders", name="shop", breaker=None)
    def handle(message: KafkaMessage[bytes]) -> str:
        return str(looks(message.value, world.generation))

    def play() -> None:
        world.receive()
        world.settle()
        # A number that a life took for the topic before it died is not given again: it is in the ids.
        ids = {one.workflow_id.rpartition("/")[2]: one.workflow_id for one in world.app.list_workflows()}
        world.decide(lambda: world.app.redrive_events(ids["0"]))
        world.decide(lambda: world.app.discard_events(ids["1"], reason="a test"))
        world.settle()

    return play


@scenario({"job": End("CANCELLED", None, ("before",))})
def cancel(world: World) -> Play:
    """A parked workflow is cancelled."""
    job = parked(world)

    def play() -> None:
        begin(world, "job", world.app.start_workflow, job)
        world.settle()
        world.decide(lambda: world.app.cancel_workflow("job"))
        world.advance(120)

    return play


@scenario({"job": End("SUCCESS", None, ("before", "after"))})
def resume(world: World) -> Play:
    """A cancelled workflow is resumed, and goes on where it was."""
    job = parked(world)

    def play() -> None:
        begin(world, "job", world.app.start_workflow, job)
        world.settle()
        world.decide(lambda: world.app.cancel_workflow("job"))
        world.decide(lambda: world.app.resume_workflow("job"))
        world.advance(120)

    return play


@scenario(
    {
        "asker": End("SUCCESS", ["answer to 1", "answer to 2"], ("ask", "ask", "done")),
        "answerer": End("SUCCESS", [1, 2, None], ("answer", "answer")),
    }
)
def messages(world: World) -> Play:
    """Two workflows answer each other; in the end one of them waits in vain."""
    ask, answer, done = world.step("ask"), world.step("answer"), world.step("done")

    @world.app.workflow(name="asker")
    def asker() -> list[str]:
        answers = []
        for number in (1, 2):
            ask()
            world.app.send("answerer", number, "questions")
            answers.append(world.app.recv("answers", timeout_seconds=1000))
        done()
        return answers

    @world.app.workflow(name="answerer")
    def answerer() -> list[int | None]:
        questions = []
        for _ in (1, 2):
            questions.append(world.app.recv("questions", timeout_seconds=1000))
            answer()
            world.app.send("asker", f"answer to {questions[-1]}", "answers")
        return [*questions, world.app.recv("questions", timeout_seconds=10)]

    def play() -> None:
        begin(world, "answerer", world.app.start_workflow, answerer)
        begin(world, "asker", world.app.start_workflow, asker)
        world.advance(60)

    return play


@scenario(
    {
        "first": End("SUCCESS", "first", ("work",)),
        "second": End("SUCCESS", "second", ("work",)),
        "later": End("SUCCESS", "later", ("work",)),
        "chooser": End("SUCCESS", ["first", "third"], ("work",)),
        "third": End("SUCCESS", "third", ("work",)),
    },
    children={"chooser": 1},
)
def enqueues(world: World) -> Play:
    """By priority, delayed, and with ids that meet each other: a workflow is told the same in its replay."""
    work = world.step("work", lambda name: name)
    line = world.app.queue("line", partition_concurrency=1)
    plain = world.app.queue("plain", concurrency=1)

    @world.app.workflow(name="task")
    def task(name: str) -> str:
        return str(work(name))

    @world.app.workflow(name="chooser")
    def chooser() -> list[str]:
        with SetEnqueueOptions(deduplication_id="d", duplication_policy="return-existing"):
            met = plain.enqueue(task, "never").workflow_id
        work("chosen")
        with SetWorkflowID("third"), SetEnqueueOptions(deduplication_id="e", priority=3):
            handle = plain.enqueue(task, "third")
        return [met, handle.get_result()]

    def enqueue(name: str, **options: Any) -> Callable[..., Any]:
        def start() -> None:
            queue = line if "queue_partition_key" in options else plain
            with SetEnqueueOptions(**options):
                queue.enqueue(task, name)

        return start

    def play() -> None:
        begin(world, "first", enqueue("first", deduplication_id="d", delay_seconds=50))
        begin(world, "second", enqueue("second", queue_partition_key="p"))
        begin(world, "later", enqueue("later", queue_partition_key="p", delay_seconds=20, priority=2))
        begin(world, "chooser", world.app.start_workflow, chooser)
        world.advance(60)

    return play


@scenario(
    {
        "caller": End("SUCCESS", "caller-1", ("work",)),
        "caller-1": End("SUCCESS", ["a", "b"], ("gather",)),
    }
)
def debounced(world: World) -> Play:
    """Two calls of a workflow become one run, which gets both of them once."""
    work, gather = world.step("work"), world.step("gather", list)

    @world.app.workflow(name="index")
    def index(calls: list[str]) -> list[str]:
        return list(gather(calls))

    debouncer = Debouncer.create(index, keep="all")

    @world.app.workflow(name="caller")
    def caller() -> str:
        first = debouncer.debounce("k", 1000, "a").workflow_id
        work()
        second = debouncer.debounce("k", 1000, "b").workflow_id
        return first if first == second else f"{first} and {second}"

    def play() -> None:
        begin(world, "caller", world.app.start_workflow, caller)
        world.settle()
        world.advance(2000)

    return play


@scenario({"approval": End("SUCCESS", ["yes", ["b", "c"]], ("before", "after"))})
def approval(world: World) -> Play:
    """A client that gets no answer sends again; async branches wait for messages together."""
    before, after = world.async_step("before"), world.async_step("after")

    @world.app.workflow(name="approval")
    async def approve() -> list[object]:
        await before()
        approved = await world.app.recv_async(timeout_seconds=None)
        both = await asyncio.gather(
            world.app.recv_async("b", timeout_seconds=1000), world.app.recv_async("c", timeout_seconds=1000)
        )
        await after()
        return [approved, both]

    def play() -> None:
        begin(world, "approval", world.app.start_workflow, approve)
        world.settle()
        world.decide(lambda: world.app.send("approval", "yes", idempotency_key="first"))
        world.settle()
        more = [SendMessage("approval", topic, topic, idempotency_key=topic) for topic in "cb"]
        world.decide(lambda: world.app.send_bulk(more))
        world.settle()

    return play


@scenario(
    {
        "first": End("SUCCESS", ["paid 1", "shop is open"], ("first",)),
        "second": End("SUCCESS", ["paid 2", "shop is open"], ("second",)),
        "both": End("SUCCESS", [1, 2], ("both",)),
        "late": End("SUCCESS", None, ("late",)),
        "publisher": End("SUCCESS", None, ("published",)),
    }
)
def publications(world: World) -> Play:
    """Takers are served in their order, all see what is for all, and one waits in vain."""
    did = {name: world.step(name) for name in ("first", "second", "both", "late", "published")}
    app = world.app

    @app.workflow(name="taker")
    def taker(name: str) -> list[object]:
        got = [app.wait_for("payment", "1", timeout_seconds=1000, take=True)]
        did[name]()
        return [*got, app.wait_for("shop", "1", timeout_seconds=1000)]

    @app.workflow(name="both")
    def both() -> list[object] | None:
        values = app.wait_for_all([("a", "1"), WaitFor("b", "1", take=True)], timeout_seconds=1000)
        did["both"]()
        return values

    @app.workflow(name="late")
    def late() -> object:
        first = app.wait_for_any([("never", "1"), ("never", "2")], timeout_seconds=10)
        did["late"]()
        return first

    @app.workflow(name="publisher")
    def publisher() -> None:
        app.publish("b", "1", 2)
        did["published"]()
        app.publish("shop", "1", "shop is open")

    def play() -> None:
        for name in ("first", "second"):
            begin(world, name, app.start_workflow, taker, name)
            world.settle()
        for name, workflow in (("both", both), ("late", late)):
            begin(world, name, app.start_workflow, workflow)
        world.settle()
        for number in (1, 2):
            world.decide(lambda n=number: app.publish("payment", "1", f"paid {n}", event_id=str(n)))  # type: ignore[misc]
        world.decide(lambda: app.publish("a", "1", 1, event_id="a"))
        begin(world, "publisher", app.start_workflow, publisher)
        world.advance(60)

    return play


@scenario(
    {"0/0": End("SUCCESS", ["first", "second"], ("kept", "fails", "fails", "fails"))},
    log={0: (b"a",)},
)
def retried_receipts(world: World) -> Play:
    """An event's handler receives, fails and is retried: what it has received it has, once."""
    kept = world.step("kept")

    def fails(generation: int) -> None:
        if generation < 2:
            raise OSError("down")

    failing = world.step("fails", fails)

    @world.app.kafka_consumer(None, "orders", name="shop", retries=Retry(max_attempts=3, interval_seconds=10))
    def handle(message: KafkaMessage) -> list[str]:
        first = world.app.recv(timeout_seconds=1000)
        kept()
        failing(world.generation)
        return [first, world.app.recv(timeout_seconds=1000)]

    def play() -> None:
        world.receive()
        world.settle()
        [event] = world.app.list_workflows()
        for text in ("first", "second"):
            world.decide(lambda text=text: world.app.send(event.workflow_id, text, idempotency_key=text))
        world.advance(300)

    return play


@scenario(
    {
        "publisher": End("SUCCESS", None, ("before", "after")),
        "reader": End("SUCCESS", ["one", "two", None, {"a": "one", "b": "two"}]),
    }
)
def published_values(world: World) -> Play:
    """A workflow publishes two values; another one waits for them, and for one that never comes."""
    before, after = world.step("before"), world.step("after")

    @world.app.workflow(name="publisher")
    def publisher() -> None:
        before()
        world.app.set_event("a", "one")
        world.app.sleep(30)
        world.app.set_event("b", "two")
        after()

    @world.app.workflow(name="reader")
    def reader() -> list[Any]:
        values = [world.app.get_event("publisher", key, None) for key in ("a", "b", "never")]
        return [*values, world.app.get_all_events("publisher")]

    def play() -> None:
        begin(world, "publisher", world.app.start_workflow, publisher)
        begin(world, "reader", world.app.start_workflow, reader)
        world.advance(60)

    return play


@scenario(
    {
        "writer": End("SUCCESS", None, ("between",)),
        "reader": End("SUCCESS", ["a", "b", "c", "d"]),
    }
)
def streams(world: World) -> Play:
    """A workflow writes a stream while another one reads it; no entry comes twice."""
    between = world.step("between")

    @world.app.workflow(name="writer")
    def writer() -> None:
        for letter in "ab":
            world.app.write_stream("s", letter)
        between()
        world.app.sleep(30)
        for letter in "cd":
            world.app.write_stream("s", letter)
        world.app.close_stream("s")

    @world.app.workflow(name="reader")
    def reader() -> list[Any]:
        return list(world.app.read_stream("writer", "s"))

    def play() -> None:
        begin(world, "writer", world.app.start_workflow, writer)
        begin(world, "reader", world.app.start_workflow, reader)
        world.advance(60)

    return play


@scenario(
    {
        "0/0": End("SUCCESS", ["begin", "x1", "y1", "end"], ("kept", "chunks", "chunks")),
        "reader": End("SUCCESS", ["begin", "x1", "y1", "end"]),
    },
    log={0: (b"a",)},
)
def streams_of_steps(world: World) -> Play:
    """A step that writes a stream fails and is retried; whoever reads what is committed gets each entry once."""
    kept = world.step("kept")

    def write(generation: int) -> None:
        for letter in "xy":
            world.app.write_stream("s", f"{letter}{generation}")
        if generation < 1:
            raise OSError("down")

    chunks = world.step("chunks", write)

    @world.app.kafka_consumer(None, "orders", name="shop", retries=Retry(max_attempts=2, interval_seconds=10))
    def handle(message: KafkaMessage) -> list[Any]:
        world.app.write_stream("s", "begin")
        kept()
        chunks(world.generation)
        world.app.write_stream("s", "end")
        world.app.close_stream("s")
        return list(world.app.read_stream(world.workflow_id, "s", mode="committed"))

    @world.app.workflow(name="reader")
    def reader(workflow_id: str) -> list[Any]:
        return list(world.app.read_stream(workflow_id, "s", mode="committed"))

    def play() -> None:
        world.receive()
        [event] = world.app.list_workflows(name=handle.__qualname__)
        begin(world, "reader", world.app.start_workflow, reader, event.workflow_id)
        world.advance(300)

    return play


@scenario(all_of(TWO_BY_THREE, BOTH), log=TWO_BY_THREE, lanes=BY_PARTITION, lives=2)
def graceful_stop(world: World) -> Play:
    """The first process is stopped while it has ordered events that wait; the second one goes on."""
    two = two_steps(world, ordering="partition")

    def play() -> None:
        if world.life == 1:
            world.receive()
        else:
            two()

    return play


@scenario(all_of(TWO_BY_THREE, BOTH), log=TWO_BY_THREE, on_kafka=True)
def kafka(world: World) -> Play:
    """Events of a broker."""
    return two_steps(world)


@scenario(all_of(TWO_BY_THREE, BOTH), log=TWO_BY_THREE, lanes=BY_KEY, on_kafka=True)
def kafka_in_order(world: World) -> Play:
    """Events of a broker, in lanes."""
    return two_steps(world, ordering="key")


@scenario({"job": End("SUCCESS", None, ("before", "after"))}, begins_at=None)
def empty_database(world: World) -> Play:
    """The schema is made, and serves."""
    return sleeps_once(world)


def sleeps_once(world: World) -> Play:
    job = parked(world)

    def play() -> None:
        begin(world, "job", world.app.start_workflow, job)
        world.advance(120)

    return play


def parked(world: World) -> Callable[[], None]:
    """A workflow that sleeps between two steps."""
    before, after = world.step("before"), world.step("after")

    @world.app.workflow(name="job")
    def job() -> None:
        before()
        world.app.sleep(60)
        after()

    return job


CONFLICT = "file/shop.shop/a0#" + blake2b(hashlib.sha256(b"other").digest(), digest_size=16).hexdigest()


@scenario(
    {
        "file/shop.shop/a0": BOTH,
        "file/shop.shop/a1": BOTH,
        "file/shop.shop/b0": BOTH,
        CONFLICT: End("ERROR", quarantined=True),
    }
)
def pushed(world: World) -> Play:
    """Events are pushed, two of them together; one comes again, one again with other content, and one is filtered."""
    one, two = world.step("one", lambda: "one"), world.step("two", lambda: "two")

    @folder_consumer(world.app, name="shop", when=lambda file: file.content != b"-")
    def handle(file: File) -> list[str]:
        return [one(), two()]

    def play() -> None:
        world.push([event("shop", "a0", b"a"), event("shop", "a1", b"a")])
        world.settle()
        world.push([event("shop", "a1", b"a"), event("shop", "b0", b"b"), event("shop", "c0", b"-")])
        world.push([event("shop", "a0", b"other")])
        world.settle()

    return play


@scenario(
    {f"file/shop.shop/{name}": BOTH for name in ("a0", "a1", "a2", "b0")},
    lanes=[[f"file/shop.shop/a{number}" for number in range(3)]],
)
def pushed_by_key(world: World) -> Play:
    """Events of two keys: those of one run one after the other."""
    one, two = world.step("one", lambda: "one"), world.step("two", lambda: "two")

    @folder_consumer(world.app, name="shop")
    def handle(file: File) -> list[str]:
        return [one(), two()]

    def play() -> None:
        world.push([event("shop", name, lane=name[0]) for name in ("a0", "b0", "a1")])
        world.push([event("shop", "a2", lane="a")])
        world.settle()

    return play


def begin(world: World, workflow_id: str, start: Callable[..., Any], *args: Any) -> None:
    """Start a workflow, unless it is there already."""

    def ask() -> None:
        with SetWorkflowID(workflow_id):
            start(*args)

    world.decide(ask)


def scenario_of(name: str) -> Scenario:
    """The scenario of that name, of either table."""
    return SCENARIOS[name] if name in SCENARIOS else KAFKA_SCENARIOS[name]


def _recoveries() -> None:
    """The same programs where the first process dies for certain: the points are those of who takes its work up."""
    deaths = {
        "intake": Point("effect two of 0/0", 1, "after"),
        "partition_order": Point("effect one of 0/0", 1, "after"),
        "key_order": Point("effect one of 0/1", 1, "after"),
        "topic_order": Point("effect two of 0/0", 1, "before"),
        "children": Point("effect work of parent-2", 1, "after"),
        "queue": Point("effect work of task-1", 1, "before"),
        "sleep": Point("effect between of sleeper", 1, "after"),
        "retries": Point("effect fails of 0/0", 2, "after"),
    }
    for name, point in deaths.items():
        program = SCENARIOS[name]
        SCENARIOS[f"recovery_of_{name}"] = replace(program, name=f"recovery_of_{name}", first_death=point)


_recoveries()

from tests.crashes import bounded, expiring, scheduled  # noqa: E402, F401 - they enter their own

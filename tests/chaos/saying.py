"""What each workflow of a conversation does, written once for both colours: a program yields what it asks for."""

from collections.abc import Callable, Generator
from typing import Any, NamedTuple

from dbos_events import SendMessage
from tests.chaos.conversations import (
    DEADLINES,
    MESSAGES,
    PUBLICATIONS,
    QUEUED,
    SENT,
    SHOWN,
    UNMATCHED_SECONDS,
    Conversation,
)


class Ask(NamedTuple):
    """One call of a verb, and whether its answer is written down as heard."""

    verb: str
    arguments: tuple[Any, ...] = ()
    options: dict[str, Any] = {}  # noqa: RUF012 - nobody changes it
    is_heard: bool = False


Program = Generator[Ask, Any, None]


class Ids(NamedTuple):
    """The ids of the two events' workflows."""

    first: str
    second: str


def do(verb: str, *arguments: Any, **options: Any) -> Ask:
    return Ask(verb, arguments, options)


def hear(verb: str, *arguments: Any, **options: Any) -> Ask:
    return Ask(verb, arguments, options, is_heard=True)


# ------------------------------------------------------------------ messages


def send_first(talk: Conversation, _ids: Ids) -> Program:
    third = talk.id("answering")
    yield do("start", "answering")
    yield do("send", third, "first:0", "talk")
    yield do("send_bulk", [SendMessage(third, f"first:{number}", "talk") for number in range(1, SENT - 1)])
    yield do("post", third, f"first:{SENT - 1}")


def send_second(talk: Conversation, _ids: Ids) -> Program:
    yield do("start", "answering")
    for number in range(SENT):
        yield do("send", talk.id("answering"), f"second:{number}", "talk")
    for _ in range(SENT):
        yield hear("recv", "answers", None)


def answer(_talk: Conversation, ids: Ids) -> Program:
    """The third one. What it sends the first one at the end stays where it is: nobody looks for it any more."""
    for _ in range(2 * SENT):
        said = yield hear("recv", "talk", None)
        who, _, number = said.partition(":")
        if who == "second":
            yield do("send", ids.second, f"answer:{number}", "answers")
    yield do("send", ids.first, "late:0", "late")


# ------------------------------------------------------------------ publications


def publish_first(talk: Conversation, _ids: Ids) -> Program:
    yield do("publish", "seen", talk.key, "seen:0")
    yield do("publish", "meet", talk.key, "meet:0")
    for _ in range(2):
        yield do("publish", "meet", talk.key, "meet:1", event_id="once")
    yield do("publish", "nobody", talk.key, "nobody:0", ttl_seconds=UNMATCHED_SECONDS)
    yield do("start", "watching")


def publish_second(talk: Conversation, _ids: Ids) -> Program:
    yield do("start", "watching")
    for _ in range(2):
        yield hear("wait_for", "meet", talk.key, timeout_seconds=None, take=True)
    yield hear("wait_for", "seen", talk.key, timeout_seconds=None)
    yield do("publish", "back", talk.key, "back:0")


def watch(talk: Conversation, _ids: Ids) -> Program:
    yield hear("wait_for", "seen", talk.key, timeout_seconds=None)
    yield hear("wait_for_any", [("never", talk.key), ("back", talk.key)], timeout_seconds=None)


# ------------------------------------------------------------------ values and streams


def show_first(_talk: Conversation, _ids: Ids) -> Program:
    yield do("set_event", "state", 0)
    yield do("write_stream", "lines", "a:0")
    yield do("show", "lines", ["b:0", "b:1"])
    yield do("set_event", "state", 1)
    yield do("write_stream", "lines", "c:0")
    yield do("close_stream", "lines")
    yield do("set_event", "state", 2)


def show_second(_talk: Conversation, ids: Ids) -> Program:
    yield hear("get_event", ids.first, "state", None)
    yield hear("read", ids.first, "lines")
    yield hear("get_event", ids.first, "state", None)


# ------------------------------------------------------------------ deadlines


def start_in_time(_talk: Conversation, _ids: Ids) -> Program:
    yield do("start", "late")
    yield do("start", "quick")


def see_ends(_talk: Conversation, _ids: Ids) -> Program:
    for what in ("late", "quick"):
        yield do("start", what)
        yield hear("outcome", what)


def be_late(_talk: Conversation, _ids: Ids) -> Program:
    yield do("start", "late child")
    yield do("recv", "never", None)


def sleep_long(_talk: Conversation, _ids: Ids) -> Program:
    yield do("sleep", 600)


def be_quick(_talk: Conversation, _ids: Ids) -> Program:
    yield do("work")


# ------------------------------------------------------------------ queues


def enqueue_first(_talk: Conversation, _ids: Ids) -> Program:
    for what in ("delayed", "deduplicated", "paced"):
        yield do("enqueue", what)


def enqueue_second(_talk: Conversation, _ids: Ids) -> Program:
    for what in ("delayed", "deduplicated", "paced"):
        yield do("enqueue", what)
        yield hear("outcome", what)


Making = Callable[[Conversation, Ids], Program]

EVENTS: dict[str, tuple[Making, Making]] = {
    MESSAGES: (send_first, send_second),
    PUBLICATIONS: (publish_first, publish_second),
    SHOWN: (show_first, show_second),
    DEADLINES: (start_in_time, see_ends),
    QUEUED: (enqueue_first, enqueue_second),
}
"""What the first and the second event of a theme do."""

OTHERS: dict[str, Making] = {
    "answering": answer,
    "watching": watch,
    "late": be_late,
    "late child": sleep_long,
    "quick": be_quick,
    "delayed": be_quick,
    "deduplicated": be_quick,
    "paced": be_quick,
}
"""What the workflows do that they start, by name."""

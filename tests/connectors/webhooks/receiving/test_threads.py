"""Threads for functions of the program: a receiver has them while it is open, and no others has anybody."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from typing import Any

import pytest

from dbos_events_webhooks import Limits, WebhookRequest, providers
from dbos_events_webhooks.outcome import Verified
from dbos_events_webhooks.testing import WebhookClient
from dbos_events_webhooks.threads import Threads, on_thread
from tests.connectors.webhooks.receiving.test_options import BODY, Hooks

PREFIX = "webhook-"


of_others: set[threading.Thread] = set()
"""Threads of tests before, whose functions may hang for ever."""


def ours() -> list[threading.Thread]:
    found = [thread for thread in threading.enumerate() if thread.name.startswith(PREFIX)]
    return [thread for thread in found if thread not in of_others]


@pytest.fixture(autouse=True)
def _others_do_not_count() -> None:
    of_others.update(ours())


def ended(*threads: threading.Thread) -> None:
    for thread in threads:
        thread.join(10)
        assert not thread.is_alive()


def looked_up(seen: list[threading.Thread]) -> Any:
    def secret(_: WebhookRequest) -> str:
        seen.append(threading.current_thread())
        return "whsec_t"

    return providers.stripe(secret=secret)


def signed(hooks: Hooks) -> WebhookRequest:
    return WebhookClient(hooks.hooks).sign("/in", BODY, signing_key="whsec_t")


def test_threads_end_when_the_app_is_destroyed_and_begin_again_with_the_next_launch() -> None:
    seen: list[threading.Thread] = []
    hooks = Hooks(looked_up(seen), reply=lambda _: "thanks")
    assert hooks.send(signed(hooks)).status == 200
    first = ours()
    assert {thread.name.rpartition("-")[0] for thread in first} == {"webhook-function", "webhook-reply"}

    hooks.hooks.app.destroy()

    ended(*first)
    hooks.hooks.app.launch()
    assert hooks.send(signed(hooks)).status == 200
    assert seen[0] is not seen[1]
    assert seen[1].is_alive()
    hooks.hooks.app.destroy()
    ended(*ours())


def test_two_receivers_share_no_thread_so_one_that_hangs_leaves_the_other_its_own() -> None:
    go_on = threading.Event()
    hanging = Hooks(providers.stripe(secret=lambda _: go_on.wait(30)), Limits(lookup_seconds=0.01))
    seen: list[threading.Thread] = []
    other = Hooks(looked_up(seen))
    try:
        for number in range(40):
            request = WebhookClient(hanging.hooks).sign(
                "/in", b'{"id": "%d"}' % number, signing_key="whsec_t"
            )
            assert hanging.send(request).status == 503
        assert other.send(signed(other)).status == 200
        assert len(seen) == 1
    finally:
        go_on.set()
        hanging.hooks.app.destroy()
        other.hooks.app.destroy()
    ended(*ours())


def test_a_provider_without_a_receiver_leaves_no_thread_behind() -> None:
    seen: list[threading.Thread] = []
    provider = looked_up(seen)
    request = providers.stripe(secret="whsec_t").sign(BODY)

    assert isinstance(asyncio.run(provider.verify_async(request)), Verified)

    ended(*seen)
    assert seen[0].name.startswith(PREFIX)
    assert seen[0].daemon, "the interpreter waits for none of them"


def test_a_call_that_meets_the_close_has_a_thread_of_its_own() -> None:
    threads = Threads("webhook-function")
    threads.open()
    kept = threads.readers
    assert kept is not None
    kept.shutdown(wait=False)  # as `close` does, between the look and the call

    assert asyncio.run(on_thread(threads, lambda: threading.current_thread().name)) == "webhook-call-1"


def test_what_a_call_says_and_raises_comes_out_in_its_own_context() -> None:
    threads = Threads("webhook-function")

    def fails(_: object) -> None:
        raise LookupError("no such secret")

    with pytest.raises(LookupError, match="no such secret"):
        asyncio.run(on_thread(threads, fails, object()))
    ended(*ours())


def test_a_receiver_that_is_opened_again_in_a_forked_process_has_threads_there() -> None:
    threads = Threads("webhook-function")
    threads.open()
    assert asyncio.run(on_thread(threads, lambda: "here")) == "here"
    assert threads.readers is not None
    assert threads.readers._idle.acquire(timeout=10), "its thread rests"
    threads.readers._idle.release()

    child = os.fork()
    if child == 0:
        signal.alarm(20)  # whatever happens, the test ends
        said = b"nothing"
        try:
            threads.open()
            said = asyncio.run(asyncio.wait_for(on_thread(threads, lambda: b"there"), 5))
        finally:
            os._exit(0 if said == b"there" else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    threads.close()
    ended(*ours())

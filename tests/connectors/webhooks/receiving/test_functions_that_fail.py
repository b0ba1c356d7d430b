"""Functions and options of a program that are wrong: a sender hears what holds, and what is at work beside goes on."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from starlette.applications import Starlette

from dbos_events import App
from dbos_events.errors import ConfigurationError, RegistrationError
from dbos_events.testing import ManualClock
from dbos_events.testing.plugin import MakeTestApp
from dbos_events_webhooks import (
    Answer,
    Limits,
    RateLimit,
    WebhookEvent,
    WebhookReceiver,
    WebhookRequest,
    providers,
)
from dbos_events_webhooks.places import Body
from dbos_events_webhooks.testing import WebhookClient
from tests.connectors.webhooks.receiving.fakes import Reply, Wire, receiver
from tests.connectors.webhooks.receiving.test_options import BODY, Hooks, on_any, stripe

ROOT = Path(__file__).parents[4]


def raising(error: BaseException) -> Callable[[Any], Any]:
    def function(given: Any) -> Any:
        raise error

    return function


def raising_later(error: BaseException) -> Callable[[Any], Any]:
    async def function(given: Any) -> Any:
        raise error

    return function


EXITS = [SystemExit(1), KeyboardInterrupt(), asyncio.CancelledError(), GeneratorExit(), BaseException()]


@pytest.mark.parametrize("make", [raising, raising_later])
@pytest.mark.parametrize("error", EXITS, ids=lambda error: type(error).__name__)
def test_an_exit_within_a_reply_ends_neither_the_server_nor_its_answer(
    make: Any, error: BaseException
) -> None:
    hooks = Hooks(reply=make(error))
    said = hooks.send(hooks.sign())
    assert (said.status, json.loads(said.body)["status"]) == (200, "accepted")


@pytest.mark.parametrize(
    "answer",
    [
        Answer(200, b"", (("x-name", "\u20ac"),)),
        Answer(200, b"", (("x-name", "a\r\nset-cookie: b"),)),
        Answer(200, b"", (("x name", "a"),)),
        Answer(200, b"", (("Content-Length", "99"),)),
        Answer(200, b"", (("transfer-encoding", "chunked"),)),
        Answer(200, "text"),  # type: ignore[arg-type]
        Answer(200, b"", (("x", 5),)),  # type: ignore[arg-type]
        Answer(200.5, b""),  # type: ignore[arg-type]
        Answer(204, b"text"),
    ],
    ids=range(9),
)
def test_an_answer_that_no_server_can_send_is_refused_at_once_or_replaced_by_our_words(
    answer: Answer,
) -> None:
    with pytest.raises(ConfigurationError, match="reply of /in"):
        Hooks(reply=answer)
    hooks = Hooks(reply=lambda _: answer)
    said = hooks.send(hooks.sign())
    assert (said.status, json.loads(said.body)["status"]) == (200, "accepted")


def test_a_reply_is_json_that_every_reader_takes() -> None:
    hooks = Hooks(reply=lambda _: {"rate": float("nan")})
    assert json.loads(hooks.send(hooks.sign()).body)["status"] == "accepted"


def test_a_sender_does_not_wait_for_a_reply_that_goes_on_when_it_is_cancelled() -> None:
    ended = threading.Event()

    async def stubborn(event: WebhookEvent) -> str:
        while not ended.is_set():
            try:
                await asyncio.sleep(0.01)
            except asyncio.CancelledError:
                continue
        return "late"

    hooks = Hooks(limits=Limits(reply_seconds=0.05), reply=stubborn)

    async def ask() -> Reply | None:
        said = await Wire(hooks.hooks, hooks.sign()).go()
        ended.set()
        return said

    said = asyncio.run(ask())
    assert said is not None
    assert json.loads(said.body)["status"] == "accepted"


def test_replies_that_hang_do_not_keep_other_endpoints_from_their_secrets() -> None:
    ended = threading.Event()
    hooks = receiver(Limits(reply_seconds=0.05, lookup_seconds=5.0))
    hooks.webhook("/hangs", provider=stripe(), name="hangs", reply=lambda _: ended.wait(30))(on_any)
    found = providers.stripe(secret=lambda _: "whsec_t")
    hooks.webhook("/found", provider=found, name="found")(on_any)
    hooks.app.launch()
    client = WebhookClient(hooks)
    hanging = [Wire(hooks, client.sign("/hangs", {"id": str(number)})) for number in range(40)]
    looked_up = Wire(hooks, client.sign("/found", BODY, signing_key="whsec_t"))

    async def ask() -> Reply | None:
        await asyncio.gather(*(each.go() for each in hanging))
        try:
            return await asyncio.wait_for(looked_up.go(), 5)
        finally:
            ended.set()

    said = asyncio.run(ask())
    assert said is not None
    assert said.status == 200


HANGS = """
import threading
from dbos_events_webhooks import Limits, providers
from tests.connectors.webhooks.receiving.test_options import BODY, Hooks, WebhookClient
hangs = lambda _: threading.Event().wait()
if {reply}:
    hooks = Hooks(reply=hangs)
    print(hooks.send(hooks.sign()).status)
else:
    hooks = Hooks(providers.stripe(secret=hangs), Limits(lookup_seconds=0.1))
    request = WebhookClient(hooks.hooks).sign("/in", {{"id": "1"}}, signing_key="whsec_t")
    print(hooks.send(request).status)
"""


@pytest.mark.parametrize(("reply", "status"), [(True, 200), (False, 503)], ids=["reply", "secret"])
def test_a_function_that_hangs_for_ever_does_not_keep_the_process(reply: bool, status: int) -> None:
    command = [sys.executable, "-c", HANGS.format(reply=reply)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, done.stdout) == (0, f"{status}\n"), done.stderr


@pytest.mark.parametrize("make", [raising, raising_later])
@pytest.mark.parametrize("error", EXITS, ids=lambda error: type(error).__name__)
def test_an_exit_within_a_function_that_finds_secrets_or_judges_is_a_failure_of_that_request(
    make: Any, error: BaseException
) -> None:
    hooks = Hooks(providers.stripe(secret=make(error)))
    signed = WebhookClient(hooks.hooks).sign("/in", BODY, signing_key="whsec_t")
    assert hooks.send(signed).status == 503
    judged = Hooks(providers.custom(verify=make(error)))
    assert judged.send(WebhookRequest.of(BODY, path="/in")).status == 401


@pytest.mark.parametrize(
    "key", [raising(ValueError()), raising(SystemExit()), lambda _: ["a"], lambda _: 0.5], ids=range(4)
)
def test_requests_for_which_the_key_of_a_rate_fails_share_one_allowance(key: Any) -> None:
    hooks = Hooks(stripe().at(ManualClock()), rate=RateLimit(2, per_seconds=3600, key=key))
    assert [hooks.send(hooks.sign()).status for _ in range(3)] == [200, 200, 429]


def test_an_async_key_of_a_rate_is_refused_since_it_would_limit_nothing() -> None:
    with pytest.raises(ConfigurationError, match="not async"):
        RateLimit(1, key=raising_later(ValueError()))


def test_a_sender_does_not_wait_for_content_whose_validation_hangs() -> None:
    ended = threading.Event()
    hooks = Hooks(limits=Limits(lookup_seconds=0.05), on_invalid="reject")
    hooks.inbox.problem = lambda _: str(ended.wait(30))  # type: ignore[method-assign]

    async def ask() -> Reply | None:
        try:
            return await asyncio.wait_for(Wire(hooks.hooks, hooks.sign()).go(), 10)
        finally:
            ended.set()

    said = asyncio.run(ask())
    assert said is not None
    assert (said.status, said.headers["retry-after"]) == (503, "5")


# ------------------------------------------------------------------ options


@pytest.mark.parametrize(
    "wrong",
    [
        {"max_body": "1mb"},
        {"max_body": 0},
        {"max_body": True},
        {"key": "id"},
        {"key": ("id",)},
        {"key": ()},
        {"key": Body("")},
        {"key": Body(("a", 5))},  # type: ignore[arg-type]
        {"key": raising_later(ValueError())},
        {"split": 5},
    ],
    ids=lambda wrong: str(wrong).partition(" at 0x")[0],
)
def test_an_option_of_an_endpoint_that_cannot_be_meant_is_refused_when_the_program_starts(wrong: Any) -> None:
    (name,) = wrong
    with pytest.raises(ConfigurationError, match=f"^{name} is "):
        Hooks(**wrong)


@pytest.mark.parametrize(
    "wrong",
    [{"accepted_status": 500}, {"accepted_status": "200"}, {"type": "type"}, {"tolerance_seconds": "5"}],
    ids=str,
)
def test_an_option_of_a_provider_that_cannot_be_meant_is_refused(wrong: Any) -> None:
    with pytest.raises(ConfigurationError, match=f"^{next(iter(wrong))} is "):
        stripe(**wrong)


def test_an_option_that_no_provider_has_is_refused() -> None:
    with pytest.raises(ConfigurationError, match=r"no option 'maxbody'.*max_body"):
        stripe(maxbody=5)


# ------------------------------------------------------------------ endpoints without a handler


def test_an_event_for_which_there_is_no_handler_is_never_answered_with_success(
    dbos_test_app: MakeTestApp,
) -> None:
    app = App()
    hooks = WebhookReceiver(app)
    hooks.webhook("/in", provider=stripe(), name="in")(on_any)
    with pytest.raises(RegistrationError):
        hooks.webhook("/failed", provider=stripe(), name="failed", when=lambda *_: True)(on_any)
    client = WebhookClient(hooks, dbos_test_app(app))
    assert client.send("/in", BODY).status == 200
    refused = client.send("/failed", BODY)
    assert (refused.status, refused.headers["retry-after"]) == (503, "5")
    request = client.sign("/failed", BODY)
    said = hooks.receive(request.method, request.path, request.headers, request.body)
    assert said.status == 503


def test_a_lifespan_leaves_an_app_running_that_was_launched_before_it(tmp_path: Path) -> None:
    app = App({"name": "shop", "system_database_url": f"sqlite:///{tmp_path}/a.sqlite"})
    hooks = WebhookReceiver(app)
    hooks.callbacks("/callbacks")
    app.launch()
    try:

        async def serve() -> None:
            async with hooks.lifespan():
                pass

        asyncio.run(serve())
        assert app.is_launched
    finally:
        app.destroy()


def test_a_callback_with_a_slash_at_its_end_is_answered_and_not_redirected() -> None:
    hooks = receiver()
    hooks.webhook("/in", provider=stripe(), name="in")(on_any)
    hooks.callbacks("/callbacks")
    hooks.app.is_launched = False  # type: ignore[attr-defined]
    for web in (Starlette(routes=hooks.routes), hooks.router):
        for path in ("/callbacks/token", "/callbacks/token/"):
            said = Wire(web, WebhookRequest.of(b"yes", path=path)).reply()
            assert (path, said.status) == (path, 503)


def test_a_path_of_callbacks_with_a_parameter_is_refused_since_no_token_would_be_found_there() -> None:
    with pytest.raises(RegistrationError, match="no parameters"):
        receiver().callbacks("/t/{tenant}/callbacks")


# ------------------------------------------------------------------ the client of the testing kit


def test_the_client_sends_to_paths_with_any_characters_and_takes_answers_that_are_no_json() -> None:
    hooks = receiver()
    hooks.webhook("/t/{tenant}/in", provider=stripe(), name="in", reply="ok")(on_any)
    inbox = hooks.app.launch()
    client = WebhookClient(hooks)
    for number, tenant in enumerate(["m\u00fc nchen", "\u65e5\u672c", "a%20b"]):
        sent = client.send(f"/t/{tenant}/in", {"id": str(number)})
        assert (sent.status, sent.json, sent.workflow_id) == (200, None, None)
    assert [event.path_params["tenant"] for event in inbox.events] == ["m\u00fc nchen", "\u65e5\u672c", "a b"]


@pytest.mark.parametrize("wrong", [{"times": 0}, {"tamper": "sig"}])
def test_the_client_says_which_of_its_arguments_is_wrong(wrong: Any) -> None:
    hooks = Hooks()
    with pytest.raises(ConfigurationError, match=next(iter(wrong))):
        WebhookClient(hooks.hooks).send("/in", BODY, **wrong)

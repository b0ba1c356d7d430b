"""Callbacks: a URL that somebody outside answers a workflow by, once, within a time."""

from __future__ import annotations

import asyncio
import json
from typing import Any
from urllib.parse import urlsplit

import pytest
from fastapi import FastAPI
from sqlalchemy import text
from starlette.applications import Starlette
from starlette.routing import Mount

from dbos_events import App, SetWorkflowID
from dbos_events.errors import ConfigurationError, DBOSException, UndecodablePayload
from dbos_events.testing import TestApp
from dbos_events.testing.plugin import MakeTestApp
from dbos_events_webhooks import Limits, WebhookReceiver, WebhookRequest
from tests.connectors.webhooks.receiving.fakes import Reply, Wire

BASE = "https://shop.example/hooks/callbacks"
JSON = {"content-type": "application/json"}


class Scene:
    """A workflow that opens a callback and waits for it; `urls` are those that it handed out."""

    def __init__(self, make: MakeTestApp, *, is_async: bool = False, **config: Any) -> None:
        self.app = App()
        self.urls: list[str] = []
        self.hooks = WebhookReceiver(self.app, limits=Limits(store_seconds=2.0))
        self.hooks.callbacks()

        @self.app.step()
        def hand_out(url: str) -> None:
            self.urls.append(url)

        @self.app.workflow(name="approve")
        def approve() -> Any:
            callback = self.app.callback("approval", 3600)
            hand_out(callback.url)
            answer = callback.wait()
            return None if answer is None else answer.data

        @self.app.workflow(name="approve_async")
        async def approve_async() -> Any:
            callback = await self.app.callback_async("approval", 3600)
            hand_out(callback.url)
            answer = await callback.wait_async()
            return None if answer is None else answer.data

        self.dbos: TestApp = make(self.app, callback_url=BASE, **config)
        with SetWorkflowID("w1"):
            self.handle = self.app.start_workflow(approve_async if is_async else approve)
        self.dbos.run_until_idle()

    def path(self, url: str | None = None) -> str:
        return urlsplit(url or self.urls[0]).path.removeprefix("/hooks")

    def call(self, body: bytes = b'{"approved":true}', url: str | None = None, **more: Any) -> Reply:
        request = WebhookRequest.of(
            body, more.pop("headers", JSON), path=self.path(url), method=more.pop("method", "POST")
        )
        return Wire(self.hooks, request, **more).reply()

    def result(self) -> Any:
        self.dbos.run_until_idle()
        return self.handle.get_result()


@pytest.mark.parametrize("is_async", [False, True])
def test_whoever_has_the_url_answers_the_workflow(is_async: bool, dbos_test_app: MakeTestApp) -> None:
    scene = Scene(dbos_test_app, is_async=is_async)
    (url,) = scene.urls
    assert url.startswith(f"{BASE}/")
    assert (scene.call().status, scene.result()) == (200, {"approved": True})


def test_a_second_call_is_answered_as_the_first_and_changes_nothing(dbos_test_app: MakeTestApp) -> None:
    scene = Scene(dbos_test_app)
    first, second = scene.call(), scene.call(b'{"approved":false}')
    assert (first.status, first.body) == (second.status, second.body)
    assert scene.result() == {"approved": True}
    scene.dbos.advance(days=2)
    late = scene.call()
    assert (late.status, late.body) == (first.status, first.body)


def test_after_the_deadline_it_is_gone_and_the_workflow_goes_on_without(dbos_test_app: MakeTestApp) -> None:
    scene = Scene(dbos_test_app)
    scene.dbos.advance(seconds=3700)
    assert scene.call().status == 410
    assert scene.result() is None


def test_an_answer_in_the_last_second_reaches_its_workflow(dbos_test_app: MakeTestApp) -> None:
    scene = Scene(dbos_test_app)
    scene.dbos.advance(seconds=3599)
    assert scene.call().status == 200
    assert scene.result() == {"approved": True}


def test_a_crash_gives_the_same_url(dbos_test_app: MakeTestApp) -> None:
    scene = Scene(dbos_test_app)
    scene.dbos.crash()
    scene.dbos.run_until_idle()
    assert len(scene.urls) == 1
    assert (scene.call().status, scene.result()) == (200, {"approved": True})


def test_every_callback_has_a_token_of_its_own_and_the_table_its_hash(dbos_test_app: MakeTestApp) -> None:
    scene = Scene(dbos_test_app)
    token = scene.urls[0].rpartition("/")[2]
    assert len(token) == 43
    engine = scene.dbos.core.storage.database.engine  # type: ignore[attr-defined]
    with engine.connect() as connection:
        (row,) = connection.execute(text("SELECT * FROM callbacks")).all()
    assert token not in repr(row)
    assert (row.name, row.workflow_id, row.answered_at) == ("approval", "w1", None)


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "DELETE", "OPTIONS"])
def test_only_post_answers(method: str, dbos_test_app: MakeTestApp) -> None:
    scene = Scene(dbos_test_app)
    reply = scene.call(method=method)
    assert (reply.status, reply.headers["allow"]) == (405, "POST")
    scene.dbos.advance(hours=2)
    assert scene.result() is None


def test_an_unknown_token_is_not_found_whatever_it_is_like(dbos_test_app: MakeTestApp) -> None:
    scene = Scene(dbos_test_app)
    for token in ("x", "A" * 43, "\u00e9" * 43, "a" * 5000, "..", "%00", "A" * 42 + "=", "A" * 43 + "/b"):
        assert scene.call(url=f"{BASE}/{token}").status == 404, token
    assert scene.call(url=BASE).status == 404
    assert scene.call(url=f"{BASE}/").status == 404


def test_bodies_are_bounded(dbos_test_app: MakeTestApp) -> None:
    scene = Scene(dbos_test_app)
    assert scene.call(headers={"content-length": "9999999"}).status == 413
    assert scene.call(headers={"content-length": "-1"}).status == 413
    assert scene.call(pieces=[b"x" * 200_000] * 3).status == 413
    assert scene.call(headers={"content-encoding": "gzip"}).status == 415
    assert scene.call().status == 200


@pytest.mark.parametrize("body", [b"", b"\xff\x00", b"not json", b"[" * 100_000])
def test_an_answer_that_is_not_json_is_an_error_of_who_reads_it_as_such(
    body: bytes, dbos_test_app: MakeTestApp
) -> None:
    scene = Scene(dbos_test_app)
    assert scene.call(body).status == 200
    scene.dbos.run_until_idle()
    with pytest.raises(UndecodablePayload, match="not JSON"):
        scene.handle.get_result()


def fastapi(hooks: WebhookReceiver) -> Any:
    app = FastAPI()
    app.include_router(hooks.router, prefix="/hooks")
    return app


def starlette(hooks: WebhookReceiver) -> Any:
    return Starlette(routes=[Mount("/hooks", routes=hooks.routes)])


def mounted(hooks: WebhookReceiver) -> Any:
    return Starlette(routes=[Mount("/hooks", hooks)])


@pytest.mark.parametrize("mount", [fastapi, starlette, mounted])
def test_it_is_answered_inside_of_other_apps(mount: Any, dbos_test_app: MakeTestApp) -> None:
    scene = Scene(dbos_test_app)
    request = WebhookRequest.of(b"{}", JSON, path=urlsplit(scene.urls[0]).path)
    assert Wire(mount(scene.hooks), request, scope={"root_path": ""}).reply().status == 200
    assert scene.result() == {}


def test_what_cannot_be_opened_is_refused(dbos_test_app: MakeTestApp) -> None:
    app = App()
    wrong: list[tuple[Any, Any]] = [
        ("", 1),
        ("a\0", 1),
        (7, 1),
        ("n", 0),
        ("n", -1),
        ("n", "1"),
        ("n", True),
        ("n", None),
    ]

    @app.workflow()
    def opens(number: int) -> None:
        app.callback(*wrong[number])

    @app.workflow()
    def lacks_url() -> None:
        app.callback("n", 1)

    with pytest.raises(DBOSException, match=r"not launched|outside of workflows"):
        app.callback("n", 1)
    dbos = dbos_test_app(app)
    with pytest.raises(DBOSException, match="outside of workflows"):
        app.callback("n", 1)
    for number in range(len(wrong)):
        with pytest.raises(DBOSException, match=r"DBOS\.callback"):
            opens(number)
    with pytest.raises(ConfigurationError, match="callback_url"):
        lacks_url()
    assert dbos.run_until_idle() in (True, False)


def test_before_the_launch_it_is_unavailable() -> None:
    hooks = WebhookReceiver(App())
    hooks.callbacks("/cb")
    reply = Wire(hooks, WebhookRequest.of(b"{}", path=f"/cb/{'A' * 43}")).reply()
    assert (reply.status, reply.headers["retry-after"]) == (503, "5")
    assert hooks.counts() == {"/cb": {"unready": 1}}


def test_two_answers_at_once_are_one(dbos_test_app: MakeTestApp) -> None:
    scene = Scene(dbos_test_app)
    requests = [WebhookRequest.of(json.dumps(n).encode(), JSON, path=scene.path()) for n in range(10)]

    async def go() -> list[Reply | None]:
        return list(await asyncio.gather(*(Wire(scene.hooks, each).go() for each in requests)))

    assert {reply.status for reply in asyncio.run(go()) if reply} == {200}
    assert scene.result() in range(10)

"""`dbos-events webhook send`, `sign`, `verify`, `providers`: what needs no database."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from dbos_events.cli.root import app
from dbos_events_webhooks import Provider, Verified, WebhookRequest, generate_keys, providers
from dbos_events_webhooks.rows import ALL


def call(*words: str, code: int = 0, **environment: str) -> Result:
    done = CliRunner().invoke(app, ["webhook", *words], env=environment)
    assert done.exit_code == code, f"{done.output}\n{done.stderr}\n{done.exception!r}"
    return done


class Received:
    """A server that keeps what it gets and answers with what a test says."""

    def __init__(self) -> None:
        self.requests: list[WebhookRequest] = []
        self.status = 200
        received = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                path, _, query = self.path.partition("?")
                pairs = [(name, value) for name, value in self.headers.items()]
                received.requests.append(WebhookRequest.of(body, pairs, path=path, query=query))
                self.send_response(received.status)
                self.end_headers()
                self.wfile.write(b'{"status":"accepted"}')

            def log_message(self, *_: Any) -> None:
                return

        self._server = HTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever)
        self._thread.start()

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


@pytest.fixture
def server() -> Iterator[Received]:
    made = Received()
    yield made
    made.stop()


def genuine(provider: Provider, request: WebhookRequest) -> Verified:
    outcome = provider.verify(request)
    assert isinstance(outcome, Verified), outcome
    return outcome


def test_an_event_is_sent_as_its_provider_signs_it(server: Received) -> None:
    done = call(
        "send",
        "stripe",
        "--to",
        f"{server.url}/stripe?a=1",
        "--secret",
        "whsec_t",
        "--data",
        '{"id":"evt_9"}',
    )
    assert done.output == '200 {"status":"accepted"}\n'
    (request,) = server.requests
    assert (request.path, request.query) == ("/stripe", b"a=1")
    assert [event.id for event in genuine(providers.stripe(secret="whsec_t"), request).events] == ["evt_9"]


def test_it_is_sent_several_times_with_what_stands_in_headers(server: Received, tmp_path: Path) -> None:
    body = tmp_path / "push.json"
    body.write_bytes(b'{"ref": "main"}')
    words = (
        "--type",
        "push",
        "--id",
        "d-1",
        "--body",
        str(body),
        "--times",
        "3",
        "--header",
        "User-Agent: Hook",
    )
    call("send", "github", "--to", f"{server.url}/g", *words, WEBHOOK_SECRET="s")
    assert len(server.requests) == 3
    (event,) = genuine(providers.github(secret="s"), server.requests[2]).events
    assert (event.id, event.type, server.requests[2].one("user-agent")) == ("d-1", "push", "Hook")


def test_a_provider_that_signs_its_url_signs_the_one_that_is_said(server: Received) -> None:
    public = "https://shop.example/square"
    call("send", "square", "--to", f"{server.url}/square", "--url", public, "--secret", "k")
    genuine(providers.square(signature_key="k", public_url=public), server.requests[0])


@pytest.mark.parametrize("name", ["discord", "sendgrid"])
def test_a_private_key_signs_for_a_provider_with_a_public_one(server: Received, name: str) -> None:
    private, public = generate_keys("ed25519-hex" if name == "discord" else "p256-spki")
    call("send", name, "--to", f"{server.url}/", "--secret", private)
    genuine(getattr(providers, name)(public_key=public), server.requests[0])


def test_an_answer_that_is_no_success_is_an_exit_code(server: Received) -> None:
    server.status = 401
    done = call("send", "stripe", "--to", server.url, "--secret", "whsec_t", "--json", code=1)
    assert json.loads(done.output) == {"status": 401, "body": '{"status":"accepted"}'}


def test_nobody_who_answers_is_one_line() -> None:
    done = call("send", "stripe", "--to", "http://127.0.0.1:9/", "--secret", "whsec_t", code=1)
    assert "does not answer" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("stripe", "--to", "http://127.0.0.1:9/"), "WEBHOOK_SECRET"),
        (("nobody", "--to", "http://127.0.0.1:9/", "--secret", "s"), "There is no provider"),
        (("stripe", "--to", "localhost", "--secret", "s"), "--to is a URL"),
        (("stripe", "--to", "http://127.0.0.1:9/", "--secret", "whsec_s", "--header", "x"), "Name: value"),
        (("stripe", "--to", "http://127.0.0.1:9/", "--secret", "sk_live"), "secret"),
        (
            ("stripe", "--to", "http://127.0.0.1:9/", "--secret", "whsec_s", "--body", "/none"),
            "cannot be read",
        ),
        (("stripe", "--to", "http://127.0.0.1:9/", "--body", "x", "--data", "y"), "not with both"),
    ],
)
def test_what_is_wrong_with_a_call_is_said(words: tuple[str, ...], told: str) -> None:
    assert told in call("send", *words, code=1).stderr


def test_signed_headers_are_verified_again(tmp_path: Path) -> None:
    body = tmp_path / "body"
    body.write_bytes(b'{"id": "evt_1", "type": "paid"}')
    headers = tmp_path / "headers"
    headers.write_text(call("sign", "stripe", "--secret", "whsec_t", "--body", str(body)).output)
    words = ("verify", "stripe", "--headers", str(headers), "--body", str(body))
    done = call(*words, "--secret", "whsec_t")
    assert "Genuine." in done.output
    assert "evt_1  paid" in done.output
    said = json.loads(call(*words, "--secret", "whsec_other", "--json", code=1).output)
    assert (said["genuine"], said["reason"]) == (False, "wrong-signature")


def test_verify_names_the_check_that_fails(tmp_path: Path) -> None:
    signed = call("sign", "stripe", "--secret", "whsec_t", "--data", "{}", "--json")
    signature = json.loads(signed.output)["headers"]["stripe-signature"]
    words = ("verify", "stripe", "--secret", "whsec_t", "--header", f"Stripe-Signature: {signature}")
    assert "wrong-signature" in call(*words, "--data", "{ }", code=1).stderr
    assert "too-new" in call(*words, "--data", "{}", "--at", "2h", code=1).stderr
    assert (
        "missing-signature" in call("verify", "stripe", "--secret", "whsec_t", "--data", "{}", code=1).stderr
    )
    assert "byte for byte" in call(*words, code=1).stderr


def test_every_provider_is_listed() -> None:
    told = json.loads(call("providers", "--json").output)
    assert [each["name"] for each in told] == [row.name for row in ALL]
    assert "Stripe" in call("providers").output


def test_no_command_shows_the_secret(server: Received) -> None:
    done = call("sign", "bearer", "--secret", "hunter2-hunter2", "--data", "{}")
    assert "hunter2" in done.output  # it is what a bearer token is sent as
    told = call("verify", "stripe", "--secret", "whsec_hunter2", "--data", "{}", code=1)
    assert "hunter2" not in told.output + told.stderr


@pytest.mark.parametrize(
    "url",
    [
        "http://localhost:abc/",
        "http://localhost:99999/",
        "http://[::1/",
        "http://h/\u00fc",
        "http://h/a b",
        "http://:80/",
    ],
)
def test_what_is_no_url_is_said_to_be_none(url: str) -> None:
    said = call("send", "stripe", "--secret", "whsec_t", "--to", url, code=1)
    assert "--to is a URL" in said.stderr
    said = call("sign", "twilio", "--secret", "s" * 32, "--url", url, code=1)
    assert "--url is a URL" in said.stderr


@pytest.mark.parametrize("header", ["a: b\nc: d", "\u00e4: x", "a b\n: c"])
def test_what_no_header_can_have_is_told_of_the_option(header: str) -> None:
    said = call("send", "stripe", "--secret", "whsec_t", "--to", "http://h/", "--header", header, code=1)
    assert "A header has no line breaks" in said.stderr


def test_an_id_that_no_header_can_carry_is_not_sent(server: Received) -> None:
    said = call("send", "github", "--secret", "s", "--to", server.url, "--id", "a\nb", code=1)
    assert "cannot be sent" in said.stderr
    assert server.requests == []


def test_bytes_on_the_command_line_that_are_no_text_are_sent_as_they_are(server: Received) -> None:
    call("send", "github", "--secret", "s", "--to", server.url, "--data", "\udcff")
    assert server.requests[0].body == b"\xff"

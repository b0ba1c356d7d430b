"""`webhook send`, `sign`, `verify` and `providers`: requests as providers send them, for local development."""

from __future__ import annotations

import http.client
from pathlib import Path
from typing import Annotated

import typer

from dbos_events.connect import SystemClock
from dbos_events.errors import ConfigurationError, ConnectorError
from dbos_events_webhooks.commands import options
from dbos_events_webhooks.commands.signing import (
    body_of,
    header_pairs,
    read,
    row_of,
    signed_request,
    url_of,
    verifier,
)
from dbos_events_webhooks.outcome import Answer, Refused
from dbos_events_webhooks.request import WebhookRequest
from dbos_events_webhooks.rows import ALL

SECONDS = 30.0

To = Annotated[
    str, typer.Option("--to", metavar="URL", help="Where it is sent: http://localhost:8000/stripe.")
]
Times = Annotated[
    int, typer.Option("--times", min=1, metavar="COUNT", help="Send the same request so often.")
]
Url = Annotated[
    str | None,
    typer.Option(
        "--url", metavar="URL", help="The URL that the provider calls, where it signs that; else --to."
    ),
]
HeaderFile = Annotated[
    Path | None,
    typer.Option("--headers", metavar="FILE", help="The headers that came, a line each: `Name: value`."),
]
At = Annotated[
    str | None,
    typer.Option("--at", metavar="TIME", help="When it came (ISO 8601, or an age as 2h); now by default."),
]


def send(  # noqa: PLR0913 - one argument per option
    ctx: typer.Context,
    provider: options.ProviderName,
    to: To,
    *,
    secret: options.Secret = None,
    body: options.BodyFile = None,
    data: options.Data = None,
    id_: options.EventId = None,
    type_: options.EventType = None,
    header: options.HeaderLines = None,
    url: Url = None,
    times: Times = 1,
    as_json: options.AsJson = False,
) -> None:
    """Sign an event as PROVIDER does, and send it.

    Exits with 1 when it was not answered with success.

    Keys of --json: status, body; of the last answer.
    """
    lent = options.tools(ctx)
    split = url_of("--to", to)
    request = signed_request(
        row_of(provider, url or to),
        body_of(body, data, provider),
        secret=secret,
        id=id_,
        type=type_,
        headers=header_pairs(header),
        path=split.path or "/",
        query=split.query,
    )
    status, answer = 0, ""
    for _ in range(times):
        status, answer = deliver(to, request)
        if not as_json:
            lent.say(f"{status} {answer}".rstrip())
    if as_json:
        lent.show_json({"status": status, "body": answer})
    if not 200 <= status < 300:
        raise typer.Exit(1)


def deliver(to: str, request: WebhookRequest) -> tuple[int, str]:
    """Send a request as it is; gives status and text of the answer.

    Raises:
        ConnectorError: Nobody answers there.
        ConfigurationError: There is no such URL, or the request has what HTTP cannot carry.
    """
    split = url_of("--to", to)
    kind = http.client.HTTPSConnection if split.scheme == "https" else http.client.HTTPConnection
    connection = kind(split.netloc, timeout=SECONDS)
    target = request.path + (f"?{request.query.decode('latin-1')}" if request.query else "")
    try:
        connection.putrequest("POST", target, skip_accept_encoding=True)
        for name, value in request.headers:
            connection.putheader(name, value)
        connection.putheader("content-length", str(len(request.body)))
        connection.endheaders(request.body)
        answer = connection.getresponse()
        return answer.status, answer.read().decode("utf-8", "replace")
    except (OSError, http.client.HTTPException) as error:
        raise ConnectorError(f"{to} does not answer: {error}.") from error
    except ValueError as error:  # an id with a line break, which becomes a header
        raise ConfigurationError(f"The request cannot be sent: {error}.") from error
    finally:
        connection.close()


def sign(  # noqa: PLR0913 - one argument per option
    ctx: typer.Context,
    provider: options.ProviderName,
    *,
    secret: options.Secret = None,
    body: options.BodyFile = None,
    data: options.Data = None,
    id_: options.EventId = None,
    type_: options.EventType = None,
    header: options.HeaderLines = None,
    url: Url = None,
    as_json: options.AsJson = False,
) -> None:
    """Print the headers that PROVIDER would send with a body, one a line, for curl or a test.

    Keys of --json: headers (an object), body.
    """
    lent = options.tools(ctx)
    content = body_of(body, data, provider)
    path = (url_of("--url", url).path if url else "") or "/"
    request = signed_request(
        row_of(provider, url),
        content,
        secret=secret,
        id=id_,
        type=type_,
        headers=header_pairs(header),
        path=path,
    )
    said = {name: value.decode("latin-1") for name, value in request.headers}
    if as_json:
        lent.show_json({"headers": said, "body": content.decode("utf-8", "replace")})
        return
    for name, value in said.items():
        lent.say(f"{name}: {value}")


def verify(  # noqa: PLR0913 - one argument per option
    ctx: typer.Context,
    provider: options.ProviderName,
    *,
    secret: options.Secret = None,
    headers: HeaderFile = None,
    header: options.HeaderLines = None,
    body: options.BodyFile = None,
    data: options.Data = None,
    url: Url = None,
    at: At = None,
    as_json: options.AsJson = False,
) -> None:
    """Tell whether a request is genuine, and if not, which check it fails. Nothing is sent.

    Exits with 1 when it is not genuine.

    Keys of --json: genuine, reason, detail, events (id, type, id_trusted).
    """
    lent = options.tools(ctx)
    if body is None and data is None:
        raise ConfigurationError("Say the body that came with --body FILE, byte for byte, or with --data.")
    lines = [] if headers is None else read(headers).decode("latin-1").splitlines()
    pairs = header_pairs([*(line for line in lines if ":" in line), *(header or ())])
    judge = verifier(row_of(provider, url), secret)
    came = lent.milliseconds(at, SystemClock().now_ms())
    if came is not None:
        judge = judge.at(_At(came))
    outcome = judge.verify(
        WebhookRequest.of(
            body_of(body, data, provider), pairs, path=(url_of("--url", url).path if url else "") or "/"
        )
    )
    if isinstance(outcome, Refused):
        if as_json:
            why = {"reason": outcome.reason.value, "detail": outcome.detail}
            lent.show_json({"genuine": False, **why, "events": []})
            raise typer.Exit(1)
        lent.fail(f"{outcome.reason}: {outcome.detail}")
    events = [] if isinstance(outcome, Answer) else outcome.events
    if as_json:
        shown = [{"id": each.id, "type": each.type, "id_trusted": each.id_trusted} for each in events]
        lent.show_json({"genuine": True, "reason": None, "detail": None, "events": shown})
        return
    lent.say("Genuine." if not isinstance(outcome, Answer) else "Genuine: a question, which is answered.")
    if events:
        lent.show_table(
            ("ID", "TYPE", "ID IS SIGNED", "PROBLEM"),
            [(each.id, each.type, "yes" if each.id_trusted else "no", each.problem) for each in events],
        )


class _At(SystemClock):
    """A clock that shows one time."""

    def __init__(self, now_ms: int) -> None:
        self._now = now_ms

    def now_ms(self) -> int:
        return self._now


def providers(ctx: typer.Context, as_json: options.AsJson = False) -> None:
    """List the providers that are known.

    Keys of --json, one object for each: name, title, accepted_status, max_body.
    """
    lent = options.tools(ctx)
    if as_json:
        lent.show_json(
            [
                {
                    "name": row.name,
                    "title": row.title,
                    "accepted_status": row.accepted_status,
                    "max_body": row.max_body,
                }
                for row in ALL
            ]
        )
        return
    lent.show_table(("NAME", "PROVIDER"), [(row.name, row.title) for row in ALL])

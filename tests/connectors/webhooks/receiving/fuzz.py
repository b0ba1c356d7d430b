"""Send a real receiver whatever comes to mind, over real sockets: it answers, never with a 5xx, and does not grow.

python -m tests.connectors.webhooks.receiving.fuzz --seconds 600
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from dbos_events.errors import ConfigurationError
from dbos_events_webhooks import Provider, WebhookRequest, providers
from tests.cli.service import Service
from tests.connectors.webhooks.receiving.rawhttp import exchange, wire_of

CLIENTS = 4
PROGRAM = """
from dbos_events.cli.httphead import BoundedProtocol
from dbos_events_webhooks import Limits, WebhookEvent, WebhookReceiver
from tests.connectors.webhooks.receiving.fuzz import real_providers

BoundedProtocol.head_seconds = 0.5
hooks = WebhookReceiver(limits=Limits(body_seconds=0.3, store_seconds=20.0))


def on_event(event: WebhookEvent) -> None:
    _ = event.data


for path, provider in real_providers().items():
    on_event = hooks.webhook(f"/{path}", provider=provider, name=path, breaker=None)(on_event)
"""
SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"


def real_providers() -> dict[str, Provider]:
    """Endpoints of every style: signatures, tokens, forms, batches, questions, nothing."""
    return {
        "stripe": providers.stripe(secret=SECRET),
        "svix": providers.svix(secret=SECRET),
        "github": providers.github(secret=SECRET, max_body=300_000),
        "slack": providers.slack(signing_secret=SECRET),
        "meta": providers.meta(app_secret=SECRET, verify_token="v"),
        "x": providers.x(consumer_secret=SECRET),
        "graph": providers.ms_graph(client_state=SECRET),
        "twilio": providers.twilio(auth_token=SECRET, public_url="https://a.example/twilio"),
        "cloudevents": providers.cloudevents(token=SECRET, allowed_origins=["a.example"]),
        "bearer": providers.bearer(token=SECRET, split="items"),
        "t/{tenant}/basic": providers.basic(credentials="u:p"),
        "open": providers.custom(verify=lambda request: request.has("x-mine")),
    }


BODIES = (
    b"{}", b'{"id":"e%d","type":"t"}', b"[]", b"null", b"", b"\xff", b"[" * 50_000, b'{"items":[{"id":1},{"id":2}]}',
    b"payload=%7B%7D&a=1", b'{"value":[{"clientState":"x"}]}', b'{"entry":[{"changes":[{}]}]}', b"x" * 200_000,
    b'{"id":' + b"9" * 6000 + b"}", b'{"type":"url_verification","challenge":"c"}', b'{"specversion":"1.0"}',
    b'{"id":"a","id":"b"}', b'{"id":"\\u0000\\ud800"}', b"MessageSid=1&MessageStatus=2", b'{"items":' + b"[{}]" * 3,
)  # fmt: skip
NAMES = (
    b"content-type", b"content-length", b"transfer-encoding", b"content-encoding", b"stripe-signature", b"authorization",
    b"x-hub-signature-256", b"svix-id", b"expect", b"connection", b"host", b"x-mine", b"ce-id", b"cookie",
)  # fmt: skip
VALUES = (
    b"application/json", b"application/x-www-form-urlencoded", b"application/cloudevents-batch+json", b"gzip", b"chunked",
    b"0", b"-1", b"99999999999", b"5", b"\xff\xfe", b"", b"a" * 5000, b"keep-alive, upgrade", b"100-continue", b"nan",
    b"Bearer " + SECRET.encode(), b"t=1,v1=" + b"0" * 64,
)  # fmt: skip
TARGETS = (
    b"/",
    b"*",
    b"//in",
    b"/%00",
    b"/%ff",
    b"/stripe/",
    b"/x?crc_token=abc",
    b"/graph?validationToken=%3Cb%3E",
    b"http://a/",
)


@dataclass
class Fuzz:
    """One run: what was sent by which mutation, and what was answered."""

    port: int
    until: float
    seed: int
    statuses: Counter[int] = field(default_factory=Counter)
    bad: list[tuple[str, bytes, int]] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def run(self) -> None:
        threads = [threading.Thread(target=self._client, args=(number,)) for number in range(CLIENTS)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    def _client(self, number: int) -> None:
        chance = random.Random(f"{self.seed}/{number}")
        ways: list[Callable[[random.Random], bytes]] = [
            genuine,
            genuine,
            headers,
            headers,
            bits,
            pieces,
            chunks,
            noise,
        ]
        while time.monotonic() < self.until:
            way = chance.choice(ways)
            wire = way(chance)
            try:
                if chance.random() < 0.1:
                    cut = chance.randrange(len(wire) + 1)
                    reply = exchange(self.port, wire[:cut], hang_up=True)
                elif chance.random() < 0.2:
                    cut = chance.randrange(len(wire) + 1)
                    reply = exchange(
                        self.port, wire[:cut], wire[cut:], pause=chance.random() / 50, seconds=20
                    )
                else:
                    reply = exchange(self.port, wire, seconds=20)
            except TimeoutError:
                self._note(way.__name__, wire, -1)
                continue
            self._note(way.__name__, wire, reply.status)

    def _note(self, way: str, wire: bytes, status: int) -> None:
        with self._lock:
            self.statuses[status] += 1
            if status >= 500 or status < 0:
                self.bad.append((way, wire[:2000], status))


def request_of(chance: random.Random) -> WebhookRequest:
    """A right request of some provider, with a body by chance."""
    path, provider = chance.choice(list(real_providers().items()))
    body = chance.choice(BODIES)
    if b"%d" in body:
        body = body % chance.randrange(10**9)
    where = "/" + path.replace("{tenant}", chance.choice(["acme", "%00", "a%2Fb", "\u00e9".encode().hex()]))
    more = {"x-mine": "1"} if path == "open" else {}
    try:
        return provider.sign(body, path=where, headers=more)
    except ConfigurationError:  # it sends no such body
        return WebhookRequest.of(body, more, path=where)


def genuine(chance: random.Random) -> bytes:
    return wire_of(request_of(chance))


def headers(chance: random.Random) -> bytes:
    """Headers that are doubled, removed, replaced, or put beside."""
    request = request_of(chance)
    kept = [pair for pair in request.headers if chance.random() > 0.2]
    kept += [pair for pair in kept if chance.random() < 0.1]
    more = [(chance.choice(NAMES), chance.choice(VALUES)) for _ in range(chance.randrange(4))]
    odd = WebhookRequest(
        request.body, tuple(kept), chance.choice(["POST", "POST", "GET", "OPTIONS", "PUT"]), request.path
    )
    return wire_of(odd, length=chance.choice([b"right", None, b"5", b"1000000000"]), more=more)


def bits(chance: random.Random) -> bytes:
    """A request with some of its bytes changed."""
    wire = bytearray(genuine(chance)[:5000])
    for _ in range(chance.randrange(1, 6)):
        wire[chance.randrange(len(wire))] = chance.randrange(256)
    return bytes(wire)


def pieces(chance: random.Random) -> bytes:
    """Pieces of requests behind each other."""
    first, second = genuine(chance), genuine(chance)
    return first[: chance.randrange(len(first) + 1)] + second[chance.randrange(len(second) + 1) :]


def chunks(chance: random.Random) -> bytes:
    """A body in chunks, whose sizes may be wrong."""
    request = request_of(chance)
    head = wire_of(request.with_body(b""), length=None, more=[(b"transfer-encoding", b"chunked")])
    body, made = request.body[:5000], b""
    while body:
        size = chance.randrange(1, 2000)
        told = size if chance.random() < 0.95 else chance.randrange(1, 5000)
        made += b"%x\r\n" % min(told, len(body[:size]) if told == size else told) + body[:size] + b"\r\n"
        body = body[size:]
    return head + made + (b"0\r\n\r\n" if chance.random() < 0.9 else b"")


def noise(chance: random.Random) -> bytes:
    """A target by chance, or nothing like HTTP."""
    if chance.random() < 0.3:
        return chance.randbytes(chance.randrange(1, 3000))
    return b"POST " + chance.choice(TARGETS) + b" HTTP/1.1\r\nhost: a\r\ncontent-length: 2\r\n\r\n{}"


@dataclass
class Report:
    """What came of a run."""

    statuses: Counter[int]
    bad: list[tuple[str, bytes, int]]
    errors: list[str]
    memory_mb: tuple[float, float]


def memory_mb(pid: int) -> float:
    """Resident memory of a process."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1024
    return 0.0


def fuzz(folder: Path, seconds: float, seed: int) -> Report:
    """Run a service in `folder`, and send it whatever comes to mind for so long."""
    (folder / "fuzzed.py").write_text(PROGRAM)
    root = str(Path(__file__).parents[4])
    with Service(
        folder, "fuzzed.py", "--http", "127.0.0.1:0",
        DBOS_SYSTEM_DATABASE_URL=f"sqlite:///{folder}/fuzz.sqlite", DBOS_EVENTS_NAME="fuzz", PYTHONPATH=root,
    ) as service:  # fmt: skip
        port = service.wait_for("HTTP: http://")["extra"]["port"]
        Fuzz(
            port, time.monotonic() + min(10.0, seconds / 4), seed
        ).run()  # warm: memory is compared from here on
        before = memory_mb(service.process.pid)
        run = Fuzz(port, time.monotonic() + seconds, seed + 1)
        run.run()
        after = memory_mb(service.process.pid)
        errors = [
            f"{each['message']}: {each.get('exception', '')}"
            for each in service.log
            if each["level"] in ("ERROR", "CRITICAL") and "quarantine" not in each["message"]
        ]
        return Report(
            run.statuses, run.bad, errors + [service.errors][: bool(service.errors)], (before, after)
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=600.0)
    parser.add_argument("--seed", type=int, default=random.randrange(10**6))
    arguments = parser.parse_args()
    print(f"seed {arguments.seed}", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        report = fuzz(Path(folder), arguments.seconds, arguments.seed)
    print(f"answers: {dict(sorted(report.statuses.items()))}")
    print(f"memory: {report.memory_mb[0]:.0f} MB, then {report.memory_mb[1]:.0f} MB")
    for bad in report.bad[:10]:
        print("bad:", bad)
    for error in report.errors[:10]:
        print("error:", error)
    sys.exit(bool(report.bad or report.errors))


if __name__ == "__main__":
    main()

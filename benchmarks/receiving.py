"""Webhooks durably accepted, beside the same server answering with nothing; duplicates beside new ones.

    python -m benchmarks.receiving --database postgresql://user@host/database --seconds 8 --rounds 3

The two servers run in turn, in processes of their own, with the same HTTP server. Requests are signed beforehand. First
as many as go through over `--connections`; then half of that, at a steady rate, for the latency.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import psycopg

from dbos_events_webhooks import WebhookRequest, providers

SECRET = "whsec_benchmark"
BODY = 300
PROGRAM = """
from dbos_events_webhooks import WebhookEvent, WebhookReceiver, providers

hooks = WebhookReceiver()


@hooks.webhook("/in", provider=providers.stripe(secret="whsec_benchmark"), name="on_event", max_in_flight=100_000)
async def on_event(event: WebhookEvent) -> None:
    pass
"""
NOTHING = """
import time
from dbos_events.cli.http import HttpServer


class Nothing:
    addresses = ("/in",)

    def http_app(self, path):
        return answer


async def answer(scope, receive, send):
    headers = [(b"content-type", b"application/json"), (b"content-length", b"21")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": b'{"status":"accepted"}'})


server = HttpServer("127.0.0.1:0")
server.start([Nothing()])
print(server.port, flush=True)
time.sleep(3600)
"""


@contextmanager
def server(kind: str, database: str) -> Iterator[int]:
    """A server process; gives its port."""
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        (place / "billing.py").write_text(PROGRAM)
        (place / "nothing.py").write_text(NOTHING)
        command = [sys.executable, "nothing.py"]
        if kind != "nothing":
            command = [
                str(Path(sys.executable).parent / "dbos-events"),
                "run",
                "billing.py",
                "--http",
                "127.0.0.1:0",
            ]
        environment = {key: value for key, value in os.environ.items() if not key.startswith("DBOS")}
        environment |= {"DBOS_SYSTEM_DATABASE_URL": database, "DBOS_EVENTS_NAME": "bench"}
        process = subprocess.Popen(command, cwd=place, env=environment, stdout=subprocess.PIPE, text=True)
        try:
            yield _port(process, kind)
        finally:
            process.terminate()
            process.wait(60)


def _port(process: subprocess.Popen[str], kind: str) -> int:
    assert process.stdout is not None
    for line in process.stdout:
        if kind == "nothing":
            return int(line)
        said = json.loads(line)
        if said["message"].startswith("HTTP: "):
            return int(said["extra"]["port"])
    raise SystemExit(f"the {kind} server did not start")


def wires(count: int, mark: str) -> list[bytes]:
    """So many signed requests, each with an id of its own."""
    provider = providers.stripe(secret=SECRET)
    made = []
    for number in range(count):
        event = {"id": f"evt_{mark}_{number}", "type": "charge", "pad": ""}
        event["pad"] = "x" * (BODY - len(json.dumps(event)))
        made.append(_wire(provider.sign(json.dumps(event).encode(), path="/in")))
    return made


def _wire(request: WebhookRequest) -> bytes:
    lines = [b"POST /in HTTP/1.1", b"host: bench"]
    lines += [name.encode() + b": " + value for name, value in request.headers]
    lines.append(b"content-length: %d" % len(request.body))
    return b"\r\n".join(lines) + b"\r\n\r\n" + request.body


@dataclass
class Measured:
    """Answers in a time, and how long each took."""

    seconds: float
    latencies: list[float] = field(default_factory=list)
    failed: int = 0

    @property
    def rate(self) -> float:
        return len(self.latencies) / self.seconds

    def percentile(self, share: float) -> float:
        return sorted(self.latencies)[int(len(self.latencies) * share)] * 1000 if self.latencies else 0.0


class Connection(asyncio.Protocol):
    """One connection with one request under way."""

    def __init__(self) -> None:
        self.answered: asyncio.Future[bool] | None = None
        self.got = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.got += data
        if not self.got.endswith(b"}"):
            return  # the body is JSON, and may come after its head
        answer, self.got = self.got, b""
        if self.answered is not None and not self.answered.done():
            self.answered.set_result(answer.startswith(b"HTTP/1.1 200"))

    def connection_lost(self, exc: Exception | None) -> None:
        if self.answered is not None and not self.answered.done():
            self.answered.set_result(False)

    async def ask(self, wire: bytes) -> bool:
        self.answered = asyncio.get_running_loop().create_future()
        self.transport.write(wire)  # type: ignore[attr-defined]
        return await self.answered


async def measure(
    port: int, requests: list[bytes], connections: int, seconds: float, rate: float | None = None
) -> Measured:
    """Send as fast as answers come; or at a steady `rate`, each request timed from when it was due."""
    loop = asyncio.get_running_loop()
    pool: asyncio.Queue[Connection] = asyncio.Queue()
    for _ in range(connections):
        pool.put_nowait((await loop.create_connection(Connection, "127.0.0.1", port))[1])
    result = Measured(seconds)
    waiting = iter(requests)
    end = time.perf_counter() + seconds

    async def one(connection: Connection, wire: bytes, due: float) -> None:
        if await connection.ask(wire):
            result.latencies.append(time.perf_counter() - due)
        else:
            result.failed += 1
        pool.put_nowait(connection)

    tasks: set[asyncio.Task[None]] = set()
    due = time.perf_counter()
    while due < end:
        wire = next(waiting, None)
        if wire is None:
            result.seconds = seconds - (end - time.perf_counter())
            break
        if rate is not None:
            due += 1 / rate
            await asyncio.sleep(max(0.0, due - time.perf_counter()))
        connection = await pool.get()
        if rate is None:
            due = time.perf_counter()
        task = asyncio.ensure_future(one(connection, wire, due))
        tasks.add(task)
        task.add_done_callback(tasks.discard)
    await asyncio.gather(*tasks)
    while not pool.empty():
        pool.get_nowait().transport.close()
    return result


def fresh(database: str, name: str) -> str:
    """An empty database beside the one that is given."""
    base = database.rpartition("/")[0]
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')
        connection.execute(f'CREATE DATABASE "{name}"')
    return f"{base}/{name}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--database", required=True)
    parser.add_argument("--seconds", type=float, default=8.0)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--connections", type=int, default=32)
    arguments = parser.parse_args()
    database = fresh(arguments.database, "bench_receiving")
    rates: dict[str, list[float]] = {"nothing": [], "new": [], "duplicate": []}
    tails: list[tuple[float, float, float]] = []
    for number in range(arguments.rounds):
        requests = wires(int(6000 * arguments.seconds), f"a{number}")
        with server("nothing", database) as port:
            done = asyncio.run(measure(port, requests, arguments.connections, arguments.seconds))
            rates["nothing"].append(done.rate)
        with server("ours", database) as port:
            done = asyncio.run(measure(port, requests, arguments.connections, arguments.seconds))
            rates["new"].append(done.rate)
            known = requests[: len(done.latencies)]
            again = asyncio.run(measure(port, known * 3, arguments.connections, arguments.seconds))
            rates["duplicate"].append(again.rate)
            half = wires(int(done.rate * arguments.seconds), f"b{number}")
            paced = asyncio.run(
                measure(port, half, arguments.connections * 4, arguments.seconds, done.rate / 2)
            )
            tails.append((paced.rate, paced.percentile(0.5), paced.percentile(0.99)))
        print(
            f"round {number + 1}: nothing {rates['nothing'][-1]:.0f}/s, new {rates['new'][-1]:.0f}/s, duplicates "
            f"{rates['duplicate'][-1]:.0f}/s; at {tails[-1][0]:.0f}/s p50 {tails[-1][1]:.1f} ms, p99 {tails[-1][2]:.1f} ms; "
            f"failed {done.failed + again.failed + paced.failed}",
            flush=True,
        )
    middle = {name: statistics.median(values) for name, values in rates.items()}
    print(
        f"ratio {middle['new'] / middle['nothing']:.2f}, duplicates {middle['duplicate'] / middle['new']:.2f} of new, "
        f"p99 at half {statistics.median(tail[2] for tail in tails):.1f} ms"
    )


if __name__ == "__main__":
    main()

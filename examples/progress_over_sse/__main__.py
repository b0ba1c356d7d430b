"""Progress as server-sent events: a workflow writes a stream, a browser follows it and comes back after a lost connection.

    python -m examples.progress_over_sse

The program asks its own web application, as a browser would: it reads two events, loses the connection, and goes on with
the header `Last-Event-ID`, where it stopped. Needs starlette; behind uvicorn it is the
same application.
"""

from __future__ import annotations

import asyncio
import json
import tempfile
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, StreamingResponse
from starlette.routing import Route

from dbos_events import DBOS, SetWorkflowID

FILES = ["orders.csv", "lines.csv", "prices.csv", "stock.csv"]


@DBOS.step()
async def load(name: str) -> int:
    await asyncio.sleep(0.01)
    return len(name) * 100


@DBOS.workflow()
async def imports(names: list[str]) -> int:
    rows = 0
    for number, name in enumerate(names, 1):
        rows += await load(name)
        await DBOS.write_stream_async("progress", {"file": name, "done": number, "of": len(names)})
    await DBOS.close_stream_async("progress")
    return rows


async def begin(request: Request) -> JSONResponse:
    with SetWorkflowID(request.path_params["id"]):
        handle = await DBOS.start_workflow_async(imports, FILES)
    return JSONResponse({"follow": f"/imports/{handle.workflow_id}/progress"}, status_code=202)


async def progress(request: Request) -> StreamingResponse:
    """Each entry is an event whose id is its offset; a browser sends the last one that it got when it comes back."""
    last = request.headers.get("last-event-id")
    offset = 0 if last is None else int(last) + 1

    async def events() -> AsyncIterator[str]:
        stream = DBOS.read_stream_async(
            request.path_params["id"], "progress", offset=offset, with_offset=True
        )
        async for number, value in stream:
            yield f"id: {number}\ndata: {json.dumps(value)}\n\n"
        yield "event: end\ndata: \n\n"

    return StreamingResponse(events(), media_type="text/event-stream")


app = Starlette(
    routes=[
        Route("/imports/{id}", begin, methods=["POST"]),
        Route("/imports/{id}/progress", progress),
    ]
)


async def browser(method: str, path: str, last_event: str | None = None) -> AsyncGenerator[str, None]:
    """Ask the application and give its answer as it comes; closing it closes the connection."""
    pieces: asyncio.Queue[str | None] = asyncio.Queue()
    closed = asyncio.Event()
    headers = [] if last_event is None else [(b"last-event-id", last_event.encode())]
    scope = {"type": "http", "method": method, "path": path, "headers": headers, "query_string": b""}

    async def receive() -> dict[str, Any]:
        await closed.wait()
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        if message["type"] == "http.response.body":
            pieces.put_nowait(message["body"].decode())
            if not message.get("more_body", False):
                pieces.put_nowait(None)

    request = asyncio.create_task(app(scope, receive, send))
    try:
        while (piece := await pieces.get()) is not None:
            yield piece
    finally:
        closed.set()
        await request


async def follow(path: str) -> None:
    """As a browser's EventSource; the first connection is lost after two events."""
    last: str | None = None
    while True:
        async with aclosing(browser("GET", path, last)) as answer:
            async for piece in answer:
                lines = dict(line.split(": ", 1) for line in piece.strip("\n").split("\n"))
                if "event" in lines:
                    print("the stream has ended")
                    return
                print(f"event {lines['id']}: {lines['data']}")
                last = lines["id"]
                if last == "1":
                    print("the connection is lost")
                    break


async def run() -> None:
    async with aclosing(browser("POST", "/imports/night")) as answer:
        path = json.loads(await anext(answer))["follow"]
    await follow(path)
    print(f"{await DBOS.get_result_async('night')} rows")


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        DBOS(config={"name": "imports", "system_database_url": f"sqlite:///{folder}/example.sqlite"})
        DBOS.launch()
        try:
            asyncio.run(run())
        finally:
            DBOS.destroy()


if __name__ == "__main__":
    main()

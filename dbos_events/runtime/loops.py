"""An event loop of our own, for async workflows of programs that have none, and the watch over those of others."""

from __future__ import annotations

import asyncio
import threading

from dbos_events.engine.core import Core
from dbos_events.runtime.service import Service
from dbos_events.telemetry.log import logger
from dbos_events.telemetry.threads import start_thread

LOOK_SECONDS = 1.0
"""How often loops that have ended are looked for."""


class BackgroundLoop:
    """A loop on a thread of its own."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread: threading.Thread | None = None
        self._stopping = False

    def start(self) -> asyncio.AbstractEventLoop:
        """Begin; the loop runs when this returns."""
        runs = threading.Event()
        self._loop.call_soon(runs.set)
        self._thread = start_thread(self._work, name="dbos-loop")
        runs.wait()
        return self._loop

    def stop(self, seconds: float = 5.0) -> None:
        """Cancel what runs on the loop and end it; waits for that at most so long."""
        if self._loop.is_closed():
            return
        self._loop.call_soon_threadsafe(self._end)
        if self._thread is not None:
            self._thread.join(seconds)

    def _end(self) -> None:
        """On the loop, so that it has stopped for this when it does not run any more, and not for something else."""
        if not self._stopping:
            self._stopping = True
            self._loop.stop()

    def _run(self) -> None:
        """Run until stopped. A task that raises KeyboardInterrupt or SystemExit ends itself by it, and not the others."""
        try:
            self._loop.run_forever()
        except BaseException:  # noqa: BLE001 - asyncio lets these two out of the loop
            logger.exception(
                "A task on the event loop of this process raised what ends loops; the loop goes on."
            )
        else:
            if not self._stopping:
                logger.error(
                    "Something has stopped the event loop of this process (loop.stop()); it goes on."
                )

    def _work(self) -> None:
        asyncio.set_event_loop(self._loop)
        while not self._stopping:
            self._run()
        try:
            self._cancel_all()
        except BaseException:  # noqa: BLE001 - as in `_run`
            logger.exception(
                "A task on the event loop of this process raised what ends loops when it was cancelled."
            )
        finally:
            self._loop.close()

    def _cancel_all(self) -> None:
        tasks = asyncio.all_tasks(self._loop)
        for task in tasks:
            task.cancel()
        if tasks:
            self._loop.run_until_complete(asyncio.wait(tasks, timeout=2.0))
        self._loop.run_until_complete(self._loop.shutdown_asyncgens())


class LoopService(Service):
    """Has what ran on a loop that ended go on elsewhere."""

    name = "loops"

    def __init__(self, core: Core) -> None:
        super().__init__(interval=LOOK_SECONDS)
        self._core = core

    def tick(self) -> float | None:
        self._core.homes.look()
        return None

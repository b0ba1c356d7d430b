"""An event loop of our own, for async workflows of programs that have none, and the watch over those of others."""

from __future__ import annotations

import asyncio
import threading

from dbos_events.engine.core import Core
from dbos_events.runtime.service import Service

LOOK_SECONDS = 1.0
"""How often loops that have ended are looked for."""


class BackgroundLoop:
    """A loop on a thread of its own."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._work, name="dbos-loop", daemon=True)

    def start(self) -> asyncio.AbstractEventLoop:
        """Begin; the loop runs when this returns."""
        runs = threading.Event()
        self._loop.call_soon(runs.set)
        self._thread.start()
        runs.wait()
        return self._loop

    def stop(self) -> None:
        """Cancel what runs on the loop and end it."""
        if self._loop.is_closed():
            return
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(5.0)

    def _work(self) -> None:
        asyncio.set_event_loop(self._loop)
        try:
            self._loop.run_forever()
        finally:
            tasks = asyncio.all_tasks(self._loop)
            for task in tasks:
                task.cancel()
            if tasks:
                self._loop.run_until_complete(asyncio.wait(tasks, timeout=2.0))
            self._loop.run_until_complete(self._loop.shutdown_asyncgens())
            self._loop.close()


class LoopService(Service):
    """Has what ran on a loop that ended go on elsewhere."""

    name = "loops"

    def __init__(self, core: Core) -> None:
        super().__init__(interval=LOOK_SECONDS)
        self._core = core

    def tick(self) -> float | None:
        self._core.homes.look()
        return None

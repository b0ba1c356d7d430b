"""An event loop of our own, for async workflows of programs that have none."""

from __future__ import annotations

import asyncio
import threading

from dbos_events.telemetry.log import logger
from dbos_events.telemetry.threads import start_thread


class BackgroundLoop:
    """A loop on a thread of its own."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread: threading.Thread | None = None
        self._stopping = False

    def start(self) -> asyncio.AbstractEventLoop:
        self._thread = start_thread(self._work, name="dbos-loop")
        return self._loop

    def stop(self, seconds: float = 5.0) -> None:
        """Cancel what runs on the loop and end it; waits for that at most so long."""
        if self._loop.is_closed():
            return
        self._stopping = True
        self._loop.call_soon_threadsafe(self._loop.stop)
        if self._thread is not None:
            self._thread.join(seconds)

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
        try:
            while not self._stopping:
                self._run()
        finally:
            tasks = asyncio.all_tasks(self._loop)
            for task in tasks:
                task.cancel()
            if tasks:
                self._loop.run_until_complete(asyncio.wait(tasks, timeout=2.0))
            self._loop.run_until_complete(self._loop.shutdown_asyncgens())
            self._loop.close()

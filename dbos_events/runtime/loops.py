"""An event loop of our own, for async workflows of programs that have none."""

from __future__ import annotations

import asyncio
import threading


class BackgroundLoop:
    """A loop on a thread of its own."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._work, name="dbos-loop", daemon=True)

    def start(self) -> asyncio.AbstractEventLoop:
        self._thread.start()
        return self._loop

    def stop(self, seconds: float = 5.0) -> None:
        """Cancel what runs on the loop and end it; waits for that at most so long."""
        if self._loop.is_closed():
            return
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(seconds)

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

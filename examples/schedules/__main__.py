"""Schedules: each second, with a pause, a run that takes too long, and an account of every tick.

    python -m examples.schedules

Two schedules fire for some seconds: one counts, the other is slower than its schedule and skips what it cannot follow.
The counting one is paused meanwhile. In the end every tick has an outcome.
"""

from __future__ import annotations

import tempfile
import time
from datetime import datetime, timedelta
from itertools import pairwise
from pathlib import Path

from dbos_events import DBOS
from dbos_events.cli.database import opened

SECONDS = 8
counted: list[datetime] = []
slow: list[datetime] = []


@DBOS.scheduled("* * * * * *")
@DBOS.workflow()
def count(scheduled_time: datetime, _actual_time: datetime) -> None:
    counted.append(scheduled_time)


@DBOS.scheduled("* * * * * *", overlap="skip")
@DBOS.workflow()
def crawl(scheduled_time: datetime, _actual_time: datetime) -> None:
    slow.append(scheduled_time)
    DBOS.sleep(2.5)


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        url = f"sqlite:///{Path(folder, 'schedules.sqlite')}"
        DBOS(config={"name": "example", "system_database_url": url})
        DBOS.launch()
        time.sleep(SECONDS / 2)
        DBOS.pause_schedule("count", reason="to show it")
        time.sleep(SECONDS / 2)
        ended = time.time()
        DBOS.destroy()
        steady = all(later - one == timedelta(seconds=1) for one, later in pairwise(counted))
        print(f"counted {'every second' if steady else 'with holes'} until the pause")
        print(f"crawled {'less often' if len(slow) < SECONDS - 2 else 'each second'} than its schedule fired")
        with opened(url, None, "example") as control:
            for name in ("count", "crawl"):
                found = control.schedules.audit(name, end_ms=round(ended * 1000) - 1000)
                outcomes = ", ".join(sorted(found.outcomes))
                print(f"{name}: {'all' if not found.unexplained else 'not all'} ticks explained: {outcomes}")


if __name__ == "__main__":
    main()

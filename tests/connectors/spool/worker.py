"""A process with consumers of a spool: `python -m tests.connectors.spool.worker DATABASE_URL FOLDER EFFECTS_FILE`.

Its handlers leave a line when they begin and when they end. It says `ready`, and stops when its standard input ends.
"""

import json
import sys
import time
from pathlib import Path

from dbos_events import App
from tests.connectors.spool.connector import Line, spool_consumer


def declare(app: App, folder: Path, effects: Path, seconds: float) -> None:
    """The consumer `orders`, whose events of one key run one after the other."""

    def leave(what: str, line: Line[bytes]) -> None:
        with effects.open("a") as file:
            file.write(json.dumps([what, line.partition, line.number, (line.key or b"").decode()]) + "\n")

    @app.step()
    def work(line: Line[bytes]) -> None:
        leave("begins", line)
        time.sleep(seconds)
        leave("ends", line)

    @spool_consumer(app, "orders", folder, name="orders", ordering="key", breaker=None)
    def on_order(line: Line[bytes]) -> str:
        work(line)
        return line.value.decode()


def main(database_url: str, folder: str, effects: str) -> None:
    app = App({"name": "spool", "system_database_url": database_url, "lease_seconds": 1.0})
    declare(app, Path(folder), Path(effects), 0.005)
    with app:
        sys.stdout.write("ready\n")
        sys.stdout.flush()
        sys.stdin.read()


if __name__ == "__main__":
    main(*sys.argv[1:])

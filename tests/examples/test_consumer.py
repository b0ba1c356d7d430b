"""examples/consumer.py runs as docker/compose.yaml runs it: `dbos-events run consumer`, in its folder."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from dbos_events_kafka.testing import EmbeddedBroker

EXAMPLES = Path(__file__).parents[2] / "examples"
PROGRAM = str(Path(sys.executable).parent / "dbos-events")
SECONDS = 60


def environment(folder: Path, broker: EmbeddedBroker) -> dict[str, str]:
    kept = {key: value for key, value in os.environ.items() if not key.startswith("DBOS")}
    return kept | {
        "DBOS_SYSTEM_DATABASE_URL": f"sqlite:///{folder}/orders.sqlite",
        "DBOS_EVENTS_KAFKA__BOOTSTRAP_SERVERS": broker.bootstrap_servers,
        "DBOS_EVENTS_KAFKA__GROUP_PROTOCOL": "consumer",
    }


def workflows(variables: dict[str, str]) -> list[dict[str, Any]]:
    done = subprocess.run(
        [PROGRAM, "workflow", "list", "--json"],
        cwd=EXAMPLES,
        env=variables,
        capture_output=True,
        text=True,
        check=False,
    )
    return json.loads(done.stdout) if done.returncode == 0 else []


def test_a_service_takes_orders_and_puts_aside_what_is_none(tmp_path: Path) -> None:
    with EmbeddedBroker() as broker:
        broker.create_topic("orders", partitions=4)
        broker.produce("orders", json.dumps({"order": "A-1", "cents": 1200}), "no order", None)
        variables = environment(tmp_path, broker)
        with (tmp_path / "log").open("wb") as log:
            service = subprocess.Popen([PROGRAM, "run", "consumer"], cwd=EXAMPLES, env=variables, stdout=log)
        try:
            deadline = time.monotonic() + SECONDS
            while sum(one["status"] in ("SUCCESS", "ERROR") for one in workflows(variables)) < 3:
                assert time.monotonic() < deadline, (tmp_path / "log").read_text()
                assert service.poll() is None, (tmp_path / "log").read_text()
                time.sleep(0.2)
        finally:
            service.send_signal(signal.SIGTERM)
            code = service.wait(SECONDS)

        assert code == 0
        assert sorted(one["status"] for one in workflows(variables)) == ["ERROR", "ERROR", "SUCCESS"]
        status = subprocess.run(
            [PROGRAM, "kafka", "status", "--json"],
            cwd=EXAMPLES,
            env=variables,
            capture_output=True,
            text=True,
            check=True,
        )
        partitions = json.loads(status.stdout)
        assert sum(one["watermark"] for one in partitions) == 3
        assert sum(one["quarantined"] for one in partitions) == 2

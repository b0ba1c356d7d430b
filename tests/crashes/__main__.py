"""Strike every point of every scenario, on both databases, and every call of the Kafka client: `make crash-points`.

Names of scenarios as arguments choose among them; `--database sqlite` and `--fault lose` choose as well.
"""

import argparse
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from tests.conftest import fresh_database
from tests.crashes.forks import NEWEST, upgrade_to
from tests.crashes.points import Fault
from tests.crashes.running import HEADER, Databases, Report, Runs
from tests.crashes.scenarios import KAFKA_SCENARIOS, SCENARIOS
from tests.servers import Postgres, SharedServers

AT_ONCE = 2


@contextmanager
def databases(kind: str) -> Iterator[Databases]:
    """Places for runs: copies of a SQLite file, or databases on the tests' PostgreSQL."""
    with ExitStack() as stack:
        if kind == "sqlite":
            template = Path(stack.enter_context(tempfile.TemporaryDirectory()), "template.sqlite")
            upgrade_to(f"sqlite:///{template}", NEWEST)
            yield Databases(kind, [""] * AT_ONCE, str(template))
        else:
            servers = SharedServers()
            stack.callback(servers.close)
            server = Postgres(servers.address("postgres"))
            yield Databases(kind, [stack.enter_context(fresh_database(server)) for _ in range(AT_ONCE)])


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.crashes", description=__doc__)
    parser.add_argument(
        "scenarios", nargs="*", choices=[[], *SCENARIOS, *KAFKA_SCENARIOS], help="all by default"
    )
    parser.add_argument("--database", choices=["sqlite", "postgres"], action="append")
    parser.add_argument("--fault", choices=["die", "lose"], action="append")
    options = parser.parse_args()
    chosen = options.scenarios or [*SCENARIOS, *KAFKA_SCENARIOS]
    reports: list[Report] = []
    print(HEADER)
    for kind in options.database or ["sqlite", "postgres"]:
        with databases(kind) as places, Runs(places) as runs:
            for fault in options.fault or ["die", "lose"]:
                reports += strike_all(runs, chosen, fault)
    points, failures = (
        sum(report.struck for report in reports),
        sum(len(report.failures) for report in reports),
    )
    print(f"{points} points struck, {failures} failures, {sum(report.seconds for report in reports):.0f} s")
    return 1 if failures else 0


def strike_all(runs: Runs, scenarios: list[str], fault: Fault) -> Iterator[Report]:
    """One line of the table for each scenario, and below it what went wrong."""
    sqlite = runs.databases.kind == "sqlite"
    if fault == "lose" and sqlite:
        return  # there is no connection that could be lost
    for name in scenarios:
        if name in KAFKA_SCENARIOS and not sqlite:
            continue  # its points are the same on both
        report = runs.strike(name, fault)
        print(report, flush=True)
        for failure in report.failures:
            print(f"    {failure}", flush=True)
        yield report


if __name__ == "__main__":
    sys.exit(main())

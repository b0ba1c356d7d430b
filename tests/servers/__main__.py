"""Use the test servers outside pytest.

python -m tests.servers fetch                     fetch what the broker needs, once
python -m tests.servers run [--durable] COMMAND   run a command with both servers' addresses in the
                                                  environment, and stop them afterwards
"""

import argparse
import os
import subprocess
import sys
from contextlib import ExitStack

from tests.servers.containers import can_run
from tests.servers.errors import ServerUnavailable
from tests.servers.kafka import KafkaServer
from tests.servers.kafka_binaries import jars, java, version
from tests.servers.postgres import PostgresServer
from tests.servers.shared import KAFKA_ADDRESS, POSTGRES_ADDRESS


def main() -> int:
    """Carry out the command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.servers", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("fetch")
    run = commands.add_parser("run")
    run.add_argument("--durable", action="store_true", help="keep PostgreSQL's own durability, to measure")
    run.add_argument("arguments", nargs=argparse.REMAINDER)
    options = parser.parse_args()
    return (
        fetch()
        if options.command == "fetch"
        else run_with_servers(options.arguments, durable=options.durable)
    )


def fetch() -> int:
    """Fetch the broker's jars unless they are there or not needed; a machine without is not an error."""
    if os.environ.get(KAFKA_ADDRESS) or can_run(f"apache/kafka:{version()}"):
        return 0
    try:
        java()
        jars()
    except ServerUnavailable as error:
        print(error, file=sys.stderr)
    return 0


def run_with_servers(command: list[str], *, durable: bool) -> int:
    """Run a command with the addresses of both servers in its environment."""
    with ExitStack() as stack:
        environment = dict(os.environ)
        try:
            if POSTGRES_ADDRESS not in environment:
                environment[POSTGRES_ADDRESS] = stack.enter_context(PostgresServer(durable=durable)).url
            if KAFKA_ADDRESS not in environment:
                environment[KAFKA_ADDRESS] = stack.enter_context(KafkaServer()).bootstrap
        except ServerUnavailable as error:
            print(error, file=sys.stderr)
            return 1
        return subprocess.run(command, check=False, env=environment).returncode


if __name__ == "__main__":
    sys.exit(main())

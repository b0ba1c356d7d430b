"""Carry out one run and print its table."""

import sys

from tests.chaos.plan import read_plan
from tests.chaos.run import Run


def main() -> int:
    """The exit status says whether everything held."""
    plan = read_plan(sys.argv[1:])
    print(f"seed {plan.seed}: {plan.command}", flush=True)
    report = Run(plan).carry_out()
    print(report)
    return 0 if report.passed else 1


if __name__ == "__main__":
    sys.exit(main())

"""What one run is asked for, and the command that asks for it again."""

import argparse
import random
import shlex
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from tests.chaos.faults import FAULTS
from tests.defects.planted import DEFECTS

ORDERINGS = ("none", "key", "partition", "topic")
HANDLERS = ("async", "sync")
PROTOCOLS = ("cooperative", "broker-assigned", "eager")

LEASE_SECONDS = 3.0
SESSION_SECONDS = 1.5
"""Of a member in its group: half of a lease, so that a process may lose its partitions and live."""
SLOWEST_PACE = 10.0
QUICKEST_PACE = 1.1
QUIET_SECONDS = 4.0
"""At the beginning and at the end no fault begins, for so long in all."""


@dataclass(frozen=True, slots=True)
class Plan:
    """The options of a run; with the seed they say everything but how fast the machine is."""

    events: int = 20_000
    processes: int = 3
    partitions: int = 8
    keys: int = 500
    seconds: float = 60.0
    seed: int = 0
    ordering: str = "none"
    handler: str = "async"
    protocol: str = "cooperative"
    faults: tuple[str, ...] = field(default_factory=lambda: tuple(FAULTS))
    raising: int = 24
    """How many events raise what no handler should; where lanes are few, the last one of each partition does instead."""
    talking: float = 0.02
    """The share of the events that talk with another one, about a tenth of it where lanes are few; 0: queues and the
    schedule are left out as well."""
    defect: str = ""
    folder: str = ""
    keep: bool = False

    @property
    def pace(self) -> float:
        """Seconds from one fault to the next: each kind comes at least once, where there is time for it."""
        if not self.faults:
            return SLOWEST_PACE
        return max(QUICKEST_PACE, min(SLOWEST_PACE, (self.seconds - QUIET_SECONDS) / len(self.faults)))

    def events_of(self, partition: int) -> int:
        """How many of the events lie in a partition."""
        return self.events // self.partitions + (partition < self.events % self.partitions)

    @property
    def command(self) -> str:
        """What repeats this run, to be typed where this one was."""
        words = ["python -m tests.chaos"]
        for name, value in self.table().items():
            if name == "faults":
                value = "" if set(self.faults) == set(FAULTS) else ",".join(self.faults)
            words += [f"--{name} {shlex.quote(str(value))}"] if value != "" else []
        return " ".join(words)

    def table(self) -> dict[str, Any]:
        """The options that decide what happens."""
        left_out = ("folder", "keep") if self.defect else ("folder", "keep", "defect")
        return {name: value for name, value in asdict(self).items() if name not in left_out}


def read_plan(arguments: Sequence[str]) -> Plan:
    """The plan of a command line; a missing seed is drawn."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    defaults = Plan()
    for name in ("events", "processes", "partitions", "keys", "raising", "seed"):
        parser.add_argument(f"--{name}", type=int, default=getattr(defaults, name))
    parser.add_argument(
        "--seconds", type=float, default=0.0, help="how long faults strike; by default by events"
    )
    parser.add_argument(
        "--talking", type=float, default=defaults.talking, help="the share of the events that talk"
    )
    parser.add_argument("--ordering", choices=ORDERINGS, default=defaults.ordering)
    parser.add_argument("--handler", choices=HANDLERS, default=defaults.handler)
    parser.add_argument("--protocol", choices=PROTOCOLS, default=defaults.protocol)
    parser.add_argument("--faults", default="", help=f"some of {','.join(FAULTS)}; all by default")
    parser.add_argument("--defect", choices=["", *DEFECTS], default="", help="one that the run must find")
    parser.add_argument("--folder", default="", help="where the evidence goes; a new folder by default")
    parser.add_argument("--keep", action="store_true", help="keep the evidence of a run that passes, too")
    given = vars(parser.parse_args(arguments))
    chosen = tuple(name for name in given["faults"].split(",") if name) or tuple(FAULTS)
    unknown = set(chosen) - set(FAULTS)
    if unknown:
        parser.error(f"no such fault: {', '.join(sorted(unknown))}; there are {', '.join(FAULTS)}")
    given["faults"] = chosen
    given["seed"] = given["seed"] or random.randrange(1, 1_000_000)
    given["seconds"] = given["seconds"] or max(60.0, given["events"] / 900)
    assert given.keys() == {item.name for item in fields(Plan)}
    return Plan(**given)


def folder_of(plan: Plan, parent: Path) -> Path:
    """Where a run leaves its evidence."""
    return Path(plan.folder) if plan.folder else parent / f"chaos-{plan.ordering}-{plan.handler}-{plan.seed}"

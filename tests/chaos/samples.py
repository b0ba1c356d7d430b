"""What a process holds at a moment, and whether that grows: memory, threads, descriptors, connections."""

import csv
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import NamedTuple

PROC = Path("/proc")


class Sample(NamedTuple):
    """One look at a process: seconds since the soak began, what it holds, and how much work it had done."""

    at: float
    rss_mb: float
    uss_mb: float
    threads: int
    descriptors: int
    connections: int
    taken_in: int = 0
    behind: int = 0
    """Events that were written and not taken in yet."""


class Tolerance(NamedTuple):
    """How much more than at first is no growth: so much, or such a share of it, whichever is more."""

    amount: float
    share: float = 0.0

    def allows(self, first: float, last: float) -> bool:
        return last - first <= max(self.amount, self.share * first)


TOLERANCES: Mapping[str, Tolerance] = {
    "rss_mb": Tolerance(3.0, 0.03),
    "uss_mb": Tolerance(3.0, 0.03),
    "threads": Tolerance(2),
    "descriptors": Tolerance(4),
    "connections": Tolerance(2),
}


def look_at(pid: int, *, at: float, connections: int, taken_in: int, behind: int) -> Sample:
    """What the process holds now, as proc(5) says."""
    process = PROC / str(pid)
    memory = _sizes(process / "smaps_rollup")
    return Sample(
        at=round(at, 1),
        rss_mb=memory("Rss") / 1024,
        uss_mb=(memory("Private_Clean") + memory("Private_Dirty")) / 1024,
        threads=len(list((process / "task").iterdir())),
        descriptors=len(list((process / "fd").iterdir())),
        connections=connections,
        taken_in=taken_in,
        behind=behind,
    )


def _sizes(path: Path) -> Callable[[str], int]:
    values = {}
    for line in path.read_text().splitlines():
        name, _, rest = line.partition(":")
        if rest.endswith("kB"):
            values[name] = int(rest.split()[0])
    return values.__getitem__


@dataclass(frozen=True)
class Course:
    """All samples of a soak, in windows of so many seconds; the first one is for warming up."""

    samples: Sequence[Sample]
    window: float

    def windows(self) -> list[list[Sample]]:
        """The samples by window; a rest that is shorter than half of one belongs to the one before."""
        found: list[list[Sample]] = []
        for sample in self.samples:
            number = int(sample.at // self.window)
            while len(found) <= number:
                found.append([])
            found[number].append(sample)
        if len(found) > 1 and len(found[-1]) < len(found[-2]) / 2:
            found[-2] += found.pop()
        return [samples for samples in found if samples]

    def growths(self, tolerances: Mapping[str, Tolerance] = TOLERANCES) -> list[str]:
        """What the last window holds more of than the one after warming up, beyond its tolerance; medians of both."""
        windows = self.windows()
        if len(windows) < 3:
            return [
                f"nothing can be said: {len(windows)} windows of {self.window:g} s, at least 3 are needed"
            ]
        grown = []
        for name, tolerance in tolerances.items():
            first, last = (median(getattr(sample, name) for sample in windows[place]) for place in (1, -1))
            if not tolerance.allows(first, last):
                grown.append(
                    f"{name} grew from {first:.1f} to {last:.1f}; {tolerance.amount:g} or "
                    f"{tolerance.share:.0%} more is allowed"
                )
        return grown

    def __str__(self) -> str:
        lines = ["  from s    to s   RSS MB   USS MB  threads  descr.  connect.  events/s   behind"]
        for samples in self.windows():
            middle = {name: median(getattr(sample, name) for sample in samples) for name in Sample._fields}
            first, last = samples[0], samples[-1]
            seconds = last.at - first.at
            pace = (last.taken_in - first.taken_in) / seconds if seconds else 0.0
            lines.append(
                f"{first.at:8.0f}{last.at:8.0f}{middle['rss_mb']:9.1f}{middle['uss_mb']:9.1f}"
                f"{middle['threads']:9.0f}{middle['descriptors']:8.0f}{middle['connections']:10.0f}"
                f"{pace:10.0f}{middle['behind']:9.0f}"
            )
        return "\n".join(lines)

    def write(self, path: Path) -> None:
        """All samples as comma-separated values."""
        with path.open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(Sample._fields)
            writer.writerows(self.samples)

"""Effects that cost next to nothing: each execution of a step is one record of 32 bytes in its process's own file.

One write(2) appends it, so it is there when the process is killed a moment later; 32 divides the size of a page, so
no record is torn. `begun` and `done` are readings of CLOCK_MONOTONIC, which all processes of a machine share, at the
beginning and the end of the step. When an event may begin only after another one is durably done, its `begun` is
later than the other's `done`, whichever processes they ran in: between the two readings lie the return of the first
step, a commit, and the start of the second one. The order in which the records reach the disk says nothing, and is
not used.
"""

import os
import struct
import time
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

RECORD = struct.Struct("<QQIIIHBx")
assert RECORD.size == 32

READ_BYTES = 1 << 20


class Mark(NamedTuple):
    """One execution of one step; `executor` is the process start that ran it, 0 when that is not known."""

    begun: int
    done: int
    offset: int
    executor: int
    key: int
    partition: int
    step: int


class Marks:
    """Appends the executions of one process."""

    def __init__(self, path: Path) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)

    def append(self, begun: int, offset: int, executor: int, key: int, partition: int, step: int) -> None:
        """Note that a step that began at `begun` has done its work now."""
        os.write(
            self._file,
            RECORD.pack(begun, time.monotonic_ns(), offset, executor, key, partition, step),
        )


def read_marks(path: Path) -> Iterator[Mark]:
    """The executions in a file, in the order in which they were written."""
    with path.open("rb") as file:
        while block := file.read(READ_BYTES):
            yield from map(Mark._make, RECORD.iter_unpack(block[: len(block) // RECORD.size * RECORD.size]))


def sort_by_partition(paths: Iterable[Path], folder: Path, partitions: int) -> list[Path]:
    """Write the executions of all processes into one file for each partition, so that one is read at a time."""
    folder.mkdir(exist_ok=True)
    sorted_paths = [folder / str(partition) for partition in range(partitions)]
    with ExitStack() as stack:
        files = [stack.enter_context(path.open("wb")) for path in sorted_paths]
        for path in paths:
            for mark in read_marks(path):
                files[mark.partition].write(RECORD.pack(*mark))
    return sorted_paths

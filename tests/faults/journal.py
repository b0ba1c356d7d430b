"""Effects as lines of one file that all processes append to: the order of the lines is the order of the effects."""

import os
from pathlib import Path
from typing import NamedTuple


class Line(NamedTuple):
    """One effect: the event's place, and its key."""

    partition: int
    offset: int
    key: bytes


class Journal:
    """Appends lines; one write each, which the system does not mix with those of others (write(2), O_APPEND)."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)

    def append(self, partition: int, offset: int, key: bytes) -> None:
        os.write(self._file, b"%d %d %s\n" % (partition, offset, key.hex().encode()))


def read_journal(path: Path) -> list[Line]:
    """All effects so far, in their order."""
    lines = []
    for text in path.read_bytes().splitlines():
        partition, offset, key = text.split(b" ")
        lines.append(Line(int(partition), int(offset), bytes.fromhex(key.decode())))
    return lines

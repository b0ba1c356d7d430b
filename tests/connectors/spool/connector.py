"""A connector for a log: files with lines, `FOLDER/TOPIC/PARTITION.log`, a line being one record and its number the offset.

`KEY<tab>VALUE` has a key, any other line has none. It uses names of `dbos_events.connect` and errors alone, as one that
somebody else writes would (docs/connectors.md).

Nobody hands partitions out here: whoever locks a file reads it, and the lock ends with the process that has it.
"""

import fcntl
import itertools
import os
import sys
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Generic, TypeVar

from dbos_events.connect import (
    Connector,
    ConsumerOptions,
    Ends,
    Intake,
    LogHost,
    LogOptions,
    PartitionReport,
    Position,
    Record,
    Source,
    SourceHealth,
    logger,
)
from dbos_events.errors import ConfigurationError, DBOSException, ExecutorFenced

V = TypeVar("V", default=bytes) if sys.version_info >= (3, 13) else TypeVar("V")
F = TypeVar("F", bound=Callable[..., Any] | None)

INSTALLED = Path(__file__).with_name("installed")
LOOK_SECONDS = 0.02
CLUSTER = "spool"


def install() -> None:
    """Have the connector found by its entry points, as if it was installed."""
    if str(INSTALLED) not in sys.path:
        sys.path.append(str(INSTALLED))


# ------------------------------------------------------------------ what handlers get


@dataclass(frozen=True)
class Line(Generic[V]):
    """One line of a spool file."""

    topic: str
    partition: int
    number: int
    key: bytes | None
    value: V


class Lines:
    """The messages of the connector."""

    form = Line

    @staticmethod
    def of(topic: str, record: Record, /) -> Line[Any]:
        return Line(topic, record.partition, record.offset, record.key, record.value)

    @staticmethod
    def value(message: Line[Any], /) -> bytes | None:
        found: bytes | None = message.value
        return found

    @staticmethod
    def with_value(message: Line[Any], value: Any, /) -> Line[Any]:
        return replace(message, value=value)

    @staticmethod
    def place(message: Line[Any], /) -> str:
        return f"{message.topic}/{message.partition}/{message.number}"


# ------------------------------------------------------------------ the files


class SpoolFile:
    """One partition that this process has locked."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("rb")
        self._next = 0
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BaseException:
            self._file.close()
            raise

    def seek(self, offset: int) -> None:
        """Go to the line of that number, or to the end of the file."""
        self._file.seek(0)
        self._next = sum(1 for _ in itertools.islice(self._whole_lines(), offset))

    def read(self, partition: int, most: int) -> list[Record]:
        """The next records, `most` at most; a line without its end is not there yet."""
        records = []
        for line in itertools.islice(self._whole_lines(), most):
            key, tab, value = line.rstrip(b"\n").partition(b"\t")
            records.append(
                Record(
                    partition, self._next, key if tab else None, value if tab else key, None, 0, 0, None, None, "", len(line)
                )
            )  # fmt: skip
            self._next += 1
        return records

    def _whole_lines(self) -> Any:
        while True:
            begin = self._file.tell()
            line = self._file.readline()
            if not line.endswith(b"\n"):
                self._file.seek(begin)
                return
            yield line

    @property
    def reached(self) -> int:
        """The offset of the next line."""
        return self._next

    def close(self) -> None:
        self._file.close()


def files_of(folder: Path, topic: str) -> dict[int, Path]:
    """The partitions of a topic."""
    return {int(path.stem): path for path in sorted((folder / topic).glob("*.log"))}


def life_of(folder: Path, topic: str) -> str:
    """What tells this folder from one of the same name that is made later."""
    found = (folder / topic).stat()
    return f"{found.st_dev}-{found.st_ino}"


def count(path: Path) -> int:
    """How many whole lines a file has."""
    return path.read_bytes().count(b"\n")


# ------------------------------------------------------------------ the source


class SpoolSource:
    """Reads the topics of one consumer."""

    def __init__(self, intake: Intake, settings: Mapping[str, Any]) -> None:
        self._intake = intake
        self._folder = Path({**settings, **intake.options.config}["folder"])
        self._thread = threading.Thread(target=self._work, name="spool", daemon=True)
        self._pausing = threading.Event()
        self._stopping = threading.Event()
        self._files: dict[tuple[int, int], SpoolFile] = {}  # by incarnation and partition
        self._halted: dict[tuple[int, int], str] = {}
        self._session: int | None = None
        self._trouble = ""

    @property
    def name(self) -> str:
        return self._intake.options.name

    def start(self) -> None:
        self._open()
        self._thread.start()

    def pause(self) -> None:
        self._pausing.set()

    def stop(self, seconds: float) -> None:
        self._stopping.set()
        self._thread.join(seconds)

    def health(self) -> SourceHealth:
        return SourceHealth(self._thread.is_alive(), bool(self._files), self._trouble or "reads its files")

    # -- the thread ---------------------------------------------------------------------------

    def _work(self) -> None:
        while not self._stopping.is_set():
            try:
                self._turn()
                self._trouble = ""
            except ExecutorFenced:  # this process registers anew; then `session` has changed
                self._drop_all()
                self._stopping.wait(0.2)
            except (DBOSException, OSError) as error:
                self._trouble = f"tries again: {error}"
                self._drop_all()
                self._stopping.wait(LOOK_SECONDS)
            except Exception:  # noqa: BLE001 - a defect stops no other consumer
                logger.exception("%s met an unexpected error and tries again.", self.name)
                self._drop_all()
                self._stopping.wait(0.2)
        self._leave()

    def _turn(self) -> None:
        if self._session != self._intake.session:
            self._drop_all()
            self._open()
        took = False
        if not self._pausing.is_set():
            for topic in self._intake.options.topics:
                for incarnation in self._look_at(topic):
                    took = self._read(incarnation) or took
                    self._report(incarnation)
        if not took:
            self._intake.wait_for_room(LOOK_SECONDS)
            self._stopping.wait(LOOK_SECONDS)

    def _open(self) -> None:
        """Register the consumer: in this process, and in this identity of it."""
        session = self._intake.session
        self._intake.open(
            self._intake.default_group, self._intake.options.topics, {"folder": str(self._folder)}
        )
        self._session = session

    def _look_at(self, topic: str) -> set[int]:
        """Lock and position what nobody reads; gives the life of the topic, and the branches of it that are read."""
        paths = files_of(self._folder, topic)
        if not paths:
            return set()
        incarnation = self._intake.identify(CLUSTER, topic, life_of(self._folder, topic))
        missing = paths.keys() - self._intake.known_partitions(incarnation)
        if missing:
            self._intake.begin(incarnation, dict.fromkeys(sorted(missing), (0, "the beginning of the file")))
        if topic not in self._intake.registered():
            self._intake.register(topic)
        branches = self._intake.branches(incarnation)  # where an operator has decided to read another file on
        locked: dict[int, dict[int, SpoolFile]] = {}
        for partition, path in paths.items():
            number = branches.get(partition, incarnation)
            if (number, partition) not in self._files:
                try:
                    locked.setdefault(number, {})[partition] = SpoolFile(path)
                except BlockingIOError:
                    continue  # another process reads it
        self._take_over(topic, incarnation, locked)
        return {incarnation, *branches.values()}

    def _take_over(self, topic: str, incarnation: int, locked: dict[int, dict[int, SpoolFile]]) -> None:
        mine = {partition for files in locked.values() for partition in files}
        if not mine:
            return
        for former, unfinished in self._intake.unfinished(incarnation).items():
            if unfinished & mine:  # whoever reads the partition ends what an earlier life of it has left
                self._intake.assign(former, topic, sorted(unfinished & mine))
        for number, files in locked.items():
            for position in self._intake.assign(number, topic, sorted(files)):
                self._begin(number, position, files[position.partition])

    def _begin(self, incarnation: int, position: Position, file: SpoolFile) -> None:
        place = (incarnation, position.partition)
        self._files[place] = file
        if position.halted is not None:
            self._halted[place] = position.halted
            return
        file.seek(position.next_offset)
        if file.reached < position.next_offset:
            self._halt(place, f"the file ends at {file.reached}, before the watermark {position.next_offset}")
        elif position.witness is not None:
            file.seek(position.witness)  # the intake compares it with what was taken in

    def _read(self, incarnation: int) -> bool:
        """Take a batch of each partition in that has room; whether there was anything."""
        records: list[Record] = []
        for (number, partition), file in self._files.items():
            if number == incarnation and (number, partition) not in self._halted:
                most = min(self._intake.options.batch_size - len(records), self._intake.free - len(records))
                records += file.read(
                    partition, min(most, self._intake.room(incarnation, partition)) if most > 0 else 0
                )
        if not records:
            return False
        result = self._intake.take_in(incarnation, records)
        for partition, reason in (result.halted or {}).items():
            self._halt((incarnation, partition), reason, result.next_offsets.get(partition))
        for partition in result.stale | result.refused:  # what was not taken in has left the file's buffer
            self._drop((incarnation, partition))
        return True

    def _halt(self, place: tuple[int, int], reason: str, divergence: int | None = None) -> None:
        self._intake.halt(*place, reason, divergence)
        self._halted[place] = reason

    def _report(self, incarnation: int) -> None:
        still = self._intake.halted(incarnation) if self._halted else frozenset()
        for place in [place for place in self._halted if place[0] == incarnation and place[1] not in still]:
            self._drop(place)  # an operator has decided: position it anew
        mine = {partition: file for (number, partition), file in self._files.items() if number == incarnation}
        for partition in self._intake.fenced(incarnation) & mine.keys():
            self._drop((incarnation, partition))
        self._intake.report(
            incarnation,
            [
                PartitionReport(
                    partition,
                    file.reached,
                    "halted" if (incarnation, partition) in self._halted else "reading",
                    self._halted.get((incarnation, partition)),
                    file.reached,
                )
                for partition, file in sorted(mine.items())
            ],
        )

    # -- giving up ----------------------------------------------------------------------------

    def _drop(self, place: tuple[int, int]) -> None:
        """Read this partition anew: from its watermark, by whoever locks it first."""
        self._halted.pop(place, None)
        file = self._files.pop(place, None)
        if file is not None:
            file.close()

    def _drop_all(self) -> None:
        for place in tuple(self._files):
            self._drop(place)

    def _leave(self) -> None:
        """What has not started is another process's, then the files are."""
        for incarnation in {number for number, _ in self._files}:
            try:
                self._intake.revoke(
                    incarnation, [part for number, part in self._files if number == incarnation]
                )
            except DBOSException as error:
                logger.warning("%s could not give its partitions up: %s", self.name, error)
        self._drop_all()


# ------------------------------------------------------------------ what is registered


def spool_consumer(
    app: LogHost, topics: str | list[str], folder: Path | None = None, **options: Any
) -> Callable[[F], F]:
    """The connector's decorator: the function handles the lines of a topic."""
    config = {} if folder is None else {"folder": str(folder)}
    return app.log_consumer("spool", LogOptions(topics, config=config, **options))


def _check(options: ConsumerOptions) -> None:
    if options.strict_key_order:
        raise ConfigurationError(f"Consumer {options.name!r}: the lines of a key stay in their file.")


def _open(intake: Intake, settings: Mapping[str, Any]) -> Source:
    return SpoolSource(intake, settings)


def _ask_ends(
    settings: Mapping[str, Any], launched_with: Mapping[str, str], partitions: Mapping[str, Any]
) -> Ends:
    folder = Path({**launched_with, **settings}["folder"])
    offsets = {
        (topic, number): count(path)
        for topic in partitions
        for number, path in files_of(folder, topic).items()
    }
    return Ends({topic: life_of(folder, topic) for topic in partitions}, offsets)


connector = Connector("spool", _check, _open, Lines(), _ask_ends)
install()


def write(folder: Path, topic: str, partition: int, *lines: str) -> None:
    """Append lines, as one who writes the log does: `KEY<tab>VALUE` or `VALUE`."""
    (folder / topic).mkdir(parents=True, exist_ok=True)
    with (folder / topic / f"{partition}.log").open("a") as file:
        file.writelines(f"{line}\n" for line in lines)
        file.flush()
        os.fsync(file.fileno())

"""What one run shows of its workflow while it runs: how it counts values and entries of streams.

As long as a run has its token, nobody else publishes anything for its workflow. So it numbers values and entries itself,
and the database need not be asked; only a run that was taken up asks once where the streams of its workflow go on.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import TYPE_CHECKING

from dbos_events.engine.values_and_streams import show, stream_channel
from dbos_events.engine.waking import LoopWaker, ThreadWaker, Waker
from dbos_events.errors import DBOSException
from dbos_events.model.dataclass import dataclass, field
from dbos_events.serialization import fingerprint
from dbos_events.storage.writes import Piece, SettleEntries, SetValue, StreamEntry, Write

if TYPE_CHECKING:
    from dbos_events.engine.run import Run
    from dbos_events.storage.subjects.streams import StreamEnd

MOST_ENTRIES = 500
MOST_CHARACTERS = 4_000_000
"""What a run may have handed over before it waits until half of it is durable."""


@dataclass(slots=True)
class _Call:
    """What a step that runs has written into one stream: where it began, and what its last attempt wrote."""

    first: int
    pieces: dict[int, list[int]] = field(default_factory=dict)


@dataclass(slots=True)
class _Stream:
    """Where a stream goes on."""

    next_position: int = 0
    channel: str = ""
    cut_from: int | None = None
    unsettled: dict[int, int] = field(default_factory=dict)
    calls: dict[int, _Call] = field(default_factory=dict)

    def resets(self, step: int, attempt: int) -> int | None:
        """From where on what the call has written counts no more, if this is the first entry of a new attempt."""
        since = [self.cut_from, self.unsettled.pop(step, None)]
        self.cut_from = None
        call = self.calls.get(step)
        if call is not None and attempt not in call.pieces:
            since.append(call.first)
        return min((position for position in since if position is not None), default=None)

    def note(self, step: int, attempt: int, position: int) -> None:
        call = self.calls.setdefault(step, _Call(position))
        call.pieces.setdefault(attempt, [position, position])[1] = position


class _Told:
    """The waker of an entry's write: readers hear of it, and a writer that waits for room."""

    __slots__ = ("_channel", "_entry", "_outlet")

    def __init__(self, outlet: Outlet, channel: str, entry: StreamEntry) -> None:
        self._outlet = outlet
        self._channel = channel
        self._entry = entry

    def wake(self) -> None:
        entry = self._entry
        self._outlet.show(self._channel, entry)
        self._outlet.told(len(entry.value or ""))


class Room:
    """Effect: wait until half of what is on its way is durable, or the run is stopped."""

    __slots__ = ("_outlet", "_run")

    def __init__(self, run: Run, outlet: Outlet) -> None:
        self._run = run
        self._outlet = outlet

    def block(self) -> None:
        outlet = self._outlet
        while not outlet.is_drained:
            outlet.waiter = waker = ThreadWaker()
            if not outlet.is_drained:
                self._run.core.committer.before_blocking()
                waker.wait(1.0)
        outlet.waiter = None

    async def suspend(self) -> None:
        outlet = self._outlet
        while not outlet.is_drained:
            outlet.waiter = waker = LoopWaker(self._run.core.inbox())
            if not outlet.is_drained:
                await waker.wait(1.0)
        outlet.waiter = None


class Outlet:
    """The values and streams of one run. Steps may publish from threads of their own, so it has a lock."""

    __slots__ = (
        "_arguments",
        "_handed",
        "_last_sets",
        "_lock",
        "_mark",
        "_run",
        "_sets",
        "_streams",
        "_told",
        "ready",
        "waiter",
    )

    def __init__(self, run: Run) -> None:
        self._run = run
        self._lock = threading.Lock()
        self._sets = 0
        self._last_sets: dict[tuple[int, str], int] = {}
        self._streams: dict[str, _Stream] = {}
        self._mark = -1
        self._handed = self._told = 0
        self._arguments: dict[str, str] = {}
        self.waiter: Waker | None = None
        """A writer that waits for room; it takes itself away."""
        self.ready = run.take == 1
        """Whether it is known where the streams go on: a first run begins them."""

    # -- values -------------------------------------------------------------------------------

    def set_value(
        self, key: str, step: int, codec: str | None, text: str | None, *, again: bool = False
    ) -> SetValue:
        """The change that publishes a value; `again` where the same call may set the key more than once."""
        with self._lock:
            self._sets += 1
            replaces = self._last_sets.get((step, key)) if again else None
            if again:
                self._last_sets[step, key] = self._sets
            return SetValue(key, self._sets, step, codec, text, self._run.core.next_write_id(), replaces)

    # -- streams ------------------------------------------------------------------------------

    def begin(self, ends: Mapping[str, StreamEnd]) -> None:
        """Go on where the streams ended."""
        with self._lock:
            if not self.ready:
                self._streams = {
                    name: _Stream(end.next_position, self._channel(name), end.cut_from, dict(end.unsettled))
                    for name, end in ends.items()
                }
                self.ready = True

    def arguments(self, stream: str) -> str:
        """The hash of a call's arguments; that of the stream's name alone."""
        known = self._arguments.get(stream)
        if known is None:
            known = self._arguments[stream] = fingerprint((stream,), {})
        return known

    def may_go_on(self, run: Run) -> bool:
        """Whether one more entry may follow what is on its way: nothing else than entries.

        Raises what stopped the run, if something did.
        """
        return run.is_settled() or run.handed == self._mark

    @property
    def has_room(self) -> bool:
        """Whether little enough is on its way."""
        run = self._run
        if run.under_way == 0:
            self._handed = self._told = 0
        return run.under_way < MOST_ENTRIES and self._handed - self._told < MOST_CHARACTERS

    @property
    def is_drained(self) -> bool:
        """Whether a writer that waited for room may go on."""
        run = self._run
        few = run.under_way <= MOST_ENTRIES // 2 and self._handed - self._told <= MOST_CHARACTERS // 2
        return few or run.under_way == 0 or run.verdict is not None

    def show(self, channel: str, entry: StreamEntry) -> None:
        """Tell readers, once for all that became durable together."""
        show(self._run.core, channel, entry)

    def told(self, characters: int) -> None:
        """An entry has its answer; called where answers are told."""
        self._told += characters
        waiter = self.waiter
        if waiter is not None and self.is_drained:
            waiter.wake()

    def _stream(self, name: str) -> _Stream:
        known = self._streams.get(name)
        if known is None:
            known = self._streams[name] = _Stream(channel=self._channel(name))
        return known

    def _channel(self, name: str) -> str:
        return stream_channel(self._run.id, name)

    def hand_over(
        self,
        write: Write,
        stream: str,
        step: int,
        codec: str | None,
        text: str | None,
        *,
        ends: bool,
        attempt: int | None = None,
    ) -> None:
        """Give one entry to the committer, on the thread that drives the run.

        It is handed over as it is counted: no reader sees an entry before those that come before it.
        """
        with self._lock:
            write.change = entry = self._entry(stream, step, codec, text, ends=ends, attempt=attempt)
            self._handed += len(text or "")
            self._run.hand_over(write, _Told(self, self._streams[stream].channel, entry))
            self._mark = self._run.handed

    def entry(
        self, stream: str, step: int, codec: str | None, text: str | None, *, ends: bool, attempt: int
    ) -> StreamEntry:
        """An entry of a step, for a caller on another thread, who waits until it is durable."""
        with self._lock:
            return self._entry(stream, step, codec, text, ends=ends, attempt=attempt)

    def _entry(
        self, stream: str, step: int, codec: str | None, text: str | None, *, ends: bool, attempt: int | None
    ) -> StreamEntry:
        known = self._stream(stream)
        position = known.next_position
        known.next_position += 1
        resets = known.resets(step, attempt or 0)
        if attempt is not None:
            known.note(step, attempt, position)
        committed = True if attempt is None else None
        write_id = self._run.core.next_write_id()
        return StreamEntry(
            stream, position, step, attempt or 0, committed, ends, codec, text, write_id, resets
        )

    def settle(self, step: int, attempt: int | None) -> SettleEntries | None:
        """What becomes of the entries of a step that has ended, with this attempt if it ended well; None without any."""
        pieces = []
        with self._lock:
            for stream, known in self._streams.items():
                call = known.calls.pop(step, None)
                for one, (first, last) in call.pieces.items() if call is not None else ():
                    pieces.append(Piece(stream, first, last, step, one, one == attempt))
            for set_by in [each for each in self._last_sets if each[0] == step]:
                del self._last_sets[set_by]
        return SettleEntries(tuple(pieces)) if pieces else None


def outlet_of(run: Run) -> Outlet:
    """What the run publishes through; made when it is needed first."""
    outlet = run.outlet
    if not isinstance(outlet, Outlet):
        outlet = run.outlet = Outlet(run)
    return outlet


def checked_key(what: str, key: object) -> str:
    """A key of a value, or a name of a stream, that the database takes.

    Raises:
        DBOSException: It takes none like that.
    """
    if not isinstance(key, str):
        raise DBOSException(f"The {what} {key!r} is not text (str) but {type(key).__name__}. Give it a name.")
    try:
        size = len(key.encode())
    except UnicodeEncodeError:
        size = -1
    if size < 0 or "\0" in key:
        raise DBOSException(
            f"The {what} {key!r} has a character that no database stores: NUL, or half of a surrogate pair. "
            "Use another name."
        )
    if size > LONGEST_KEY:
        raise DBOSException(
            f"The {what} {key[:40]!r}... is {size:,} bytes long; at most {LONGEST_KEY:,} fit into an index. Shorten it, "
            "or use a digest of it."
        )
    return key


LONGEST_KEY = 1000
"""Bytes of a key: an index takes 2,700, together with the workflow's id."""

"""The takings under way in this process: what has been made ours in the database, and may not run here yet."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager


class OpenTakings:
    """A register that the watch over what this process owns looks at (protocol, rule 2).

    A taking begins before its transaction, and ends when its runs are in the runner, or when it has failed.
    """

    def __init__(self) -> None:
        self._open: set[object] = set()
        self.on_doubt: Callable[[], object] = lambda: None
        """Called when something may have been taken that nobody starts; must be quick."""

    def begin(self) -> object:
        """Note a taking; gives what ends it."""
        taking = object()
        self._open.add(taking)
        return taking

    def end(self, taking: object) -> None:
        self._open.discard(taking)

    @contextmanager
    def under_way(self) -> Iterator[None]:
        """Around a taking and the start of what it took; what was taken and not started is looked for when it fails."""
        taking = self.begin()
        try:
            yield
        except BaseException:
            self.on_doubt()
            raise
        finally:
            self.end(taking)

    @property
    def open(self) -> frozenset[object]:
        """Those under way at this moment."""
        return frozenset(self._open)

"""What a process that was forked from this one does with what it has inherited: nothing, and it never frees it.

To free a connection, a client or a loop is to use it: it says farewell to the server, or waits for threads that the
forked process does not have.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NoReturn


class InParent:
    """Stands for something that belongs to the process that this one was forked from: whatever is asked of it fails."""

    def __init__(self, fail: Callable[[], NoReturn]) -> None:
        self._fail = fail

    def __getattr__(self, name: str) -> Any:
        self._fail()


def keep_for_ever(thing: object) -> None:
    """Have `thing` never freed, also not when the interpreter ends."""
    import ctypes

    ctypes.pythonapi.Py_IncRef(ctypes.py_object(thing))

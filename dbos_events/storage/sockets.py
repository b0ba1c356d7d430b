"""The open connections of a PostgreSQL storage, for what has to reach them from outside.

A thread that waits in libpq for a server that says nothing cannot be woken but by its socket. And a process that is
forked from this one has the same sockets: what it would send, if only the farewell of a connection that it frees, the
server would take as said by the parent.
"""

from __future__ import annotations

import contextlib
import os
import socket
import threading
import weakref
from collections.abc import Callable
from typing import Any

import psycopg
import sqlalchemy as sa
from sqlalchemy import event


class Sockets:
    """Knows the connections that an engine has opened, and those that `add` is told of.

    Args:
        engine: Opens them; also those that are taken out of its pool.
        on_fork: Called in a process that was forked from this one, when nothing can reach the server any more.
    """

    def __init__(self, engine: sa.Engine, on_fork: Callable[[], object]) -> None:
        self._open: weakref.WeakSet[psycopg.Connection[Any]] = weakref.WeakSet()
        self._lock = threading.Lock()
        self._cut = False
        self._on_fork = on_fork
        event.listen(engine, "do_connect", self._before)
        event.listen(engine, "connect", lambda connection, _record: self.add(connection))
        _known.add(self)

    def add(self, connection: psycopg.Connection[Any]) -> None:
        """Note a connection."""
        with self._lock:
            self._open.add(connection)

    def cut(self) -> None:
        """End all connections for whoever waits for an answer on them, and have no more opened."""
        self._cut = True
        with self._lock:
            connections = tuple(self._open)
        for connection in connections:
            handle = _handle(connection)
            if handle is not None:
                with contextlib.suppress(OSError), socket.socket(fileno=os.dup(handle)) as ours:
                    ours.shutdown(socket.SHUT_RDWR)

    def leave_to_parent(self) -> None:
        """In a forked process: put nothing in place of each socket, so that what is done with it reaches nobody."""
        self._lock = threading.Lock()  # another thread of the parent may have held it
        nothing = os.open(os.devnull, os.O_RDWR)
        for connection in tuple(self._open):
            handle = _handle(connection)
            if handle is not None:
                os.dup2(nothing, handle, inheritable=False)
        os.close(nothing)
        self._on_fork()

    def _before(self, *_: object) -> None:
        if self._cut:
            raise psycopg.OperationalError("The process stops, and the time for that is over.")


def _handle(connection: psycopg.Connection[Any]) -> int | None:
    try:
        return connection.pgconn.socket
    except psycopg.Error:  # it is closed
        return None


_known: weakref.WeakSet[Sockets] = weakref.WeakSet()


def _after_fork() -> None:
    for sockets in tuple(_known):
        sockets.leave_to_parent()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)

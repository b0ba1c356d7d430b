"""How the processes concerned learn of a change, and who made it."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING

from dbos_events.errors import StorageUnavailable

if TYPE_CHECKING:
    from dbos_events.storage.protocol import Storage

Tell = Callable[[Sequence[str]], object]
"""Called with the channels to wake after a change."""


def tell_nobody(_channels: Sequence[str]) -> None:
    """For a caller that wakes the processes concerned itself."""


def tell_all(storage: Storage) -> Tell:
    """Wake those that listen; without it they find out by themselves, a little later."""

    def tell(channels: Sequence[str]) -> None:
        if channels:
            with suppress(StorageUnavailable):
                storage.notify(channels)

    return tell


def this_operator() -> str:
    """Who decides, where nobody says it: `user@host`."""
    import getpass  # not needed by who imports DBOS

    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a container's user may have no name
        user = f"uid {os.getuid()}"
    return f"{user}@{socket.gethostname()}"

"""Pause and resume consumers, and ask what became of their events."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dbos_events.errors import DBOSNonExistentConsumerError

if TYPE_CHECKING:
    from dbos_events.storage.protocol import Storage
    from dbos_events.storage.standing import ConsumerState


class ConsumerControl:
    """What an operator may do to the consumers of one application; needs no registered functions.

    It is on the consumer's row: every process follows within a second, and it survives restarts.
    """

    def __init__(self, storage: Storage, application: str) -> None:
        self._storage = storage
        self._application = application

    def pause(self, name: str, *, by: str, reason: str | None = None) -> ConsumerState:
        """Have a consumer take nothing more in; gives how it stands now. One that is paused stays as it is.

        Raises:
            DBOSNonExistentConsumerError: No consumer of that name was ever registered.
        """
        self._storage.pause_consumer(self._application, name, by, reason)
        return self.state(name)

    def resume(self, name: str) -> bool:
        """End a pause and close the breaker; False when there was nothing to end.

        Raises:
            DBOSNonExistentConsumerError: No consumer of that name was ever registered.
        """
        changed = self._storage.resume_consumer(self._application, name)
        if not changed:
            self.state(name)
        return changed

    def state(self, name: str) -> ConsumerState:
        """How a consumer stands."""
        known = self._storage.consumer_states(self._application)
        for state in known:
            if state.name == name:
                return state
        raise DBOSNonExistentConsumerError(name, self._application, tuple(state.name for state in known))

"""Ask how consumers stand, pause and resume them."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from dbos_events.control.signals import Tell, tell_nobody, this_operator
from dbos_events.errors import DBOSNonExistentConsumerError

if TYPE_CHECKING:
    from dbos_events.model.consumer import ConsumerState, PushedState, SourceRow
    from dbos_events.storage.protocol import Storage

CHANNELS = ("consumers",)


class Paused(NamedTuple):
    """How a consumer stands after a pause; `changed` is False where it was paused before."""

    state: ConsumerState
    changed: bool


class ConsumerControl:
    """What an operator may do to the consumers of one application; needs no registered functions.

    It is on the consumer's row: every process follows within a second, and it survives restarts.
    """

    def __init__(self, storage: Storage, application: str, *, tell: Tell = tell_nobody) -> None:
        self._storage = storage
        self._application = application
        self._tell = tell

    def pause(self, name: str, *, by: str | None = None, reason: str | None = None) -> Paused:
        """Have a consumer take nothing more in. One that is paused stays as it is, with who paused it and why.

        Raises:
            DBOSNonExistentConsumerError: No consumer of that name was ever registered.
        """
        changed = self._storage.consumers.pause(self._application, name, by or this_operator(), reason)
        state = self.state(name)
        self._tell(CHANNELS)
        return Paused(state, changed)

    def resume(self, name: str) -> bool:
        """End a pause and close the breaker; False when there was nothing to end.

        Raises:
            DBOSNonExistentConsumerError: No consumer of that name was ever registered.
        """
        changed = self._storage.consumers.resume(self._application, name)
        if not changed:
            self.state(name)
        self._tell(CHANNELS)
        return changed

    def state(self, name: str) -> ConsumerState:
        """How a consumer stands.

        Raises:
            DBOSNonExistentConsumerError: No consumer of that name was ever registered.
        """
        known = self.states(self._application)
        for state in known:
            if state.name == name:
                return state
        raise DBOSNonExistentConsumerError(name, self._application, tuple(state.name for state in known))

    def states(self, application: str | None = None) -> list[ConsumerState]:
        """How all consumers stand that were ever registered, by application and name."""
        return self._storage.consumers.states(application)

    def pushed(self, application: str | None = None) -> list[PushedState]:
        """How all consumers stand whose events are pushed, by application and name."""
        return self._storage.inbox.standing(application)

    def idle(self, application: str | None = None) -> list[SourceRow]:
        """Processes that have no partition of a consumer, and consumers that no live process has."""
        return self._storage.sources.list_idle(application)

"""Events without a broker: records made here, taken in on the path of real ones."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from dbos_events.api.consumers import ConsumerDeclaration, connector_of
from dbos_events.app import App
from dbos_events.connect import Connector, Record
from dbos_events.errors import DBOSException
from dbos_events.launched import Launched
from dbos_events.model.naming import log_prefix
from dbos_events.runtime.encoding import id_prefix
from dbos_events.runtime.intake.consumer import ConsumerIntake
from dbos_events.testing.bytes import Headers, bytes_of, headers_of

CLUSTER = "testing"


class TestTopics:
    """The consumers of one App as if they were assigned every partition that a test delivers to."""

    __test__ = False

    def __init__(self, app: App) -> None:
        self._app = app
        self._intakes: dict[str, ConsumerIntake] = {}
        self._partitions: dict[tuple[str, str, int], tuple[int, int]] = {}

    def deliver(
        self,
        handler: Callable[..., Any],
        value: object,
        *,
        key: bytes | str | None,
        headers: Headers | Mapping[str, bytes | str | None] | None,
        topic: str | None,
        partition: int,
    ) -> str:
        """Take one record in; gives the id of its workflow."""
        declaration = self._declaration(handler)
        topic = topic or declaration.options.topics[0]
        intake = self._intake(declaration)
        place = (declaration.options.name, topic, partition)
        if place not in self._partitions:
            self._assign(intake, *place)
        incarnation, offset = self._partitions[place]
        now = self._app.core.clock.now_ms()
        record = Record(
            partition,
            offset,
            bytes_of(key),
            bytes_of(value),
            headers_of(headers),
            1,
            now,
            leader_epoch=0,
            latency=None,
        )
        self._refuse_when_closed(intake)
        intake.take_in(incarnation, [record])
        self._partitions[place] = (incarnation, offset + 1)
        prefix = log_prefix(declaration.connector, _group(intake, declaration))
        return f"{id_prefix(prefix, topic, incarnation, partition)}{offset}"

    def filtered(self, handler: Callable[..., Any]) -> int:
        """The records that the handler's consumers left out, over all partitions."""
        name = self._declaration(handler).function.name
        consumers = {each.options.name for each in self._app.consumers if each.function.name == name}
        core = self._app.core
        states = core.storage.positions.read(core.application)
        return sum(state.filtered for state in states if state.consumer in consumers)

    def relaunched(self) -> None:
        """A new process is assigned what the old one had."""
        self._intakes.clear()
        for name, topic, partition in tuple(self._partitions):
            (declaration,) = (each for each in self._app.consumers if each.options.name == name)
            self._assign(self._intake(declaration), name, topic, partition)

    def _refuse_when_closed(self, intake: ConsumerIntake) -> None:
        """A source would wait; a test has to know."""
        if intake.gate.wait(0.0):
            self._app.launched.consumers.tick()
        if intake.gate.closed_by:
            raise DBOSException(
                f"Consumer {intake.options.name!r} takes nothing in: {intake.gate.closed_by}. Resume it, let the "
                "time pass, or declare it with breaker=None."
            )

    def _declaration(self, handler: Callable[..., Any]) -> ConsumerDeclaration:
        name = getattr(handler, "__dbos_name__", None)
        found = [each for each in self._app.consumers if each.function.name == name]
        if not found:
            raise DBOSException(
                f"{getattr(handler, '__qualname__', handler)!r} is not a consumer of this App. Hand the function over "
                "that the decorator of a consumer stands on."
            )
        return found[0]

    def _intake(self, declaration: ConsumerDeclaration) -> ConsumerIntake:
        options = declaration.options
        if options.name not in self._intakes:
            launched: Launched = self._app.launched
            intake = ConsumerIntake(
                launched.core,
                launched.taken,
                declaration.function,
                options,
                launched.lanes,
                launched.consumers,
                connector_of(declaration.connector, Connector),
            )
            intake.open(_group(intake, declaration), options.topics, {})
            self._intakes[options.name] = intake
        return self._intakes[options.name]

    def _assign(self, intake: ConsumerIntake, name: str, topic: str, partition: int) -> None:
        incarnation = intake.identify(CLUSTER, topic, f"{topic}-1")
        intake.begin(incarnation, {partition: (0, "earliest")})
        (position,) = intake.assign(incarnation, topic, [partition])
        self._partitions[name, topic, partition] = (incarnation, position.next_offset)


def _group(intake: ConsumerIntake, declaration: ConsumerDeclaration) -> str:
    config = declaration.options.config
    return str(config.get("group.id") or config.get("group_id") or intake.default_group)

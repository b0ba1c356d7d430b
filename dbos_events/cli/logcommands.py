"""The commands that every log has, for the group of a connector."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from dbos_events.cli import deciding, partitions, pausing, proofs
from dbos_events.cli.naming import LogWords, command_class
from dbos_events.cli.options import examples


class LogBlock(NamedTuple):
    """One command, before it has the words of a log."""

    function: Callable[..., None]
    epilog: str


BLOCKS: Mapping[str, LogBlock] = {
    "pause": LogBlock(
        pausing.pause, examples("dbos-events {group} pause on_order --reason 'migration of the shop'")
    ),
    "resume": LogBlock(pausing.resume, examples("dbos-events {group} resume on_order")),
    "trace": LogBlock(
        proofs.trace,
        examples("dbos-events {group} trace orders 3 1017", "dbos-events {group} trace orders 3 1017 --json"),
    ),
    "gaps": LogBlock(
        proofs.gaps,
        examples("dbos-events {group} gaps", "dbos-events {group} gaps --topic orders --all --json"),
    ),
    "status": LogBlock(partitions.status, partitions.EXAMPLES),
    "adopt-cluster": LogBlock(
        deciding.adopt_cluster, examples("dbos-events {group} adopt-cluster on_order --continue")
    ),
    "resolve-truncation": LogBlock(
        deciding.resolve_truncation,
        examples("dbos-events {group} resolve-truncation on_order orders 3 --from-offset 1200"),
    ),
    "resolve-regression": LogBlock(
        deciding.resolve_regression,
        examples("dbos-events {group} resolve-regression on_order orders 3 --replay"),
    ),
    "adopt-watermark": LogBlock(
        deciding.adopt_watermark,
        examples("dbos-events {group} adopt-watermark on_order --from-group old --to-group new"),
    ),
    "rename-consumer": LogBlock(
        deciding.rename_consumer, examples("dbos-events {group} rename-consumer on_order orders")
    ),
    "clear-alarms": LogBlock(deciding.clear_alarms, examples("dbos-events {group} clear-alarms on_order")),
}
"""In the order in which a group shows them."""


class Blocks:
    """`LogCommands` of this command line, for the group of one connector."""

    def __init__(self, connector: str) -> None:
        self._connector = connector

    def add_to(self, group: Any, *names: str, system: str) -> None:
        cls = command_class(LogWords(self._connector, system))
        for name in names or BLOCKS:
            block = BLOCKS[name]
            group.command(name, cls=cls, epilog=block.epilog)(block.function)

"""Topics as a consumer knows them."""

from __future__ import annotations

from collections.abc import Mapping

from dbos_events.model.dataclass import dataclass, field


@dataclass(frozen=True, slots=True)
class TopicHistory:
    """What a consumer has to do with a topic already.

    `known` says that it has read an earlier life of it in this cluster; `adopted` that an operator
    moved it here from another cluster, and `inherited` where it stood there, when it shall go on so.
    """

    known: bool
    adopted: bool
    inherited: Mapping[int, int] = field(default_factory=dict)

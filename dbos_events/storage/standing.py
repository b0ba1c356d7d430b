"""Partitions that stand still because their holder is gone."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Orphan:
    """A partition that no live process holds, with ordered events that are ready to run."""

    consumer: int
    name: str
    handler: str
    topic: str
    incarnation: int
    partition: int
    epoch: int

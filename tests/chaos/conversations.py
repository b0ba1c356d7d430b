"""What the events that talk say to each other: pairs of them, by the seed alone.

The first of a pair stands before the second in the order in which events are produced. In a lane nothing waits for what
is behind it: the second waits for the first, and for workflows that are in no lane, and the first waits for nobody. So
no wait can be for ever, whatever the order of lanes.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from tests.chaos.events import TALK, Events
from tests.chaos.plan import Plan

MESSAGES, PUBLICATIONS, SHOWN, DEADLINES, QUEUED = THEMES = (
    "messages", "publications", "shown", "deadlines", "queued",
)  # fmt: skip
"""Messages both ways, by way of a third workflow; values that are published before or after they are waited for; a value
and a stream that another one reads; workflows that are cut off by their deadlines; work on queues with limits."""

SENT = 3
"""Messages that each of a pair sends to the third."""

DEADLINE_SECONDS = 0.6
LONG_DEADLINE_SECONDS = 300.0
DELAY_SECONDS = 0.5
UNMATCHED_SECONDS = 1.0
"""How long the publication is kept that nobody waits for."""

NARROW, NARROW_LIMIT = "narrow", 3
PACED, PACED_LIMIT, PACED_SECONDS = "paced", 8, 1.0
"""A queue that runs so many at once, and one that starts so many within any such time."""

SCHEDULE = "second"
"""The schedule that ticks every second."""


class Place(NamedTuple):
    """Where an event lies."""

    partition: int
    offset: int


@dataclass(frozen=True, slots=True)
class Conversation:
    """Two events that talk: the first and the second one, in the order in which they were produced."""

    theme: str
    first: Place
    second: Place

    def id(self, what: str) -> str:
        """The id of a workflow that belongs to it: `what` that is."""
        return f"talk/{self.first.partition}/{self.first.offset}/{what}"

    @property
    def key(self) -> str:
        """Under which it publishes, and what its work is deduplicated by."""
        return f"{self.first.partition}/{self.first.offset}"

    def value(self, offset: int) -> bytes:
        """The record of the one at this offset, which says all of it."""
        numbers = (*self.first, *self.second)
        return f"{TALK} {offset} {THEMES.index(self.theme)} {' '.join(map(str, numbers))}".encode()


def read_value(numbers: Sequence[int]) -> Conversation:
    """The conversation of a record, of what stands behind its kind and offset."""
    theme, *numbers = numbers
    return Conversation(THEMES[theme], Place(*numbers[:2]), Place(*numbers[2:]))


def pair_up(plan: Plan, events: Sequence[Events]) -> list[Conversation]:
    """Who talks with whom; the events are told. One that finds nobody says nothing.

    With one lane for the topic the order between partitions is that of arrival, so there both lie in one partition.
    """
    chance = random.Random(f"{plan.seed} conversations")
    groups = [[number] for number in range(len(events))]
    if plan.ordering != "topic":
        groups = [list(range(len(events)))]
    found: list[Conversation] = []
    for group in groups:
        places = sorted(
            (offset, partition)
            for partition in group
            for offset, kind in enumerate(events[partition].kinds)
            if kind == TALK
        )
        talking = [Place(partition, offset) for offset, partition in places]
        pairs = list(zip(talking[::2], talking[1::2], strict=False))  # the last one may be alone
        themes = [THEMES[number % len(THEMES)] for number in range(len(pairs))]
        chance.shuffle(themes)
        found += [Conversation(theme, *pair) for theme, pair in zip(themes, pairs, strict=True)]
    for conversation in found:
        for partition, offset in (conversation.first, conversation.second):
            events[partition].talks[offset] = conversation
    return found

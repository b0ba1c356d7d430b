"""Conversations that never were, in which everything is as it should be until a test changes something."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from tests.chaos.check import Executors
from tests.chaos.conversations import (
    DEADLINES,
    MESSAGES,
    PUBLICATIONS,
    QUEUED,
    SENT,
    SHOWN,
    Conversation,
    Place,
)
from tests.chaos.findings import Findings
from tests.chaos.hearing import LINES, VALUE_READ, Listener, numbered
from tests.chaos.said import Answer, Entry, Flow, Hearing, Message, Publication, Said

FIRST, SECOND = "kafka/chaos/0/0", "kafka/chaos/1/0"
THEMES_OTHERS = {
    MESSAGES: ("answering",),
    PUBLICATIONS: ("watching",),
    SHOWN: (),
    DEADLINES: ("late", "late child", "quick"),
    QUEUED: ("delayed",),
}


@dataclass
class Spoken:
    """One conversation of a theme: what the rows say, and what was heard, once each."""

    theme: str
    said: Said = field(default_factory=Said)
    executors: Executors = field(default_factory=Executors)

    def __post_init__(self) -> None:
        self.talk = Conversation(self.theme, Place(0, 0), Place(1, 0))
        self.said.events = {self.talk.first: FIRST, self.talk.second: SECOND}
        for workflow in (FIRST, SECOND, *map(self.talk.id, THEMES_OTHERS[self.theme])):
            self.said.flows[workflow] = Flow("chaos", "SUCCESS", None, 0, None, 1000, 1)
        getattr(self, f"_{self.theme}")()

    @property
    def third(self) -> str:
        return self.talk.id(THEMES_OTHERS[self.theme][0])

    def hears(self, workflow: str, values: Sequence[object]) -> None:
        """Its calls give these; they are heard, and its checkpoints say so, at steps from 1 on."""
        for number, value in enumerate(values):
            name = VALUE_READ if isinstance(value, int) else ""
            self.said.answers[workflow].append(Answer(number + 1, value, name))
            self.said.heard[workflow][number].append(Hearing(value))

    def found(self) -> dict[str, int]:
        """What the checker finds, by kind."""
        findings = Findings()
        Listener(self.said, findings, self.executors).listen([self.talk])
        return dict(findings.counts)

    # -- what is said, by theme ---------------------------------------------------------------

    def _messages(self) -> None:
        talk = [(FIRST, word) for word in numbered("first")] + [(SECOND, word) for word in numbered("second")]
        for step, (sender, word) in enumerate(talk, 1):
            self.said.messages.append(Message(self.third, sender, "talk", word, step))
        for step, word in enumerate(numbered("answer"), 1):
            self.said.messages.append(Message(SECOND, self.third, "answers", word, step))
        self.said.messages.append(Message(FIRST, self.third, "late", "late:0", None))
        self.hears(self.third, [word for _, word in talk])
        self.hears(SECOND, numbered("answer", SENT))

    def _publications(self) -> None:
        key = self.talk.key
        for step, value in enumerate(numbered("meet", 2), 1):
            self.said.publications.append(Publication("meet", key, value, 1, "taken", SECOND, step))
        for name, seen, outcome in (("seen", 2, None), ("back", 1, None), ("nobody", 0, "expired")):
            self.said.publications.append(Publication(name, key, f"{name}:0", seen, outcome, None, None))
        self.hears(SECOND, ["meet:0", "meet:1", "seen:0"])
        self.hears(self.third, ["seen:0", "back:0"])

    def _shown(self) -> None:
        self.said.entries = [*(Entry(FIRST, line, False) for line in LINES), Entry(FIRST, None, True)]
        self.said.values[FIRST] = 2
        self.hears(SECOND, [0, *LINES, 2])

    def _deadlines(self) -> None:
        for what in ("late", "late child"):
            self.said.flows[self.talk.id(what)] = Flow(what, "CANCELLED", "timeout", 0, 900, 1000, 1)
        self.hears(SECOND, ["cancelled", "done"])

    def _queued(self) -> None:
        self.hears(SECOND, ["done"] * 3)

"""What must hold of conversations: nothing lost, nothing twice, everything in order. Pure: it reads no database."""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence

from tests.chaos.check import Executors
from tests.chaos.conversations import (
    DEADLINES,
    MESSAGES,
    PUBLICATIONS,
    QUEUED,
    SENT,
    SHOWN,
    Conversation,
)
from tests.chaos.findings import CUT_OFF, DISORDER, LOST, OTHERWISE, STRANGE, TWICE, WENT_BACK, Findings
from tests.chaos.said import Answer, Flow, Hearing, Message, Publication, Said
from tests.chaos.saying import Ids

LATE_MS = 90_000
"""How long after its deadline a workflow may end: servers are down for seconds. The time in which no process was at work
comes on top."""

VALUE_READ = "DBOS.getEvent"
LINES = ["a:0", "b:0", "b:1", "c:0"]


def numbered(word: str, count: int = SENT) -> list[str]:
    return [f"{word}:{number}" for number in range(count)]


class Listener:
    """Takes the conversations one after the other."""

    def __init__(self, said: Said, findings: Findings, executors: Executors) -> None:
        self.said = said
        self._executors = executors
        self._late_ms = LATE_MS + int(executors.nobody_seconds * 1000)
        self.findings = findings
        self._messages: dict[tuple[str, str | None], list[Message]] = {}
        for message in said.messages:
            self._messages.setdefault((message.destination, message.topic), []).append(message)
        self._publications: dict[tuple[str, str], list[Publication]] = {}
        for publication in said.publications:
            self._publications.setdefault((publication.name, publication.key), []).append(publication)
        self._looks: dict[str, Callable[[Conversation, Ids], None]] = {
            MESSAGES: self._look_at_messages,
            PUBLICATIONS: self._look_at_publications,
            SHOWN: self._look_at_shown,
            DEADLINES: self._look_at_deadlines,
            QUEUED: self._look_at_queued,
        }
        self._expected: set[int] = set()
        self._entries: dict[str, list[tuple[str | None, bool]]] = {}
        for entry in said.entries:
            self._entries.setdefault(entry.workflow, []).append((entry.value, entry.ends))

    def listen(self, talks: Iterable[Conversation]) -> None:
        """All of them, and what nobody said."""
        for talk in talks:
            ids = [self.said.events.get(place) for place in (talk.first, talk.second)]
            if None in ids:
                continue  # the event is lost, and found so
            self._looks[talk.theme](talk, Ids(*map(str, ids)))
        for message in self.said.messages:
            if id(message) not in self._expected:
                self.findings.add(STRANGE, f"nobody sent {message}")
        for publication in self.said.publications:
            if id(publication) not in self._expected:
                self.findings.add(STRANGE, f"nobody published {publication}")
        for workflow in self.said.flows:
            self._look_at_heard(workflow)

    # -- what the code heard, and what is recorded --------------------------------------------

    def _look_at_heard(self, workflow: str) -> None:
        """Whoever ran the code heard the same, and that is what its checkpoints say."""
        heard = self.said.heard.get(workflow, {})
        recorded = self.said.answers.get(workflow, [])
        for number, hearings in heard.items():
            right = recorded[number] if number < len(recorded) else None
            if right is None or not all(self._is_right(hearing, right) for hearing in hearings):
                self.findings.add(
                    OTHERWISE, f"{workflow} heard {hearings} with its call {number}, recorded is {right!r}"
                )
        if self.said.flows[workflow].status == "SUCCESS" and len(heard) < len(recorded):
            self.findings.add(OTHERWISE, f"{workflow} recorded {recorded} and heard {dict(heard)}")

    def _is_right(self, hearing: Hearing, right: Answer) -> bool:
        """A value that is read is given before it is recorded, as a step's outcome is: who died then read an older one."""
        if right.name == VALUE_READ and hearing.executor in self._executors.harmed:
            return bool(hearing.value <= right.value)
        return bool(hearing.value == right.value)

    # -- messages -----------------------------------------------------------------------------

    def _look_at_messages(self, talk: Conversation, ids: Ids) -> None:
        third = talk.id("answering")
        self._succeeded(third)
        for sender, word in ((ids.first, "first"), (ids.second, "second")):
            self._received(third, "talk", sender, numbered(word))
        self._received(ids.second, "answers", third, numbered("answer"))
        self._received(ids.first, "late", third, ["late:0"], are_consumed=False)
        for receiver, topic in ((third, "talk"), (ids.second, "answers")):
            sent = [message.value for message in self._messages.get((receiver, topic), [])]
            recorded = [answer.value for answer in self.said.answers.get(receiver, [])]
            self._compare(f"{receiver} by its checkpoints", recorded, sent)

    def _received(
        self, receiver: str, topic: str, sender: str, expected: Sequence[str], *, are_consumed: bool = True
    ) -> None:
        messages = [one for one in self._messages.get((receiver, topic), []) if one.sender == sender]
        self._expected.update(map(id, messages))
        self._compare(f"{receiver} from {sender}", [one.value for one in messages], expected)
        recorded = {answer.step: answer.value for answer in self.said.answers.get(receiver, [])}
        for message in messages:
            if (message.consumed_step is not None) != are_consumed:
                kind = LOST if are_consumed else STRANGE
                self.findings.add(kind, f"consumed or not: {message}")
            elif are_consumed and recorded.get(message.consumed_step or 0) != message.value:
                self.findings.add(LOST, f"consumed, and not in its checkpoint: {message}, {recorded}")

    # -- publications -------------------------------------------------------------------------

    def _look_at_publications(self, talk: Conversation, ids: Ids) -> None:
        third = talk.id("watching")
        self._succeeded(third)
        for publication in self._published(talk, "meet", 2):
            if (publication.outcome, publication.taken_by) != ("taken", ids.second):
                self.findings.add(LOST, f"not taken by {ids.second}: {publication}")
                continue
            recorded = {answer.step: answer.value for answer in self.said.answers.get(ids.second, [])}
            if recorded.get(publication.taken_step or 0) != publication.value:
                self.findings.add(LOST, f"taken, and not in its checkpoint: {publication}, {recorded}")
        for name, seen in (("seen", 2), ("back", 1)):
            for publication in self._published(talk, name, 1):
                if publication.outcome is not None or publication.seen != seen:
                    self.findings.add(LOST, f"not seen {seen} times: {publication}")
        for publication in self._published(talk, "nobody", 1):
            if (publication.outcome, publication.seen) != ("expired", 0):
                self.findings.add(LOST, f"neither taken nor listed as unmatched: {publication}")
        self._compare(ids.second, self._answers(ids.second), [*numbered("meet", 2), "seen:0"])
        self._compare(third, self._answers(third), ["seen:0", "back:0"])

    def _published(self, talk: Conversation, name: str, count: int) -> list[Publication]:
        found = self._publications.get((name, talk.key), [])
        self._expected.update(map(id, found))
        self._compare(f"published {name} {talk.key}", [one.value for one in found], numbered(name, count))
        return found

    # -- values and streams -------------------------------------------------------------------

    def _look_at_shown(self, talk: Conversation, ids: Ids) -> None:
        entries = [entry for entry in self._entries.get(ids.first, []) if not entry[1]]
        self._compare(f"stream of {ids.first}", [value for value, _ in entries], LINES)
        if self._entries.get(ids.first, [])[-1:] != [(None, True)]:
            self.findings.add(LOST, f"the stream of {ids.first} has no end, or goes on behind it")
        if self.said.values.get(ids.first) != 2:
            self.findings.add(
                LOST, f"{ids.first} shows {self.said.values.get(ids.first)}, and set 2 at the end"
            )
        answers = self._answers(ids.second)
        states = [value for value in answers if isinstance(value, int)]
        self._compare(
            f"{ids.second} reads {talk.key}", [one for one in answers if not isinstance(one, int)], LINES
        )
        if states != sorted(states):
            self.findings.add(
                WENT_BACK, f"{ids.second} was shown {states} by {ids.first}, one after the other"
            )
        if len(states) != 2 or not set(states) <= {0, 1, 2} or states[1] < 1:
            self.findings.add(
                LOST, f"{ids.second} was shown {states} by {ids.first}: before and after its stream"
            )

    # -- deadlines ----------------------------------------------------------------------------

    def _look_at_deadlines(self, talk: Conversation, ids: Ids) -> None:
        """Whatever has a deadline ends before it, or is cancelled by it once; who waits is told the same."""
        outcomes = []
        for what in ("late", "late child", "quick"):
            workflow = talk.id(what)
            flow = self.said.flows.get(workflow)
            if flow is None:
                if what != "late child":  # its parent may have been cut off before
                    self.findings.add(LOST, f"{workflow} was not started")
                continue
            if what != "quick" and flow.status == "SUCCESS":
                self.findings.add(CUT_OFF, f"{workflow} has no end, and ended: {flow}")
            self._look_at_deadline(workflow, flow)
            if what != "late child":
                outcomes.append("cancelled" if flow.status == "CANCELLED" else "done")
        self._compare(ids.second, self._answers(ids.second), outcomes)

    def _look_at_deadline(self, workflow: str, flow: Flow) -> None:
        if flow.endings != 1:
            self.findings.add(
                TWICE if flow.endings else LOST, f"{workflow} ended {flow.endings} times: {flow}"
            )
        if flow.status == "SUCCESS":
            return
        if (flow.status, flow.end_reason) != ("CANCELLED", "timeout"):
            self.findings.add(
                CUT_OFF, f"{workflow} has neither ended nor been cancelled by its deadline: {flow}"
            )
        elif flow.deadline is None or flow.completed_at is None:
            self.findings.add(CUT_OFF, f"{workflow} was cut off without a deadline: {flow}")
        elif not 0 <= flow.completed_at - flow.deadline <= self._late_ms:
            late = (flow.completed_at - flow.deadline) / 1000
            self.findings.add(CUT_OFF, f"{workflow} was cut off {late:.3f} s after its deadline: {flow}")

    # -- queues -------------------------------------------------------------------------------

    def _look_at_queued(self, talk: Conversation, ids: Ids) -> None:
        self._succeeded(talk.id("delayed"))
        self._compare(ids.second, self._answers(ids.second), ["done"] * 3)

    # -- all ----------------------------------------------------------------------------------

    def _succeeded(self, workflow: str) -> None:
        flow = self.said.flows.get(workflow)
        if flow is None or flow.status != "SUCCESS":
            self.findings.add(LOST, f"{workflow} has not succeeded: {flow}")

    def _answers(self, workflow: str) -> list[object]:
        return [answer.value for answer in self.said.answers.get(workflow, [])]

    def _compare(self, what: str, found: Sequence[object], expected: Sequence[object]) -> None:
        """The same values, each as often; and, where nothing else is wrong, in the same order."""
        here, there = Counter(found), Counter(expected)
        if here == there:
            if list(found) != list(expected):
                self.findings.add(DISORDER, f"{what}: {list(found)}, not {list(expected)}")
            return
        for value, count in (there - here).items():
            self.findings.add(LOST, f"{what}: {value!r} is missing: {list(found)}", count)
        for value, count in (here - there).items():
            kind = TWICE if value in there else STRANGE
            self.findings.add(kind, f"{what}: {value!r} is too many: {list(found)}", count)

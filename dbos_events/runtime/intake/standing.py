"""Keeps the consumers of this process in step with what their rows say: paused, breaker, trial."""

from __future__ import annotations

import threading
from datetime import UTC, datetime

from dbos_events.engine.core import Core
from dbos_events.model.consumer import ConsumerState
from dbos_events.model.event import Breaker
from dbos_events.runtime.intake.breaker import pause_ms, verdict_on
from dbos_events.runtime.intake.eventends import EventEnds, StandingOptions, Standstill, Watched
from dbos_events.runtime.intake.gate import Gate
from dbos_events.runtime.service import Service
from dbos_events.telemetry.log import logger

LOOK_SECONDS = 0.5
"""So often the rows are looked at; a signal makes it sooner."""


class ConsumerService(Service):
    """Opens and closes the gates of this process's consumers, and moves their breakers.

    The truth is on the consumers' rows, which all processes read twice a second. A breaker is moved by
    comparing its epoch, so of several processes that want the same one does it.
    """

    name = "consumers"
    signals = ("consumers",)

    def __init__(self, core: Core, ends: EventEnds) -> None:
        super().__init__(interval=LOOK_SECONDS)
        self._core = core
        self._ends = ends
        self._watched = ends.watched
        self._looking = threading.Lock()

    def watch(self, number: int, options: StandingOptions, gate: Gate, left: str) -> None:
        """Look after a consumer from now on; when this returns its gate is as its row says.

        `left` tells people what becomes of its events while it takes none in.
        """
        watched = Watched(number, options, gate, left, self._core)
        with self._looking:
            self._watched[number] = watched
        self.tick()

    def let_go(self) -> None:
        """As of every service; failures that were only counted are told before."""
        self._ends.finals.look(at_end=True)
        super().let_go()

    @property
    def standstills(self) -> dict[str, Standstill]:
        """The consumers of this process that take nothing in, by name."""
        return {
            watched.name: watched.standstill
            for watched in tuple(self._watched.values())
            if watched.standstill is not None
        }

    def tick(self) -> float | None:
        self._ends.finals.look()
        with self._looking:
            if not self._watched:
                return None
            moved = self._follow()
            return 0.0 if moved and self._follow() else None

    def _follow(self) -> bool:
        """Look at all rows once; True when one of them was changed here."""
        states = {state.id: state for state in self._core.storage.consumers.states(self._core.application)}
        moved = False
        for number, watched in tuple(self._watched.items()):
            state = states.get(number)
            if state is None:
                continue
            if state.epoch != watched.epoch and state.breaker is None:
                watched.tripped = None  # it was decided by what counts no more
                if watched.recent is not None:
                    watched.recent.clear()
            if self._move(watched, state):
                moved = True
            else:
                self._apply(watched, state)
            watched.epoch = state.epoch
        return moved

    # -- the breaker --------------------------------------------------------------------------

    def _move(self, watched: Watched, state: ConsumerState) -> bool:
        """Change the breaker, if that is called for; True when its row was changed."""
        storage = self._core.storage
        if watched.breaker is None:
            return state.breaker is not None and storage.breakers.close(state.id, state.epoch)
        redriven, watched.redriven = watched.redriven, False
        if state.breaker is None:
            return self._open_if_tripped(watched, watched.breaker, state)
        watched.tripped = None
        if redriven:  # an event that had failed, and was let go by an operator, has ended well
            return storage.breakers.close(state.id, state.epoch)
        if state.breaker == "half-open" and self._note_trial(watched, state):
            return True
        return self._judge_trial(watched, watched.breaker, state)

    def _note_trial(self, watched: Watched, state: ConsumerState) -> bool:
        """Tell all processes which event was let in here, once."""
        epoch, workflow_id = watched.gate.trial or (None, None)
        if epoch != state.epoch or workflow_id is None or workflow_id == watched.trial:
            return False
        noted = self._core.storage.breakers.note_trial(state.id, state.epoch, workflow_id)
        watched.trial = workflow_id
        return noted

    def _open_if_tripped(self, watched: Watched, breaker: Breaker, state: ConsumerState) -> bool:
        reason, watched.tripped = watched.tripped, None
        if reason is None:
            return False
        pause = pause_ms(breaker, state.openings)
        return self._core.storage.breakers.open(state.id, state.epoch, reason, pause)

    def _judge_trial(self, watched: Watched, breaker: Breaker, state: ConsumerState) -> bool:
        storage = self._core.storage
        verdict = verdict_on(state.trial) if state.trial is not None else "unsettled"
        if verdict == "passed":
            return storage.breakers.close(state.id, state.epoch)
        if verdict == "failed":
            pause = pause_ms(breaker, state.openings)
            return storage.breakers.open(state.id, state.epoch, "the trial event failed", pause)
        if verdict == "running" or not state.due or state.paused_at is not None or not watched.gate.wanted:
            return False
        return storage.breakers.begin_trial(self._core.executor, state.id, state.epoch, pause_ms(breaker, 0))

    # -- the gate -----------------------------------------------------------------------------

    def _apply(self, watched: Watched, state: ConsumerState) -> None:
        if state.paused_at is not None:
            self._stand(watched, Standstill(_pause_text(state), wanted=True))
        elif state.breaker is None:
            self._go_on(watched)
        else:
            standstill = Standstill(_breaker_text(state), wanted=False, opened=state.standing == "open")
            ours = state.breaker == "half-open" and state.breaker_executor == self._core.executor
            if ours and state.trial is None and not state.due:
                watched.gate.try_one(state.epoch, standstill.text)
                self._say(watched, standstill)
            else:
                self._stand(watched, standstill)

    def _stand(self, watched: Watched, standstill: Standstill) -> None:
        watched.gate.close(standstill.text)
        self._say(watched, standstill)

    def _say(self, watched: Watched, standstill: Standstill) -> None:
        """Log each change of state once."""
        if standstill != watched.standstill:
            watched.standstill = standstill
            log = logger.error if standstill.opened else logger.info
            extra = {"consumer": watched.name}
            log("%s: %s. %s", watched.name, standstill.text, watched.left, extra=extra)

    def _go_on(self, watched: Watched) -> None:
        watched.gate.open()
        if watched.standstill is not None:
            watched.standstill = None
            logger.info("%s: events are taken in again.", watched.name, extra={"consumer": watched.name})


def _pause_text(state: ConsumerState) -> str:
    why = f": {state.paused_reason}" if state.paused_reason else ""
    return f"paused by {state.paused_by} at {_moment(state.paused_at)}{why}"


def _breaker_text(state: ConsumerState) -> str:
    text = f"the circuit breaker is {state.standing} since {_moment(state.standing_since)}: {state.breaker_reason}"
    if state.standing == "open":
        return f"{text}; a trial event is let in at {_moment(state.breaker_until)}"
    if state.trial is None:
        return f"{text}; the next event is the trial"
    return f"{text}; {state.trial.workflow_id} is the trial"


def _moment(milliseconds: int | None) -> str:
    return datetime.fromtimestamp((milliseconds or 0) / 1000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")

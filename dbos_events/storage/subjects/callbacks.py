"""Callbacks: tokens, as hashes, by which somebody outside may answer a workflow once."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Protocol

if TYPE_CHECKING:  # its rows are imported with DBOS, and the database not before the launch
    from dbos_events.storage.database import Database, Tx


class NewCallback(NamedTuple):
    """One token; `deadline` is milliseconds since 1970."""

    token_hash: str
    application: str
    name: str
    workflow_id: str
    deadline: int


class AnsweredToken(NamedTuple):
    """Whether a token is known, and the workflow that its answer is for; None where its time is over."""

    known: bool
    workflow_id: str | None = None


class Callbacks(Protocol):
    """Opening and answering callbacks."""

    def open(self, callback: NewCallback) -> None:
        """Make a token known; safe to repeat."""
        ...

    def answer(self, application: str, token_hash: str) -> AnsweredToken:
        """Note that an answer came, unless the time is over and none came before; safe to repeat."""
        ...


class CallbackTable:
    """Callbacks over a database."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def open(self, callback: NewCallback) -> None:
        self._database.transact(lambda tx: tx.run("open_callback", **callback._asdict()))

    def answer(self, application: str, token_hash: str) -> AnsweredToken:
        def work(tx: Tx) -> AnsweredToken:
            named = {"token_hash": token_hash, "application": application}
            rows = tx.run("answer_callback", **named)
            if rows:
                return AnsweredToken(True, rows[0].workflow_id)
            return AnsweredToken(bool(tx.run("read_callback", **named)))

        return self._database.transact(work)

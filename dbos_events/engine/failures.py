"""Which checkpoints a failed run's error came from, and whether it gets another attempt (protocol, rule 6)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dbos_events.errors import DBOSArgumentsChangedError, DBOSUnexpectedStepError, Quarantine, TryAgain
from dbos_events.model.naming import parts_of_event_id
from dbos_events.serialization import error_summary, stored_error
from dbos_events.serialization.errors_codec import encode_error
from dbos_events.storage.writes import Failure, NextAttempt
from dbos_events.telemetry.log import logger

if TYPE_CHECKING:
    from dbos_events.engine.run import Run

MESSAGE_LIMIT = 2_000


def failed_steps(run: Run, error: BaseException) -> tuple[int, ...]:
    """The checkpoints that the next generation does not get.

    Those whose error `error` is or came from, by identity; and the calls that were cancelled after them,
    since it was the failure that cancelled them. Where no checkpoint is found behind the error, all that did
    not succeed; none when code and history disagree, or arguments have changed: no checkpoint is to blame for that.
    """
    if isinstance(error, (DBOSUnexpectedStepError, DBOSArgumentsChangedError)):
        return ()
    known = run.unsuccessful
    origins = _origins(error, {id(one.error) for one in known})
    found = [one for one in known if id(one.error) in origins]
    if found:
        first = min(one.order for one in found)
        found += [one for one in known if one.cancelled and one.order > first]
    return tuple(sorted({one.step for one in found or known}))


def _origins(error: BaseException, known: set[int]) -> set[int]:
    """The identities of the known errors that `error` was raised from, the nearest on each way."""
    found: set[int] = set()
    seen: set[int] = set()
    left: list[BaseException | None] = [error]
    while left:
        one = left.pop()
        if one is None or id(one) in seen:
            continue
        seen.add(id(one))
        if id(one) in known:
            found.add(id(one))
            continue
        if isinstance(one, BaseExceptionGroup):
            left += one.exceptions
        left.append(one.__context__ if one.__cause__ is None else one.__cause__)
    return found


def failure_of(run: Run, error: BaseException) -> Failure:
    """The error as it is stored; an event's with what filters and people ask for."""
    codec, text = stored_error(run.core.codecs.default, error)
    if run.origin is None:
        return Failure(codec, text, "", "", ())
    name, message, _ = error_summary(text)
    if not name:  # a codec of the user's own
        name, message, _ = error_summary(encode_error(error))
    return Failure(
        codec,
        text,
        name,
        message.replace("\0", "\\0")[:MESSAGE_LIMIT],
        failed_steps(run, error),
    )


def next_attempt(run: Run, error: Exception, failure: Failure) -> NextAttempt | None:
    """When the handler runs again after `error`; None when it does not.

    Only what the handler itself raised is tried again: not a refusal of the database, nor what cannot go
    better the next time.
    """
    retries = run.core.retries.get(run.origin.consumer) if run.origin is not None else None
    made = run.attempt + 1
    if retries is None or made >= retries.max_attempts:
        return None
    unavailable = isinstance(error, TryAgain)
    if run.verdict is not None and not unavailable:
        return None
    if isinstance(error, DBOSUnexpectedStepError) or _quarantine_in(error) is not None:
        return None
    if not unavailable and not _are_all(error, retries.retry_on):
        return None
    delay = retries.delay_after(made, run.core.chance())
    logger.info(
        "Workflow %s: attempt %d of %d failed (%s: %s); the next one begins in %.1f s.",
        *(run.id, made, retries.max_attempts, failure.type, failure.message.partition("\n")[0], delay),
        extra={
            "workflow_id": run.id,
            "attempt": made,
            "error_type": failure.type,
            **(parts_of_event_id(run.id) or {}),
        },
    )
    return NextAttempt(round(delay * 1000), made, "handler-failed", failure)


def reason_of(run: Run, error: Exception) -> str:
    """Why the event is put aside, as a word for filters."""
    asked = _quarantine_in(error)
    if asked is not None:
        return asked.reason
    if isinstance(error, (TryAgain, DBOSArgumentsChangedError)):
        return error.code
    if getattr(error, "version_mismatch", False):
        return "version-mismatch"
    return "attempts-exhausted" if run.attempt else "handler-failed"


def _quarantine_in(error: BaseException) -> Quarantine | None:
    """The handler's request to put the event aside, also where one of several branches made it."""
    if isinstance(error, BaseExceptionGroup):
        found = (_quarantine_in(one) for one in error.exceptions)
        return next((one for one in found if one is not None), None)
    return error if isinstance(error, Quarantine) else None


def _are_all(error: BaseException, classes: tuple[type[BaseException], ...]) -> bool:
    """Whether the error, or each one in the group that it is, is of these classes."""
    if isinstance(error, BaseExceptionGroup) and not isinstance(error, classes):
        return all(_are_all(one, classes) for one in error.exceptions)
    return isinstance(error, classes)

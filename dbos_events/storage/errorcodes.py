"""What an answer of the database means: about a value, or about the database itself.

Only what the database calls an error of the data is a workflow's fault. All else, also what nobody has thought of, is an
outage or a matter for an operator: the work waits and is done again.
"""

from __future__ import annotations

import re
import struct

import sqlalchemy as sa
from sqlalchemy import exc

from dbos_events.errors import BadWrite, DBOSException, StorageError, StorageUnavailable
from dbos_events.telemetry.log import redact

# https://www.postgresql.org/docs/current/errcodes-appendix.html: data exception, integrity constraint violation,
# program limit exceeded (a row or a key that is too large).
_DATA_CLASSES = ("22", "23", "54")
# https://www.sqlite.org/rescode.html: TOOBIG, CONSTRAINT, MISMATCH; the low byte of an extended code.
_DATA_CODES = (18, 19, 20)
# Raised by the drivers themselves: text that is no Unicode, numbers that are too large for their column.
UNSENDABLE: tuple[type[Exception], ...] = (UnicodeEncodeError, struct.error, OverflowError)
# Said by the drivers of a value whose type they do not know.
_UNSENDABLE_WORDS = ("cannot adapt type", "Error binding parameter")

# Said by the driver of SQLite of a text that is no UTF-8, with no code: a row is damaged, and the file answers.
_UNREADABLE_WORDS = "Could not decode to UTF-8"

LOST_PLAN = ("26000", "42P05")
"""The server does not know a statement that was prepared, or knows another one under its name."""

_HARMLESS_CLASSES = (*_DATA_CLASSES, "40", "55", "DE")
_HARMLESS_CODES = ("57014",)
_HARMLESS_SQLITE = (*_DATA_CODES, 5, 6, 9)
"""Answers after which the session is what it was: data, conflicts between transactions, locks, a cancelled statement."""

# What may hold for all sessions that were begun before: they are read-only, or gone, or of a server that has changed.
_ALL_SESSIONS_CLASSES = ("08", "25", "57P", "28", "26")
_ALL_SESSIONS_CODES = ("0A000", "42P05")

_REFUSALS = ("28", "3D")
_WORDS_AT_CONNECT = (
    (r'database ".*" does not exist', "3D000"),
    (
        r"password authentication failed|no password supplied|authentication failed|no pg_hba\.conf entry",
        "28P01",
    ),
    (r'role ".*" (does not exist|is not permitted to log in)', "28000"),
    (r"too many connections|too many clients|remaining connection slots", "53300"),
)
"""What a server says to somebody whom it does not let in, in its default language, and the state that it means."""
# Answers that another statement would get as well: of connections, sessions, roles, resources, conflicts, shutdowns.
_OF_THE_SERVER = ("08", "25", "26", "28", "3D", "40", "42P05", "53", "57P", "F0")
# PERM, BUSY, LOCKED, NOMEM, READONLY, INTERRUPT, IOERR, FULL, CANTOPEN, PROTOCOL, NOLFS, AUTH, NOTADB.
_OF_THE_FILE = (3, 5, 6, 7, 8, 9, 10, 13, 14, 15, 22, 23, 26)

_ADVICE = {
    "08": "It is asked again until it answers: see whether it runs and can be reached",
    "0A": "Look into the server's log",
    "25006": "It takes no changes: see whether it is a standby, or was made read-only for want of room",
    "28": "The server answers and refuses the login: see the role and its password in the URL of the system database "
    "(DBOS_SYSTEM_DATABASE_URL, or system_database_url), and pg_hba.conf",
    "3D000": "The server answers, and the database does not exist (any more): create or restore it (createdb), or name "
    "another in the URL of the system database (DBOS_SYSTEM_DATABASE_URL, or system_database_url)",
    "40": "Another transaction was in the way: it is done again by itself",
    "42501": "GRANT the role of the service its rights on the schema and all that is in it",
    "42": "The schema is not as this release made it: run `dbos-events migrate`, or restore what is missing",
    "3F000": "The schema is missing: run `dbos-events migrate`, or restore it",
    "53100": "Its disk is full: make room",
    "53200": "It has no memory left",
    "53300": "It takes no more connections: raise max_connections, or lower sys_db_pool_size",
    "55P03": "Somebody holds a lock: pg_locks and pg_stat_activity say which session",
    "57014": "Somebody, or a time limit, has cancelled the statement",
    "57P": "It was shut down or restarted, or somebody ended the session",
    "58": "Its storage or operating system fails: look into the server's log",
    "P0": "A trigger or function that is not of this package refuses it",
    "XX": "The server calls it an internal error, maybe of damaged data: look into its log",
    "F0": "The server's configuration is damaged: look into its log",
}
_SQLITE_ADVICE = {
    1: "The file is not as this release made it: run `dbos-events migrate`, or restore it",
    5: "Another process holds the file for long: see which one",
    6: "Another process holds the file for long: see which one",
    8: "The file, its folder or its disk is read-only: make it writable",
    10: "The disk fails: look into the system's log",
    11: "The file is damaged: restore it",
    13: "The disk is full: make room",
    14: "The file cannot be opened: see whether it and its folder are there, and may be read and written",
    26: "The file is not a SQLite database: restore it, or name another",
}


def meaning(error: BaseException) -> StorageError:
    """What a driver's error means, as text for people: no SQL, no values, no passwords."""
    if isinstance(error, UNSENDABLE):
        return BadWrite(f"The database cannot hold this value: {_unsendable(error)}.")
    if isinstance(error, exc.TimeoutError):
        waiting = StorageUnavailable(
            "No free connection within the pool's time limit. Raise sys_db_pool_size."
        )
        waiting.away = True  # so it is in an outage, too: connections wait for the server
        return waiting
    cause = cause_of(error)
    if isinstance(cause, DBOSException):
        return cause if isinstance(cause, StorageError) else StorageUnavailable(cause.message)
    if is_about_data(cause):
        return BadWrite(f"The database refuses a value: {said(cause)}")
    unavailable = StorageUnavailable(_with_advice(cause))
    code = _state_of(cause)
    unavailable.refused = isinstance(code, str) and code.startswith(_REFUSALS)
    if code is None and _is_unreadable(cause):
        return unavailable
    unavailable.away = code is None or (isinstance(code, str) and code.startswith(("08", "57P")))
    return unavailable


def cause_of(error: BaseException) -> BaseException:
    """What the driver raised, without SQLAlchemy around it."""
    original = error.orig if isinstance(error, exc.StatementError) else None
    return original or error


def is_about_data(cause: BaseException) -> bool:
    """Whether a value is to blame."""
    if isinstance(cause, UNSENDABLE):
        return True
    code = code_of(cause)
    if isinstance(code, str):
        return code.startswith(_DATA_CLASSES)
    if isinstance(code, int):
        return code in _DATA_CODES
    kinds = {kind.__name__ for kind in type(cause).__mro__}
    if kinds & {"DataError", "IntegrityError"}:
        return True
    return bool(kinds & {"ProgrammingError", "InterfaceError"}) and any(
        words in str(cause) for words in _UNSENDABLE_WORDS
    )


def spoils_session(error: BaseException) -> bool:
    """Whether the session may not be what it was, so that its connection is not used again."""
    cause = cause_of(error)
    if is_about_data(cause) or _is_unreadable(cause):
        return False
    code = code_of(cause)
    if isinstance(code, str):
        return not (code.startswith(_HARMLESS_CLASSES) or code in _HARMLESS_CODES)
    return not (isinstance(code, int) and code in _HARMLESS_SQLITE)


def spoils_all_sessions(error: BaseException) -> bool:
    """Whether that may be so for the other sessions as well that are open."""
    if isinstance(error, exc.TimeoutError):  # the pool's own
        return False
    code = code_of(cause_of(error))
    if isinstance(code, str):
        return code.startswith(_ALL_SESSIONS_CLASSES) or code in _ALL_SESSIONS_CODES
    return code is None and spoils_session(error)


def refuses_statement(error: BaseException) -> bool:
    """Whether the database, as far as is known, is well and refuses what it was asked: it may take something else.

    An error that is none of the database's counts, too: a defect may concern one row only.
    """
    if not isinstance(error, StorageError):
        return isinstance(error, Exception)
    cause = cause_of(error.__cause__ or error)
    code = code_of(cause)
    if _is_unreadable(cause):
        return True
    if isinstance(code, str):
        return not code.startswith(_OF_THE_SERVER)
    if isinstance(code, int):
        return code not in _OF_THE_FILE
    return not isinstance(cause, (StorageError, exc.SQLAlchemyError, OSError)) and "OperationalError" not in {
        kind.__name__ for kind in type(cause).__mro__
    }


def _is_unreadable(cause: BaseException) -> bool:
    return _UNREADABLE_WORDS in str(cause) and "OperationalError" in {
        kind.__name__ for kind in type(cause).__mro__
    }


def code_of(cause: BaseException) -> str | int | None:
    """PostgreSQL's SQLSTATE, or SQLite's primary result code."""
    state = getattr(cause, "sqlstate", None)
    if state is not None:
        return str(state)
    number = getattr(cause, "sqlite_errorcode", None)
    return None if number is None else int(number) & 0xFF


def _state_of(cause: BaseException) -> str | int | None:
    """As `code_of`; of a failed attempt to connect, of which libpq tells no SQLSTATE, what its words say."""
    code = code_of(cause)
    if code is not None:
        return code
    text = str(cause)
    return next((state for words, state in _WORDS_AT_CONNECT if re.search(words, text)), None)


def said(cause: BaseException) -> str:
    """The server's first line: what follows it shows statements and rows."""
    diagnosis = getattr(cause, "diag", None)
    text = getattr(diagnosis, "message_primary", None) or str(cause).partition("\n")[0]
    code = getattr(cause, "sqlstate", None) or getattr(cause, "sqlite_errorname", None)
    kind = type(cause).__name__
    shown = f"{kind} {code}: {text}" if code else f"{kind}: {text}"
    return redact(shown.encode("utf-8", "backslashreplace").decode()).strip().rstrip(".").replace("\0", "\\0")


def _with_advice(cause: BaseException) -> str:
    code = _state_of(cause)
    advice = "Look into the server's log"
    if isinstance(code, int):
        advice = _SQLITE_ADVICE.get(code, "See whether the file and its disk are sound")
    elif code is not None:
        length = next((length for length in (5, 3, 2) if code[:length] in _ADVICE), 0)
        advice = _ADVICE.get(code[:length], advice)
    elif _is_unreadable(cause):
        advice = "A text in the file is damaged: mend or delete that row, or restore the file"
    elif isinstance(cause, (sa.exc.DBAPIError, OSError)) or "OperationalError" in {
        kind.__name__ for kind in type(cause).__mro__
    }:
        advice = _ADVICE["08"]
    return f"{said(cause)}. {advice}."


def _unsendable(error: BaseException) -> str:
    if isinstance(error, UnicodeEncodeError):
        return (
            f"text with {error.object[error.start : error.start + 1]!a}, which {error.encoding} does not have"
        )
    return str(error)

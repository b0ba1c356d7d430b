"""What code of a user has raised, told and passed on in such a way that it ends no thread and no loop of ours."""

from __future__ import annotations

import sys
import threading

from dbos_events.errors import DBOSException


def is_interrupt(error: BaseException) -> bool:
    """Whether the error is meant for the process: Ctrl-C, or an exit, on the main thread.

    An exit within an event loop is not: it would end all that runs there, for the sake of one event.
    """
    if threading.current_thread() is not threading.main_thread():
        return False
    return isinstance(error, KeyboardInterrupt) or (isinstance(error, SystemExit) and not _in_loop())


def _in_loop() -> bool:
    """Whether an event loop runs on this thread; asyncio takes long to import, and without it there is none."""
    events = sys.modules.get("asyncio.events")
    if events is None:
        return False
    try:
        events.get_running_loop()
    except RuntimeError:
        return False
    return True


def text_of(error: BaseException) -> str:
    """Return `str(error)`, or a remark where its class cannot make one."""
    try:
        return str(error)
    except BaseException as why:
        if is_interrupt(why):
            raise
        return f"<{type(error).__name__}.__str__ failed>"


def as_exception(error: BaseException, source: str) -> Exception:
    """Return the error itself, or what stands for one that is not an `Exception` and would pass all handlers.

    `source` is what raised it, for the message.
    """
    if isinstance(error, Exception):
        return error
    kind = type(error).__qualname__
    if isinstance(error, SystemExit):
        message = f"{source} called sys.exit({_shown(error.code)})."
    elif kind == "CancelledError":  # named, since asyncio takes long to import
        message = f"{source} ended with CancelledError: it awaited a task that was cancelled."
    else:
        message = f"{source} raised {kind}, which is not an Exception: {text_of(error)}"
    standing = DBOSException(message)
    standing.__cause__ = error
    return standing


def _shown(code: object) -> str:
    return repr(code) if code is None or type(code) in (int, str) else type(code).__name__

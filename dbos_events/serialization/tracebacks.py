"""From a traceback that was stored as text to one that an error can be raised with: the user's lines, where they were."""

from __future__ import annotations

import re
from pathlib import Path
from types import CodeType, FrameType, TracebackType

_BEGIN = "Traceback (most recent call last):\n"
_FRAME = re.compile(r'^  File "(?P<file>[^"\n]+)", line (?P<line>\d+), in (?P<name>[^\n]+)$', re.MULTILINE)
_OURS = str(Path(__file__).parents[1])
_MOST = 60


class _Stand(Exception):
    pass


def rebuilt(text: str) -> TracebackType | None:
    """The frames of the error that a stored traceback ends with, without those of this package; None without any.

    Never fails. The frames hold nothing but their place: whatever shows a traceback finds the lines by file and number.
    """
    _, found, last = text.rpartition(_BEGIN)
    if not found:
        return None
    frames = [match for match in _FRAME.finditer(last) if not match["file"].startswith(_OURS)]
    chain: TracebackType | None = None
    try:
        for match in reversed(frames[-_MOST:]):
            frame = _frame(match["file"], match["name"], int(match["line"]))
            chain = TracebackType(chain, frame, frame.f_lasti, int(match["line"]))
    except Exception:  # noqa: BLE001 - a text that only looks like one; the error matters more
        return None
    return chain


def _frame(file: str, name: str, line: int) -> FrameType:
    code: CodeType = compile("raise stand", file, "exec")
    units = len(code.co_code) // 2
    # All of it stands in this line, in no column (https://github.com/python/cpython/blob/main/Objects/locations.md).
    places = b"".join(bytes((0x80 | 13 << 3 | min(8, units - at) - 1, 0)) for at in range(0, units, 8))
    code = code.replace(co_name=name, co_firstlineno=line, co_linetable=places)
    try:
        exec(code, {"stand": _Stand, "__name__": name})  # noqa: S102 - the code is the constant above
    except _Stand as stand:
        inner = stand.__traceback__.tb_next if stand.__traceback__ is not None else None
        if inner is not None:
            return inner.tb_frame
    raise RuntimeError(name)

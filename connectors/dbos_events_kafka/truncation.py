"""What the client tells when leader epochs show that a log was cut."""

from __future__ import annotations

import re

_ENDS = re.compile(
    r"offset \d+ \(leader epoch (\d+)\): broker end offset is (\d+) \(offset leader epoch (\d+)\)"
)


def is_truncation(text: str) -> bool:
    """Whether it is this that the client reports, and not an offset out of the log's range."""
    return "truncat" in text.lower()


def first_new_offset(text: str) -> int | None:
    """The first offset that holds another record than the one that was taken in; None when that is not proved.

    The broker names the end that the epoch of our last record has in its log. An epoch has one leader, so up to
    there both logs are the same. When it names an older epoch, because it has nothing of ours, the logs may have parted
    before that one's end.
    """
    found = _ENDS.search(text)
    if found is None or found[1] != found[3]:
        return None
    return int(found[2])


def reason_of(text: str) -> str:
    """For people."""
    first = first_new_offset(text)
    where = "below the watermark" if first is None else f"at offset {first}"
    return f"the topic was truncated {where}, records that were taken in are gone from it ({text})"

"""Where a log was cut, as the client's words tell it, and only where they prove it."""

import pytest

from dbos_events_kafka.truncation import first_new_offset, is_truncation, reason_of

SAID = (
    "Partition log truncation detected at offset 10 (leader epoch {ours}): broker end offset is 6 (offset leader epoch "
    "{theirs}). Reset to INVALID.: Local: Partition log truncation detected (broker 3)"
)
SAME = SAID.format(ours=4, theirs=4)
OLDER = SAID.format(ours=4, theirs=2)
OUT_OF_RANGE = "Broker: Offset out of range (broker 3)"


def test_the_first_new_offset_is_the_end_of_the_epoch_that_both_logs_have() -> None:
    assert first_new_offset(SAME) == 6
    assert "truncated at offset 6," in reason_of(SAME)


def test_the_end_of_an_older_epoch_proves_no_offset() -> None:
    assert first_new_offset(OLDER) is None
    assert "truncated below the watermark," in reason_of(OLDER)


@pytest.mark.parametrize(("text", "expected"), [(SAME, True), (OLDER, True), (OUT_OF_RANGE, False)])
def test_an_offset_out_of_range_is_no_truncation(text: str, *, expected: bool) -> None:
    assert is_truncation(text) == expected
    assert is_truncation(text) or first_new_offset(text) is None

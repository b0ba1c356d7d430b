"""What is stored of a record comes back as it was, and another record is told apart."""

from hypothesis import assume, given
from hypothesis import strategies as st

from dbos_events.connect import Record
from dbos_events.runtime.encoding import fingerprint_of
from dbos_events.serialization.headers import decode_headers, encode_headers

HEADERS = st.lists(st.tuples(st.text(max_size=8), st.none() | st.binary(max_size=20)), min_size=1, max_size=4)


@given(HEADERS)
def test_headers_come_back_as_they_were(headers: list) -> None:
    assert decode_headers(encode_headers(headers)) == headers


RECORD = Record(0, 0, b"key", b"value", None, 1, 1700000000000, 0, None)
BYTES = st.none() | st.binary(max_size=20)


@given(BYTES, BYTES, BYTES, BYTES)
def test_another_record_under_the_same_offset_has_another_fingerprint(
    key: bytes | None, value: bytes | None, other_key: bytes | None, other_value: bytes | None
) -> None:
    assume((key, value) != (other_key, other_value))
    one = RECORD._replace(key=key, value=value)
    other = RECORD._replace(key=other_key, value=other_value)
    assert fingerprint_of(one) != fingerprint_of(other)


def test_the_fingerprint_tells_null_from_empty_and_times_apart() -> None:
    records = [
        RECORD,
        RECORD._replace(value=None),
        RECORD._replace(value=b""),
        RECORD._replace(key=None),
        RECORD._replace(key=b""),
        RECORD._replace(timestamp=RECORD.timestamp + 1),
    ]
    assert len({fingerprint_of(record) for record in records}) == len(records)
    assert all(0 <= fingerprint_of(record) < 2**63 for record in records)

"""The id of an event names its place, and no other event can have it."""

from hypothesis import assume, given
from hypothesis import strategies as st

from dbos_events.connect import Record
from dbos_events.runtime.encoding import decode_headers, encode_headers, fingerprint_of, id_prefix

GROUPS = st.text(min_size=1, max_size=20)
TOPICS = st.from_regex(r"[a-zA-Z0-9._-]{1,20}", fullmatch=True)
NUMBERS = st.integers(0, 2**31 - 1)
PLACES = st.tuples(GROUPS, TOPICS, NUMBERS, NUMBERS, st.integers(0, 2**62))
HOSTILE = st.text("-/%0123456789a", min_size=1, max_size=6)


def id_of(group: str, topic: str, incarnation: int, partition: int, offset: int) -> str:
    return f"{id_prefix(group, topic, incarnation, partition)}{offset}"


def test_ids_that_a_hyphen_would_have_joined_alike_differ() -> None:
    assert id_of("g", "a-1", 1, 2, 0) != id_of("2-g", "a", 1, 1, 0)
    assert id_of("g-1", "a", 1, 0, 0) != id_of("g", "1-a", 1, 0, 0)
    assert id_of("g", "a", 1, 1, 11) != id_of("g", "a", 1, 11, 1)


@given(PLACES, PLACES)
def test_two_places_never_share_an_id(one: tuple, other: tuple) -> None:
    assume(one != other)
    assert id_of(*one) != id_of(*other)


@given(HOSTILE, HOSTILE, HOSTILE, HOSTILE, st.integers(0, 12), st.integers(0, 12))
def test_separators_within_names_are_told_apart(
    group: str, topic: str, other_group: str, other_topic: str, partition: int, other_partition: int
) -> None:
    assume((group, topic, partition) != (other_group, other_topic, other_partition))
    assert id_of(group, topic, 1, partition, 1) != id_of(other_group, other_topic, 1, other_partition, 1)


@given(PLACES)
def test_the_id_tells_its_offset_and_partition(place: tuple) -> None:
    parts = id_of(*place).split("/")
    assert len(parts) == 6
    assert [int(part) for part in parts[3:]] == list(place[2:])


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

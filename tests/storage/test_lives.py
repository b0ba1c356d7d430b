"""Rules 7 to 9: lives of topics, halted partitions, and what operators decide about them."""

import pytest

from dbos_events.errors import BadWrite, ClusterChanged, RegistrationError, StaleTopic
from dbos_events.storage.sqldatabase import SqlStorage
from tests.storage.building import APP, change, kill, read, register
from tests.storage.racing import at_once
from tests.storage.topics import Topic, event, topic


def consumer(storage: SqlStorage, name: str = "orders", group: str = "group", topics: str = "orders") -> int:
    return storage.consumers.save(APP, name, "handle", group, [topics], "{}")


def retired(storage: SqlStorage) -> dict[int, bool]:
    return {
        row.id: bool(row.retired)
        for row in read(storage, "SELECT id, retired FROM {schema}.incarnations ORDER BY id")
    }


def gaps(storage: SqlStorage) -> list[tuple[int, int, int]]:
    rows = read(storage, "SELECT incarnation, first_offset, next_offset FROM {schema}.gaps ORDER BY id")
    return [(row.incarnation, row.first_offset, row.next_offset) for row in rows]


# ------------------------------------------------------------------ incarnations


def test_rule_8_another_id_is_another_life_and_the_one_before_is_retired(storage: SqlStorage) -> None:
    orders = consumer(storage)
    first = storage.lives.identify(orders, "cluster", "orders", "id-1")
    assert storage.lives.identify(orders, "cluster", "orders", "id-1") == first
    second = storage.lives.identify(orders, "cluster", "orders", "id-2")
    assert second != first
    assert retired(storage) == {first: True, second: False}


def test_rule_8_an_answer_that_names_a_retired_life_changes_nothing(storage: SqlStorage) -> None:
    orders = consumer(storage)
    for topic_id in ("id-1", "id-2"):
        latest = storage.lives.identify(orders, "cluster", "orders", topic_id)
    with pytest.raises(StaleTopic, match="id-1"):
        storage.lives.identify(orders, "cluster", "orders", "id-1")
    assert storage.lives.identify(orders, "cluster", "orders", "id-2") == latest


def test_rule_8_an_id_that_is_learnt_later_belongs_to_the_life_in_use(storage: SqlStorage) -> None:
    orders = consumer(storage)
    first = storage.lives.identify(orders, "", "orders", "")
    assert storage.lives.identify(orders, "cluster", "orders", "id-1") == first
    assert storage.lives.identify(orders, "cluster", "orders", "") == first
    assert storage.lives.identify(orders, "cluster", "orders", "id-2") != first


def test_rule_8_two_processes_that_learn_of_a_new_life_agree(
    storage: SqlStorage, other_storage: SqlStorage
) -> None:
    orders = consumer(storage)
    storage.lives.identify(orders, "cluster", "orders", "id-1")
    [one, two] = at_once(
        *(lambda s=s: s.lives.identify(orders, "cluster", "orders", "id-2") for s in (storage, other_storage))
    )
    assert one == two
    assert list(retired(storage).values()) == [True, False]


def test_rule_8_another_cluster_is_refused_until_it_is_adopted(storage: SqlStorage) -> None:
    orders = consumer(storage)
    first = storage.lives.identify(orders, "one", "orders", "id-1")
    storage.positions.create(orders, first, {0: (7, "earliest"), 1: (9, "earliest")})
    with pytest.raises(RegistrationError, match="nothing to decide"):
        storage.decisions.adopt_cluster(APP, "orders", "continue")
    for _ in range(2):
        with pytest.raises(ClusterChanged, match="adopt-cluster orders --continue"):
            storage.lives.identify(orders, "two", "orders", "id-9")
    assert storage.lives.history(orders, "orders").adopted is False

    assert storage.decisions.adopt_cluster(APP, "orders", "continue") == "two"
    second = storage.lives.identify(orders, "two", "orders", "id-9")
    history = storage.lives.history(orders, "orders")
    assert second != first
    assert (history.known, history.adopted, history.inherited) == (False, True, {0: 7, 1: 9})
    assert retired(storage) == {first: False, second: False}
    with pytest.raises(ClusterChanged, match="'orders' has read the cluster two"):
        storage.lives.identify(orders, "one", "orders", "id-1")


def test_rule_8_a_cluster_that_is_read_from_its_beginning_inherits_no_position(storage: SqlStorage) -> None:
    orders = consumer(storage)
    first = storage.lives.identify(orders, "one", "orders", "id-1")
    storage.positions.create(orders, first, {0: (7, "earliest")})
    with pytest.raises(ClusterChanged):
        storage.lives.identify(orders, "two", "orders", "id-9")
    storage.decisions.adopt_cluster(APP, "orders", "restart")
    storage.lives.identify(orders, "two", "orders", "id-9")
    assert storage.lives.history(orders, "orders").inherited == {}


def test_rule_7_what_is_subscribed_to_is_registered_once(storage: SqlStorage) -> None:
    orders = consumer(storage)
    assert storage.subscriptions.registered(orders) == frozenset()
    for _ in range(2):
        storage.subscriptions.register(orders, "^orders-.*")
    assert storage.subscriptions.registered(orders) == {"^orders-.*"}
    assert storage.subscriptions.registered(consumer(storage, "other", "another")) == frozenset()


# ------------------------------------------------------------------ moves that are no intake


def test_rule_7_a_watermark_is_never_asked_to_go_back(storage: SqlStorage) -> None:
    orders = topic(storage)
    executor = register(storage)
    epoch = orders.epoch(executor)
    orders.intake(executor, {0: (epoch, 0, 5)})
    with pytest.raises(BadWrite, match="never goes back"):
        orders.intake(executor, {0: (epoch, 5, 3)}, events=[])
    assert orders.watermark() == 5


def test_rule_7_offsets_that_are_gone_are_skipped_by_the_holder_alone(storage: SqlStorage) -> None:
    orders = topic(storage)
    executor, place = register(storage), (orders.consumer, orders.incarnation, 0)
    before = orders.epoch(executor)
    epoch = orders.epoch(executor)
    assert storage.positions.skip(executor, place, before, (0, 40), "gone") is False
    assert storage.positions.skip(executor, place, epoch, (3, 40), "gone") is False
    assert (orders.watermark(), gaps(storage)) == (0, [])
    for _ in range(2):  # the second time as after a lost answer
        assert storage.positions.skip(executor, place, epoch, (0, 40), "gone") is True
    assert (orders.watermark(), gaps(storage)) == (40, [(orders.incarnation, 0, 40)])
    assert storage.positions.read(APP)[0].detail == "gone"
    assert storage.decisions.clear_alarms(APP, "orders") == 1
    assert storage.positions.read(APP)[0].detail is None


def test_an_intake_of_conflicts_and_stale_partitions_names_the_stale_ones(storage: SqlStorage) -> None:
    orders = topic(storage, partitions=2)
    executor = register(storage)
    epochs = [orders.epoch(executor, partition) for partition in (0, 1)]
    orders.intake(executor, {0: (epochs[0], 0, 1)})
    orders.intake(executor, {0: (epochs[0], 1, 2)})
    change(storage, "UPDATE {schema}.watermarks SET next_offset = 1 WHERE partition = 0")
    other = [event(0, 1, fingerprint=2), event(1, 0)]
    result = orders.intake(executor, {0: (epochs[0], 1, 2), 1: (epochs[1] - 1, 0, 1)}, events=other)
    assert result.conflicts == {"e-0-1"}
    assert result.stale == {1}


# ------------------------------------------------------------------ halted partitions


def halted(storage: SqlStorage, divergence: int | None = None) -> tuple[Topic, int]:
    """A partition with five events that its holder has halted."""
    orders = topic(storage)
    executor = register(storage)
    orders.intake(executor, {0: (orders.epoch(executor), 0, 5)})
    storage.positions.halt(executor, (orders.consumer, orders.incarnation, 0), "truncated", divergence)
    return orders, executor


def test_rule_7_a_halt_lasts_over_assignments_and_shows_in_the_status(storage: SqlStorage) -> None:
    orders, executor = halted(storage)
    [position] = storage.positions.assign(executor, orders.consumer, orders.incarnation, [0])
    assert position.halted == "truncated"
    assert storage.positions.halted(orders.consumer, orders.incarnation) == {0}
    [state] = storage.positions.read(APP)
    assert (state.state, state.detail) == ("halted", "truncated")


def test_rule_7_only_the_holder_halts(storage: SqlStorage) -> None:
    orders = topic(storage)
    orders.epoch(register(storage))
    storage.positions.halt(
        register(storage, "other"), (orders.consumer, orders.incarnation, 0), "truncated", None
    )
    assert storage.positions.halted(orders.consumer, orders.incarnation) == frozenset()


def test_rule_7_a_truncated_partition_goes_on_as_a_branch_with_ids_of_its_own(storage: SqlStorage) -> None:
    orders, executor = halted(storage, divergence=3)
    decided = storage.decisions.resolve_truncation(APP, "orders", ("orders", 0), None)
    assert decided.next_offset == 3
    assert storage.lives.branches(orders.consumer, orders.incarnation) == {0: decided.incarnation}
    assert decided.incarnation != orders.incarnation
    assert storage.positions.halted(orders.consumer, orders.incarnation) == frozenset()
    assert storage.lives.identify(orders.consumer, "cluster", "orders", "id-1") == orders.incarnation
    [position] = storage.positions.assign(executor, orders.consumer, decided.incarnation, [0])
    assert (position.next_offset, position.halted) == (3, None)
    states = {state.incarnation: (state.state, state.next_offset) for state in storage.positions.read(APP)}
    assert states == {orders.incarnation: ("left", 5), decided.incarnation: (None, 3)}


def test_rule_7_a_branch_can_be_left_for_another(storage: SqlStorage) -> None:
    orders, executor = halted(storage)
    first = storage.decisions.resolve_truncation(APP, "orders", ("orders", 0), 4).incarnation
    storage.positions.assign(executor, orders.consumer, first, [0])
    storage.positions.halt(executor, (orders.consumer, first, 0), "truncated", None)
    second = storage.decisions.resolve_truncation(APP, "orders", ("orders", 0), 2).incarnation
    assert storage.lives.branches(orders.consumer, orders.incarnation) == {0: second}
    later = storage.lives.identify(orders.consumer, "cluster", "orders", "id-2")
    assert retired(storage) == {orders.incarnation: True, first: True, second: True, later: False}
    assert storage.lives.branches(orders.consumer, later) == {}


def test_rule_10_what_a_life_or_branch_that_is_over_holds_is_named_to_its_heirs(storage: SqlStorage) -> None:
    orders = topic(storage, lane=True)
    executor = register(storage)
    orders.intake(executor, {0: (orders.epoch(executor), 0, 2)})
    assert storage.lives.unfinished(orders.consumer, orders.incarnation) == {}
    storage.positions.halt(executor, (orders.consumer, orders.incarnation, 0), "truncated", 1)
    storage.decisions.resolve_truncation(APP, "orders", ("orders", 0), None)
    assert storage.lives.unfinished(orders.consumer, orders.incarnation) == {orders.incarnation: {0}}
    later = storage.lives.identify(orders.consumer, "cluster", "orders", "id-2")
    assert storage.lives.unfinished(orders.consumer, later) == {orders.incarnation: {0}}


def test_what_cannot_be_decided_is_refused_with_the_reason(storage: SqlStorage) -> None:
    halted(storage)
    for name, place, offset, reason in (
        ("nobody", ("orders", 0), 1, "has no consumer 'nobody'"),
        ("orders", ("bills", 0), 1, "no position in bills"),
        ("orders", ("orders", 0), None, "--from-offset"),
        ("orders", ("orders", 0), 6, "to its watermark 5"),
    ):
        with pytest.raises(RegistrationError, match=reason):
            storage.decisions.resolve_truncation(APP, name, place, offset)
    with pytest.raises(RegistrationError, match="not halted because of Kafka's committed offset"):
        storage.decisions.resolve_regression(APP, "orders", ("orders", 0), skip=False)
    storage.decisions.resolve_truncation(APP, "orders", ("orders", 0), 5)
    with pytest.raises(RegistrationError, match="is not halted"):
        storage.decisions.resolve_truncation(APP, "orders", ("orders", 0), 5)


@pytest.mark.parametrize(("skip", "following"), [(False, 5), (True, 9)])
def test_rule_7_a_regression_is_replayed_or_skipped_as_decided(
    storage: SqlStorage, skip: bool, following: int
) -> None:
    orders, executor = halted(storage)
    storage.positions.note_alarm((orders.consumer, orders.incarnation, 0), "went back", 9)
    decided = storage.decisions.resolve_regression(APP, "orders", ("orders", 0), skip=skip)
    assert decided.next_offset == following
    [position] = storage.positions.assign(executor, orders.consumer, orders.incarnation, [0])
    assert (position.next_offset, position.halted, position.regression) == (following, None, 9)
    assert gaps(storage) == ([(orders.incarnation, 5, 9)] if skip else [])


# ------------------------------------------------------------------ consumers


def test_rule_9_a_consumer_goes_on_under_another_group_where_it_stands(storage: SqlStorage) -> None:
    orders = topic(storage)
    executor = register(storage)
    orders.intake(executor, {0: (orders.epoch(executor), 0, 5)})
    with pytest.raises(RegistrationError, match="adopt-watermark orders --from-group group --to-group new"):
        consumer(storage, group="new")
    with pytest.raises(RegistrationError, match="Stop all its processes"):
        storage.decisions.adopt_watermark(APP, "orders", "group", "new")
    kill(storage, executor)
    with pytest.raises(RegistrationError, match="reads with the group 'group'"):
        storage.decisions.adopt_watermark(APP, "orders", "other", "new")

    storage.decisions.adopt_watermark(APP, "orders", "group", "new")
    assert consumer(storage, group="new") == orders.consumer
    assert orders.watermark() == 5
    assert storage.consumers.id_group(orders.consumer) == "group"
    with pytest.raises(RegistrationError, match="name the group 'group'"):
        consumer(storage, "other", group="group")


def test_rule_9_a_consumer_that_is_renamed_goes_on_where_it_stands(storage: SqlStorage) -> None:
    by_default = storage.consumers.save(APP, "orders", "handle", f"{APP}.orders", ["orders"], "{}")
    with pytest.raises(RegistrationError, match="rename-consumer orders bills"):
        storage.consumers.save(APP, "bills", "handle", f"{APP}.orders", ["orders"], "{}")
    assert storage.decisions.rename_consumer(APP, "orders", "bills") == f"{APP}.bills"
    assert storage.consumers.save(APP, "bills", "handle", f"{APP}.bills", ["orders"], "{}") == by_default
    assert storage.consumers.id_group(by_default) == f"{APP}.orders"
    named = consumer(storage, "audit", "chosen", "audits")
    assert storage.decisions.rename_consumer(APP, "audit", "auditor") == "chosen"
    assert consumer(storage, "auditor", "chosen", "audits") == named
    with pytest.raises(RegistrationError, match="already"):
        storage.decisions.rename_consumer(APP, "auditor", "bills")


@pytest.mark.parametrize(
    ("one", "other", "known", "refused"),
    [
        ("^orders-.*", "orders-eu", [], True),
        ("^orders-.*", "orders", [], False),
        ("^orders-.*", "^orders-.*", [], True),
        ("^orders-.*", "^.*-eu", [], False),
        ("^orders-.*", "^.*-eu", ["orders-eu"], True),
        ("^orders-.*", "^.*-eu", ["orders-us", "bills-eu"], False),
    ],
)
def test_rule_9_patterns_that_overlap_are_refused(
    storage: SqlStorage, one: str, other: str, known: list[str], refused: bool
) -> None:
    for name in known:
        storage.lives.save("cluster", name, "id")
    consumer(storage, "one", topics=one)
    if refused:
        with pytest.raises(RegistrationError, match="'one' and 'other' both read"):
            consumer(storage, "other", topics=other)
    else:
        consumer(storage, "other", topics=other)


def test_rule_9_a_new_topic_that_fits_two_consumers_is_read_by_neither(storage: SqlStorage) -> None:
    one = consumer(storage, "one", topics="^orders-.*")
    other = consumer(storage, "other", topics="^.*-eu")
    elsewhere = consumer(storage, "elsewhere", group="own", topics="^.*")
    for number in (one, other):
        with pytest.raises(RegistrationError, match="orders-eu fits what"):
            storage.subscriptions.check(number, "orders-eu")
    storage.subscriptions.check(one, "orders-us")
    storage.subscriptions.check(elsewhere, "orders-eu")

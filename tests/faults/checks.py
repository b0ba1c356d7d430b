"""What must hold of the effects and the rows, whatever happened on the way."""

from collections import defaultdict
from collections.abc import Collection, Sequence

from tests.faults.effects import Effect
from tests.faults.rows import Rows

STEPS = ("first", "second")


def assert_all_finished(rows: Rows, count: int, *, steps: int = len(STEPS)) -> None:
    """`count` events have succeeded, no more and no others, with one checkpoint for each of their steps."""
    assert rows.statuses() == {"SUCCESS": count}
    recorded = rows.query(
        "SELECT steps, count(*) FROM (SELECT w.id, count(c.workflow_id) AS steps FROM {t}workflows w "
        "LEFT JOIN {t}steps c ON c.workflow_id = w.id GROUP BY w.id) AS counted GROUP BY steps"
    )
    assert recorded == [(steps, count)]
    assert rows.unexplained_holes() == []


def assert_every_step_once(effects: Sequence[Effect], count: int) -> None:
    """Each of `count` events left both of its effects, once."""
    assert len({(effect.event, effect.step) for effect in effects}) == 2 * count
    assert len(effects) == 2 * count


def assert_repeats_are_explained(effects: Sequence[Effect], sound: Collection[int]) -> int:
    """No step ran twice in executors to which nothing was done; gives how many executions were repeats."""
    executions: dict[tuple[object, str], list[Effect]] = defaultdict(list)
    for effect in effects:
        executions[effect.event, effect.step].append(effect)
    for place, done in executions.items():
        unharmed = [effect for effect in done if effect.executor in sound]
        assert len(unharmed) <= 1, f"{place} ran more than once without a fault: {done}"
    return len(effects) - len(executions)


def assert_in_order(effects: Sequence[Effect]) -> None:
    """In each partition an event began when the one before it had done all, by the order of the effects.

    Only the step that a fault interrupted may come again, in another executor, before anything else.
    """
    last: dict[tuple[str, int], Effect] = {}
    for effect in effects:
        before = last.get((effect.topic, effect.partition))
        if before is not None:
            repeated = _position(effect) == _position(before) and effect.executor != before.executor
            assert repeated or _position(effect) > _position(before), f"{effect} came after {before}"
        last[effect.topic, effect.partition] = effect


def assert_in_order_per_key(effects: Sequence[Effect], keys: int) -> None:
    """As `assert_in_order`, for the events of each key, which is an offset modulo `keys`."""
    for key in range(keys):
        assert_in_order([effect for effect in effects if effect.offset % keys == key])


def assert_one_at_a_time(effects: Sequence[Effect]) -> None:
    """Over all partitions, an event did all its steps before another one began; in each partition in order."""
    assert_in_order(effects)
    began: list[object] = []
    for effect in effects:
        if not began or effect.event != began[-1]:
            began.append(effect.event)
    assert len(began) == len(set(began)), "the steps of two events are mixed"


def assert_nothing_skipped(effects: Sequence[Effect]) -> None:
    """When the events of a partition follow each other, none of them was left out on the way."""
    offsets: dict[tuple[str, int], set[int]] = defaultdict(set)
    for effect in effects:
        offsets[effect.topic, effect.partition].add(effect.offset)
    for place, seen in offsets.items():
        assert seen == set(range(len(seen))), place


def _position(effect: Effect) -> tuple[int, int]:
    return effect.offset, STEPS.index(effect.step)

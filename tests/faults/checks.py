"""What must hold of the effects and the rows, whatever happened on the way."""

from collections import defaultdict
from collections.abc import Collection, Sequence

from tests.faults.effects import Effect
from tests.faults.rows import Rows


def assert_all_finished(rows: Rows, count: int) -> None:
    """`count` events have succeeded, no more and no others, with one checkpoint for each of their steps."""
    assert rows.statuses() == {"SUCCESS": count}
    steps = rows.query(
        "SELECT steps, count(*) FROM (SELECT w.id, count(c.workflow_id) AS steps FROM {t}workflows w "
        "LEFT JOIN {t}checkpoints c ON c.workflow_id = w.id GROUP BY w.id) AS counted GROUP BY steps"
    )
    assert steps == [(2, count)]
    assert rows.unexplained_holes() == []


def assert_repeats_are_explained(effects: Sequence[Effect], faulted: Collection[str]) -> int:
    """A step ran again only after it had run in a process to which something was done; gives the repeats."""
    executions: dict[tuple[object, str], list[Effect]] = defaultdict(list)
    for effect in effects:
        executions[effect.event, effect.step].append(effect)
    repeats = 0
    for place, done in executions.items():
        repeats += len(done) - 1
        sound = [effect.worker for effect in done if effect.worker not in faulted]
        assert len(sound) <= 1, f"{place} ran more than once without a fault: {done}"
    return repeats


def assert_every_step_once(effects: Sequence[Effect], count: int) -> None:
    """Each of `count` events left both of its effects, once."""
    assert len(effects) == 2 * count
    assert len({(effect.event, effect.step) for effect in effects}) == 2 * count


def assert_in_order(effects: Sequence[Effect]) -> None:
    """In each partition an event began when the one before it had done all, by the order of the effects."""
    last: dict[tuple[str, int], tuple[int, int]] = {}
    for effect in effects:
        place = effect.topic, effect.partition
        now = effect.offset, ("first", "second").index(effect.step)
        before = last.get(place)
        assert before is None or now > before, f"{place}: {now} came after {before} (seq {effect.seq})"
        last[place] = now


def without_repeats(effects: Sequence[Effect]) -> list[Effect]:
    """The first execution of each step."""
    seen: set[tuple[object, str]] = set()
    first = []
    for effect in effects:
        if (effect.event, effect.step) not in seen:
            seen.add((effect.event, effect.step))
            first.append(effect)
    return first

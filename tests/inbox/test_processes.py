"""Several processes that accept pushed events of one application."""

from collections import Counter
from pathlib import Path

from tests.inbox.crew import Worker, crew, left, wait_until


def test_fifty_identical_deliveries_to_four_processes_start_one_workflow(
    database_url: str, tmp_path: Path
) -> None:
    effects = tmp_path / "effects"
    with crew(database_url, effects, 4) as workers:
        for round_ in range(3):
            order = [("plain", f"same-{round_}", "content", None)]
            for count, worker in zip((13, 13, 12, 12), workers, strict=True):
                worker.ask([order] * count)
            answers = [answer for worker in workers for (answer,) in worker.answer()]
            assert len(answers) == 50
            assert Counter(kind for kind, _, _ in answers) == {"accepted": 1, "duplicate": 49}
            assert len({workflow_id for _, workflow_id, _ in answers}) == 1
        wait_until(lambda: len(left(effects)) == 3)
    assert sorted(left(effects, "begins")) == ["same-0", "same-1", "same-2"]


def test_one_key_stays_in_order_over_processes_that_are_killed(database_url: str, tmp_path: Path) -> None:
    effects = tmp_path / "effects"
    names: dict[str, list[str]] = {key: [] for key in "abc"}
    with crew(database_url, effects, 3) as workers:
        for round_ in range(6):
            for turn, worker in enumerate(
                workers
            ):  # one after the other, so that the order of acceptance is known
                order = []
                for key in "abc":
                    names[key] += [f"{key}-{round_}-{turn}-{n}" for n in range(3)]
                    order += [("slow", name, "", key) for name in names[key][-3:]]
                worker.ask([order])
                (outcomes,) = worker.answer()
                assert {kind for kind, _, _ in outcomes} == {"accepted"}
            if round_ in (1, 3):
                victim = workers.pop(0)
                victim.kill()
                workers.append(Worker(database_url, effects))
                workers[-1].ready()
        total = sum(map(len, names.values()))
        wait_until(lambda: len(set(left(effects))) == total)
        for key in "abc":
            began = [name for name in left(effects, "begins") if name.startswith(key)]
            assert list(dict.fromkeys(began)) == names[key]
            assert len(began) <= total // 3 + 2, "only what was cut off is done again"


def test_what_a_killed_process_had_accepted_is_run_once_and_its_redelivery_starts_nothing(
    database_url: str, tmp_path: Path
) -> None:
    effects = tmp_path / "effects"
    order = [("plain", f"event-{number}", "", None) for number in range(40)]
    with crew(database_url, effects, 2) as workers:
        workers[0].ask([order[:20], order[20:]])
        workers[0].kill()  # nobody has heard what it answered
        workers[1].ask([order])
        (outcomes,) = workers[1].answer()
        assert {kind for kind, _, _ in outcomes} <= {"accepted", "duplicate"}
        wait_until(lambda: len(set(left(effects))) == 40)
    with_ends = Counter(left(effects))
    assert max(with_ends.values()) <= 2, "a step that was cut off may be done again, and no more often"

"""Which Python the contestants run on."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks import interpreter
from benchmarks.interpreter import Interpreter, choose, fastest_python

RUNNING = Path("/opt/running/python3")
OTHER = Path("/usr/bin/python3")


@pytest.fixture(autouse=True)
def _running(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(interpreter, "_running", lambda: RUNNING)
    fastest_python.cache_clear()
    yield
    fastest_python.cache_clear()


def probe(path: Path, seconds: float) -> Interpreter:
    return Interpreter(path, "3.11.0", seconds)


def test_a_faster_one_is_taken_by_its_best_time() -> None:
    probes = [probe(RUNNING, 0.10), probe(OTHER, 0.30), probe(RUNNING, 0.11), probe(OTHER, 0.07)]
    assert choose(probes).path == OTHER


def test_the_running_one_stays_where_no_other_is_clearly_faster() -> None:
    assert choose([probe(OTHER, 0.095), probe(RUNNING, 0.10)]).path == RUNNING


def test_any_is_good_where_the_running_one_is_not_to_be_used() -> None:
    assert choose([probe(OTHER, 0.2)]).path == OTHER


def test_one_can_be_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DBOS_EVENTS_BENCHMARK_PYTHON", sys.executable)
    named = fastest_python()
    assert named.version == ".".join(map(str, sys.version_info[:3]))
    assert named.seconds > 0


def test_what_is_named_and_is_no_python_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    false = tmp_path / "python"
    false.write_text("#!/bin/sh\nexit 1\n")
    false.chmod(0o755)
    monkeypatch.setenv("DBOS_EVENTS_BENCHMARK_PYTHON", str(false))
    with pytest.raises(ValueError, match=r"is no Python 3\.11 or later with venv"):
        fastest_python()

"""A few seconds of `fuzz.py`; `make fuzz` is ten minutes."""

from pathlib import Path

import pytest

from tests.connectors.webhooks.receiving.fuzz import fuzz

GROWTH_MB = 150.0


@pytest.mark.slow
def test_whatever_is_sent_is_answered_and_never_with_a_5xx(tmp_path: Path) -> None:
    report = fuzz(tmp_path, 6.0, seed=7)
    assert report.bad == []
    assert report.errors == []
    assert set(report.statuses) >= {200, 400, 401, 404}
    before, after = report.memory_mb
    assert after - before < GROWTH_MB

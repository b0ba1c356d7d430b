"""What a run tells: its table, how to repeat it, and where the evidence is when something is wrong."""

import json
from pathlib import Path

import pytest

from tests.chaos.findings import DISORDER, KINDS, Findings
from tests.chaos.plan import Plan
from tests.chaos.report import Report


def report(folder: Path, findings: Findings) -> Report:
    return Report(Plan(seed=7), 20.0, {"repeats explained": 5}, {"kill": 2}, findings, folder)


def test_a_run_without_findings_has_passed_and_says_what_repeats_it(tmp_path: Path) -> None:
    made = report(tmp_path, Findings())
    made.write()
    assert made.passed
    table = json.loads((tmp_path / "table.json").read_text())
    assert table["events/s"] == 1000
    assert table["faults"] == {"kill": 2}
    assert [table[kind] for kind in KINDS] == [0] * len(KINDS)
    assert "--seed 7" in table["command"]
    assert table["command"] in str(made)


@pytest.mark.parametrize("kind", KINDS)
def test_a_run_with_one_finding_of_any_kind_has_failed_and_names_its_evidence(
    kind: str, tmp_path: Path
) -> None:
    findings = Findings()
    findings.add(kind, "0/17 of them")
    made = report(tmp_path, findings)
    made.write()
    assert not made.passed
    assert json.loads((tmp_path / "table.json").read_text())[kind] == 1
    assert "0/17 of them" in (tmp_path / "findings.txt").read_text()
    assert str(tmp_path) in str(made)
    assert str(made).endswith("FAILED")


def test_of_many_violations_all_are_counted_and_the_first_are_told() -> None:
    findings = Findings()
    for number in range(1000):
        findings.add(DISORDER, f"event {number}")
    assert findings.counts[DISORDER] == 1000
    assert len(str(findings).splitlines()) < 50

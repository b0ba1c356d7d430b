"""Classes of the program that runs as `__main__` are found again, by itself and by others."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]

SHOP = """
import sys
from dataclasses import dataclass
from dbos_events.serialization import decode, encode

print("loaded", file=sys.stderr)

@dataclass
class Order:
    id: int

if __name__ == "__main__":
    if len(sys.argv) > 1:
        print(type(decode(sys.argv[1])) is Order)
    else:
        print(encode(Order(1)))
"""


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    (tmp_path / "shop.py").write_text(SHOP)
    return tmp_path


def run(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(folder)])}
    return subprocess.run(
        [sys.executable, *arguments], capture_output=True, text=True, check=False, cwd=folder, env=environment
    )


def test_a_module_that_runs_as_the_main_program_is_recorded_under_its_real_name(shop: Path) -> None:
    text = run(shop, "-m", "shop").stdout.strip()
    assert '"shop:Order"' in text

    elsewhere = run(shop, "-c", f"import shop, dbos_events.serialization as s; print(s.decode({text!r}))")
    assert elsewhere.stdout == "Order(id=1)\n"


@pytest.mark.parametrize("start", [["-m", "shop"], ["shop.py"]])
def test_the_main_program_is_not_imported_a_second_time(shop: Path, start: list[str]) -> None:
    text = run(shop, "-m", "shop").stdout.strip()

    reader = run(shop, *start, text)

    assert reader.stdout == "True\n"
    assert reader.stderr.count("loaded") == 1


def test_a_script_reads_what_it_wrote(shop: Path) -> None:
    text = run(shop, "shop.py").stdout.strip()

    assert run(shop, "shop.py", text).stdout == "True\n"


def test_others_are_told_why_they_cannot_read_what_a_script_wrote(shop: Path) -> None:
    text = run(shop, "shop.py").stdout.strip()

    elsewhere = run(shop, "-c", f"import dbos_events.serialization as s; s.decode({text!r})")

    assert "ran as the main program" in elsewhere.stderr

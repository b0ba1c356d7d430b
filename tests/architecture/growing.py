"""A copy of the package that grows by one thing, as "How to add" in CONTRIBUTING.md says; it counts the files."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
COPIED = ("dbos_events", "migrations", "tests/architecture")
MARKS = ("tests/__init__.py",)
"""Make `tests` of the copy the package that is found, not that of the checkout."""


class Growth:
    """A copy of the tree. `touched` are the source files that were changed or made."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        for name in COPIED:
            shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
        for name in MARKS:
            shutil.copy(ROOT / name, folder / name)
        self._before = self._texts()

    def _texts(self) -> dict[str, str]:
        files = (path for path in self.folder.rglob("*") if path.suffix in (".py", ".sql"))
        return {path.relative_to(self.folder).as_posix(): path.read_text() for path in files}

    @property
    def touched(self) -> list[str]:
        """What is not as it was, or is new."""
        return sorted(name for name, text in self._texts().items() if self._before.get(name) != text)

    def change(self, file: str, *replacements: tuple[str, str]) -> None:
        """Replace each text wherever it stands in the file."""
        path = self.folder / file
        text = path.read_text()
        for old, new in replacements:
            assert old in text, f"{file} does not say {old!r} any more: mend this recipe, and CONTRIBUTING.md"
            text = text.replace(old, new)
        path.write_text(text)

    def add(self, file: str, text: str) -> None:
        """A new file, or more text at the end of one."""
        path = self.folder / file
        path.write_text((path.read_text() if path.exists() else "") + text)

    def run(self, *command: str, **environment: str) -> str:
        """Run Python in the copy; gives what it prints."""
        known = {name: value for name, value in os.environ.items() if not name.startswith("DBOS")}
        done = subprocess.run(
            [sys.executable, *command],
            cwd=self.folder,
            env={**known, "PYTHONPATH": str(self.folder), **environment},
            capture_output=True,
            text=True,
            check=False,
            timeout=100,
        )
        assert done.returncode == 0, f"{done.stdout}{done.stderr}"
        return done.stdout

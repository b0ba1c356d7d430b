"""Writes the verbs of `DBOS` into dbos_events/facade.py: a line for each verb that an App has.

Run `make facade` after a verb was added to a class in dbos_events/api/.
"""

from __future__ import annotations

import inspect
import re
from pathlib import Path

from dbos_events.api.session import Session
from dbos_events.app import App

FILE = Path(__file__).parents[2] / "dbos_events" / "facade.py"
BEGIN = "    # Verbs, made by `make facade` out of the classes in dbos_events/api/.\n"
END = "    # End of the verbs.\n"


def families() -> list[type]:
    """The classes in dbos_events/api/ that App consists of, in the order of the facade."""
    return [
        kind for kind in App.__mro__ if kind.__module__.startswith("dbos_events.api.") and kind is not Session
    ]


def verbs_of(family: type) -> list[str]:
    """The verbs that a class brings, in the order of its file."""
    return [name for name, value in vars(family).items() if inspect.isfunction(value) and name[0] != "_"]


def lines() -> str:
    """The verbs as they stand in the facade, a block for each class."""
    blocks = [
        "".join(f"    {name} = _DEFAULT.{name}\n" for name in verbs_of(family)) for family in families()
    ]
    return "\n".join(block for block in blocks if block)


def made(text: str) -> str:
    """The facade with its verbs made anew."""
    pattern = re.compile(re.escape(BEGIN) + ".*?" + re.escape(END), re.DOTALL)
    return pattern.sub(lambda _: BEGIN + lines() + END, text)


if __name__ == "__main__":
    FILE.write_text(made(FILE.read_text()))

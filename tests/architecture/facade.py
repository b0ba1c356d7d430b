"""Writes the verbs of `DBOS` into dbos_events/api/surface.py: a line for each verb that an App has.

Run `make facade` after a verb was added to a class in dbos_events/api/.
"""

from __future__ import annotations

import inspect
import re
from pathlib import Path

from dbos_events.api import surface
from dbos_events.api.families import Family

FILE = Path(__file__).parents[2] / "dbos_events" / "api" / "surface.py"
BEGIN = "    # Verbs, made by `make facade` out of the classes in dbos_events/api/.\n"
END = "    # End of the verbs.\n"


def families() -> dict[str, list[type]]:
    """The classes in dbos_events/api/ that an App consists of, by the name that `surface` has them under."""
    named = {name: value for name, value in vars(surface).items() if isinstance(value, Family)}
    return {name: classes_of(value.load()) for name, value in named.items()}


def classes_of(family: type) -> list[type]:
    """The class and those that it is made of."""
    return [kind for kind in family.__mro__ if verbs_of(kind)]


def verbs_of(kind: type) -> list[str]:
    """The verbs that a class brings, in the order of its file."""
    return [name for name, value in vars(kind).items() if inspect.isfunction(value) and name[0] != "_"]


def lines() -> str:
    """The verbs as they stand in the file, a block for each class."""
    blocks = [
        "".join(f"    {verb} = {name}.{verb}\n" for verb in verbs_of(kind))
        for name, kinds in families().items()
        for kind in kinds
    ]
    return "\n".join(blocks)


def made(text: str) -> str:
    """The file with its verbs made anew."""
    pattern = re.compile(re.escape(BEGIN) + ".*?" + re.escape(END), re.DOTALL)
    return pattern.sub(lambda _: BEGIN + lines() + END, text)


if __name__ == "__main__":
    FILE.write_text(made(FILE.read_text()))

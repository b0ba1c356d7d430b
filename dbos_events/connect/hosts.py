"""The App that a connector declares on, where a program names none."""

from __future__ import annotations

import sys
from typing import Any


def default_host() -> Any:
    """The App behind `DBOS`.

    That stands above the layer that connectors see. So the package is asked for its public name, as a program asks it, and
    loads it where nobody has done so.
    """
    package = sys.modules[__name__.partition(".")[0]]
    return sys.modules[package.DBOS.__module__].default_app()

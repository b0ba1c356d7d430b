"""The App that a connector declares on, where a program names none."""

from __future__ import annotations

import importlib
from typing import Any


def default_host() -> Any:
    """The App behind `DBOS`. It stands above the layer that connectors see, so it is found when it is asked for."""
    return importlib.import_module("dbos_events.facade").default_app()

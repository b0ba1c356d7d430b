"""Find installed connectors. The core never imports one by name."""

from __future__ import annotations

from functools import lru_cache

from dbos_events.config import CONNECTORS
from dbos_events.connect.connector import Connector, PushConnector
from dbos_events.errors import ConnectorError


@lru_cache(maxsize=64)  # it goes through all that is installed, and is asked at declaration and at launch
def find_connector(name: str) -> Connector | PushConnector:
    """The connector of that name.

    Raises:
        ConnectorError: It is not installed, or what it needs is missing; says which extra to install.
    """
    # Takes 20 ms to import; programs without a consumer need none.
    from importlib.metadata import entry_points

    for entry in entry_points(group=CONNECTORS, name=name):
        try:
            loaded = entry.load()
        except ImportError as error:
            raise ConnectorError(
                f"The {name} connector needs a package that is not installed ({error}). "
                f"Install it with: pip install 'dbos-events[{name}]'"
            ) from error
        if not isinstance(loaded, (Connector, PushConnector)):
            raise ConnectorError(
                f"The entry point {entry.value} is not a Connector but {type(loaded).__name__}."
            )
        return loaded
    raise ConnectorError(
        f"There is no connector called {name!r}. Install it: pip install 'dbos-events[{name}]'"
    )

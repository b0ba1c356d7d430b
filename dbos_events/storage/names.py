"""Names in the database that the user gives."""

from __future__ import annotations

import re

from dbos_events.errors import ConfigurationError


def check_schema_name(schema: str) -> None:
    """Refuse what PostgreSQL would cut, fold or keep for itself.

    Raises:
        ConfigurationError: It is not a usable name.
    """
    if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_$-]{0,62}", schema):
        raise ConfigurationError(
            f"dbos_system_schema {schema!a} is not a usable name: ASCII letters, digits, _, $ and -, at most 63, "
            "and no digit, $ or - first."
        )
    if schema.startswith("pg_") or schema == "information_schema":
        raise ConfigurationError(
            f"dbos_system_schema {schema!r} is not a usable name: PostgreSQL keeps it for itself."
        )

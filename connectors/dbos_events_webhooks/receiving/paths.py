"""Which endpoint a path means. A slash at its end makes no difference: senders take a redirect for a failure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Generic, TypeVar

from dbos_events.errors import ConfigurationError

T = TypeVar("T")

MAX_PATH = 2048
_PARAMETER = re.compile(r"\{([a-zA-Z_][a-zA-Z0-9_]*)\}")
_LITERAL = re.compile(r"[A-Za-z0-9\-._~!$&'()*+,;=:@/]*")


class Paths(Generic[T]):
    """Paths such as `/stripe` and `/t/{tenant}/erp`; what has no parameter is looked for first."""

    def __init__(self) -> None:
        self._plain: dict[str, T] = {}
        self._patterns: list[tuple[re.Pattern[str], T]] = []

    def add(self, path: str, found: T) -> None:
        """Note a path that was checked."""
        if "{" in path:
            self._patterns.append((_pattern(path), found))
        else:
            self._plain[_bare(path)] = found

    def find(self, path: str) -> tuple[T, Mapping[str, str]] | None:
        """What a path means, with its parameters; None where it means nothing."""
        if len(path) > MAX_PATH:
            return None
        bare = _bare(path)
        plain = self._plain.get(bare)
        if plain is not None:
            return plain, {}
        for pattern, found in self._patterns:
            match = pattern.fullmatch(bare)
            if match is not None:
                return found, match.groupdict()
        return None


def checked_path(path: object) -> str:
    """The path of an endpoint, as it was declared.

    Raises:
        ConfigurationError: It cannot be one.
    """
    if not isinstance(path, str) or not path.startswith("/"):
        raise ConfigurationError(f"The path of an endpoint begins with a slash, and this is {path!r}.")
    literal = _PARAMETER.sub("", path)
    if not _LITERAL.fullmatch(literal):
        raise ConfigurationError(
            f"The path {path!r} has characters that a URL does not have, or a parameter that is not a name: "
            "'/t/{tenant}/erp'."
        )
    names = _PARAMETER.findall(path)
    if len(set(names)) < len(names):
        raise ConfigurationError(f"The path {path!r} names a parameter twice.")
    return path


def path_in(scope: Mapping[str, Any]) -> str:
    """The path below whatever this app is mounted under."""
    path: str = scope.get("path", "/")
    root: str = scope.get("root_path", "")
    if root and path.startswith(root) and path[len(root) : len(root) + 1] in ("", "/"):
        return path[len(root) :] or "/"
    return path


def _bare(path: str) -> str:
    return path.rstrip("/") or "/"


def _pattern(path: str) -> re.Pattern[str]:
    made, at = "", 0
    bare = _bare(path)
    for match in _PARAMETER.finditer(bare):
        made += re.escape(bare[at : match.start()]) + f"(?P<{match[1]}>[^/]+)"
        at = match.end()
    return re.compile(made + re.escape(bare[at:]), re.DOTALL)

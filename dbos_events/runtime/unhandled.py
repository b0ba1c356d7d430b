"""The alarm for work that no live process can run."""

from __future__ import annotations

from dbos_events.engine.core import Core
from dbos_events.telemetry.log import logger

LOOK_SECONDS = 30.0


class UnhandledAlarm:
    """Looks every half minute for work whose function nobody has; says once what it is."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self._look_at = 0.0
        self._known: dict[str, int] = {}
        self._versions: dict[str, int] = {}

    @property
    def problems(self) -> list[str]:
        """One line for each function."""
        return [
            f"no-handler: no live process has the function {name!r}; at least {waiting} workflows of it wait"
            for name, waiting in sorted(self._known.items())
        ] + [_old_version(version, waiting) for version, waiting in self._versions.items()]

    def look(self) -> None:
        """Look, if it is time."""
        now = self._core.clock.monotonic()
        if now < self._look_at:
            return
        self._look_at = now + LOOK_SECONDS
        here = self._core.registry.workflows  # what was registered after launch, too
        found = {
            row.name: row.waiting
            for row in self._core.storage.unhandled.functions(self._core.application)
            if row.name not in here
        }
        for name in sorted(found.keys() - self._known.keys()):
            logger.error(
                "No live process of %s has the function %r: at least %d workflows of it wait (no-handler). They go on "
                "when a process registers it; if it was renamed, give it its old name: @DBOS.workflow(name=...).",
                self._core.application,
                name,
                found[name],
            )
        for name in sorted(self._known.keys() - found.keys()):
            logger.info("Workflows of the function %r wait for a process no more.", name)
        self._known = found
        if self._core.waits_for_version:
            self._look_for_versions()

    def _look_for_versions(self) -> None:
        core = self._core
        found = core.storage.unhandled.versions(core.application, core.version)
        for version in found.keys() - self._versions.keys():
            logger.warning("%s", _old_version(version, found[version]))
        self._versions = found


def _old_version(version: str, waiting: int) -> str:
    return (
        f"old-version: at least {waiting} started workflows wait for a process of version {version!r}; start one, or "
        "set on_old_version='replay'"
    )

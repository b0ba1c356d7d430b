"""The schema of the database: look at it, bring it to what this release needs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dbos_events.storage import migrate

if TYPE_CHECKING:
    from dbos_events.storage.migrate import SchemaState
    from dbos_events.storage.sqldatabase import SqlStorage


class SchemaControl:
    """What an operator may ask of a schema that may be missing, old or new, and do to it."""

    needed_revision = migrate.REVISION
    """The revision of this release."""

    def __init__(self, storage: SqlStorage) -> None:
        self._storage = storage

    def state(self) -> SchemaState:
        """Its revision; changes nothing."""
        return migrate.read_state(self._storage)

    def migrate(self) -> SchemaState:
        """Bring it to what this release needs; nothing is done when it fits already.

        Raises:
            MigrationRequired: The schema is too new for this release.
            StorageUnavailable: Another process held the migration lock for too long.
        """
        return migrate.migrate(self._storage)

    def verify(self) -> SchemaState:
        """Raise unless this release can work with it.

        Raises:
            MigrationRequired: It is missing, too old, or too new.
        """
        return migrate.verify(self._storage)

"""Migrated databases that tests use one after the other.

To migrate an empty database takes longer than most tests. So one is migrated, and the others are copies of it. A database
that a test gives back is emptied for the next one, under another name: what is left over of the test before, and would still
reach for its database, finds none, as if it had been dropped. One whose schema, rights or settings are not those of
the template any more, to which somebody is still connected, or that has grown, is dropped.
"""

import time
import uuid
from contextlib import suppress

import psycopg

from tests.servers.postgres import Postgres

SCHEMA = "dbos_events"
LEAVING_SECONDS = 1.0
LARGEST = 64 * 2**20

# All that a test may have changed besides rows.
SHAPE = """
SELECT md5(string_agg(line, E'\\n' ORDER BY line)) FROM (
    SELECT concat_ws(' ', 'relation', c.oid::regclass, relkind, relpersistence, relowner, relacl, reloptions, relrowsecurity)
    FROM pg_class c WHERE relnamespace = ANY (SELECT oid FROM ours) AND relkind <> 't'
    UNION ALL
    SELECT concat_ws(' ', 'column', attrelid::regclass, attname, atttypid::regtype, attnotnull, attacl,
        pg_get_expr(adbin, adrelid))
    FROM pg_attribute a JOIN pg_class c ON c.oid = attrelid
    LEFT JOIN pg_attrdef ON adrelid = attrelid AND adnum = attnum
    WHERE relnamespace = ANY (SELECT oid FROM ours) AND relkind <> 't' AND attnum > 0
    UNION ALL
    SELECT concat_ws(' ', 'index', pg_get_indexdef(indexrelid), indisvalid, indisready)
    FROM pg_index JOIN pg_class c ON c.oid = indexrelid WHERE relnamespace = ANY (SELECT oid FROM ours)
    UNION ALL
    SELECT concat_ws(' ', 'constraint', conrelid::regclass, conname, convalidated, pg_get_constraintdef(oid))
    FROM pg_constraint WHERE connamespace = ANY (SELECT oid FROM ours)
    UNION ALL
    SELECT concat_ws(' ', 'trigger', tgrelid::regclass, tgname, tgenabled) FROM pg_trigger WHERE NOT tgisinternal
    UNION ALL
    SELECT concat_ws(' ', 'function', oid::regprocedure, proowner, proacl, proconfig, md5(prosrc))
    FROM pg_proc WHERE pronamespace = ANY (SELECT oid FROM ours)
    UNION ALL
    SELECT concat_ws(' ', 'type', typname, typtype) FROM pg_type WHERE typnamespace = ANY (SELECT oid FROM ours)
    UNION ALL
    SELECT concat_ws(' ', 'schema', nspname, nspowner, nspacl) FROM pg_namespace WHERE oid = ANY (SELECT oid FROM ours)
    UNION ALL
    SELECT concat_ws(' ', 'rights', defaclrole, defaclobjtype, defaclacl) FROM pg_default_acl
    UNION ALL
    SELECT concat_ws(' ', 'extension', extname) FROM pg_extension
    UNION ALL
    SELECT concat_ws(' ', 'event trigger', evtname) FROM pg_event_trigger
    UNION ALL
    SELECT concat_ws(' ', 'setting', setrole, setconfig) FROM pg_db_role_setting
    WHERE setdatabase = (SELECT oid FROM pg_database WHERE datname = current_database())
    UNION ALL
    SELECT concat_ws(' ', 'database', datdba, datacl, datconnlimit, datallowconn)
    FROM pg_database WHERE datname = current_database()
) AS every (line)
"""
OURS = (
    r"WITH ours AS (SELECT oid FROM pg_namespace WHERE nspname !~ '^pg_' AND nspname <> 'information_schema')"
)
TABLES = "SELECT format('%%I.%%I', schemaname, tablename) FROM pg_tables WHERE schemaname = %s AND tablename"
KEPT = f"{TABLES} ~ '^schema_' ORDER BY 1".encode()
WIPED = f"{TABLES} !~ '^schema_' ORDER BY 1".encode()
COUNTERS = "SELECT format('%%I.%%I', schemaname, sequencename) FROM pg_sequences WHERE schemaname = %s"
OTHERS = """
SELECT count(*) FROM pg_stat_activity
WHERE datname = current_database() AND pid <> pg_backend_pid() AND backend_type = 'client backend'
"""


class MigratedDatabases:
    """Hands out databases of a server with our schema and without rows; one process uses it, one test after the other."""

    def __init__(self, server: Postgres) -> None:
        self._server = server
        self._made: set[str] = set()
        self._idle: list[str] = []
        self._template = ""
        self._shape = ""
        self._wipe = ""

    def take(self) -> str:
        """Return the URL of a database that nobody else uses."""
        if self._idle:
            return self._server.database_url(self._idle.pop())
        if not self._template:
            self._make_template()
        name = self._new_name()
        return self._server.create_database(name, template=self._template)

    def give_back(self, url: str) -> None:
        """Take back a database, emptied, or drop it."""
        name = url.rpartition("/")[2]
        self._made.discard(name)
        fresh = self._new_name()
        try:
            with psycopg.connect(
                url, autocommit=True, connect_timeout=10, options="-c lock_timeout=5s"
            ) as connection:
                usable = self._left(connection) and self._look(connection) == self._shape
                if usable:
                    connection.execute(self._wipe.encode())
            if usable:
                self._server.rename_database(name, fresh)
                self._idle.append(fresh)
                return
        except psycopg.Error:
            pass  # whatever was done to it: it is not used again
        self._made.discard(fresh)
        with suppress(psycopg.OperationalError):  # a test may have stopped its server
            self._server.drop_database(name)

    def close(self) -> None:
        """Drop all that is there."""
        for name in sorted(self._made):
            with suppress(psycopg.OperationalError):
                self._server.drop_database(name)

    def _make_template(self) -> None:
        from dbos_events.clock import SystemClock
        from dbos_events.storage.migrate import migrate
        from dbos_events.storage.opening import open_storage

        name = self._new_name()
        url = self._server.create_database(name)
        storage = open_storage(url, schema=SCHEMA, clock=SystemClock())
        migrate(storage)
        storage.close()
        with psycopg.connect(url, autocommit=True, connect_timeout=10) as connection:
            tables = [table for (table,) in connection.execute(WIPED, [SCHEMA]).fetchall()]
            counters = [counter for (counter,) in connection.execute(COUNTERS, [SCHEMA]).fetchall()]
            self._wipe = "; ".join(
                [
                    *(f"DELETE FROM {table}" for table in tables),
                    *(f"SELECT setval('{counter}', 1, false)" for counter in counters),
                ]
            )
            self._shape = self._look(connection)
        self._template = name

    def _look(self, connection: psycopg.Connection) -> str:
        """What must be as it was: the schema with its rights, the rows that tell of it, settings, how large it is."""
        parts = connection.execute(f"{OURS} {SHAPE}".encode()).fetchall()
        for (table,) in connection.execute(KEPT, [SCHEMA]).fetchall():
            parts += connection.execute(
                f"SELECT '{table}', array_agg(t::text) FROM {table} t".encode()
            ).fetchall()
        parts += connection.execute("SELECT pg_database_size(current_database()) > %s", [LARGEST]).fetchall()
        return repr(parts)

    def _left(self, connection: psycopg.Connection) -> bool:
        """Whether all others have left: a session ends a moment after its connection was closed."""
        until = time.monotonic() + LEAVING_SECONDS
        while connection.execute(OTHERS).fetchone() != (0,):
            if time.monotonic() > until:
                return False
            time.sleep(0.005)
        return True

    def _new_name(self) -> str:
        name = f"test_{uuid.uuid4().hex[:16]}"
        self._made.add(name)
        return name

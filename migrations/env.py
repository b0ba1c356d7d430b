"""Runs the migrations on the connection that `dbos_events.storage.migrate` opened.

The connection is inside one transaction and holds the migration lock; the schema's name comes
with it, because it is a setting (`dbos_system_schema`), never the search path.
"""

from alembic import context

connection = context.config.attributes["connection"]
schema = context.config.attributes["schema"]

context.configure(
    connection=connection,
    version_table="schema_version",
    version_table_schema=schema,
    transactional_ddl=False,
)
context.run_migrations()

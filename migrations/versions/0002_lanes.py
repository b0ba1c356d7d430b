"""Lanes by key and by topic.

Revision 0002. A lane's name says where it is (`3` for a partition, `3/key` for a key in it, `topic`),
and `lane_sequence` is the place in it. An event that was inserted behind another of its lane is `held`;
what is ready has an index of its own, so that a lane's holder finds it among any number of held ones.
"""

import sqlalchemy as sa
from alembic import context, op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

READY = (
    "lane_open AND status = 'PENDING' AND owner IS NULL AND wake_at IS NULL AND awaited_id IS NULL "
    "AND held IS NOT TRUE"
)


def upgrade() -> None:
    schema = context.config.attributes["schema"]
    on_postgres = op.get_bind().dialect.name == "postgresql"
    table = f'"{schema}".workflows' if schema else "workflows"
    op.drop_index("workflows_lane", "workflows", schema=schema)
    op.add_column("workflows", sa.Column("lane_sequence", sa.BigInteger(), nullable=True), schema=schema)
    if (
        on_postgres
    ):  # names of lanes are searched by their beginning, byte by byte; no row is rewritten for it
        op.execute(sa.DDL('ALTER TABLE "%s".workflows ALTER COLUMN lane TYPE text COLLATE "C"' % schema))  # noqa: UP031
    op.execute(
        sa.text(
            f"UPDATE {table} SET lane = CAST(partition AS text), lane_sequence = position "
            "WHERE lane IS NOT NULL"
        )
    )
    partial_index(
        schema, "workflows_lanes", ["consumer", "incarnation", "lane", "lane_sequence"], "lane_open"
    )
    partial_index(schema, "workflows_ready", ["consumer", "incarnation", "lane"], READY)
    op.create_table(
        "lanes",
        sa.Column("consumer", sa.Integer(), primary_key=True),
        sa.Column("incarnation", sa.Integer(), primary_key=True),
        sa.Column("lane", sa.Text(), primary_key=True),
        sa.Column("next_sequence", sa.BigInteger(), nullable=False),
        sa.Column("epoch", sa.BigInteger(), nullable=False),
        sa.Column("holder", sa.BigInteger(), nullable=True),
        sa.Column("updated_at", sa.BigInteger(), nullable=False),
        schema=schema,
    )
    op.add_column("watermarks", sa.Column("gate", sa.Text(), nullable=True), schema=schema)
    facts = sa.table("schema_facts", sa.column("name"), sa.column("value"), schema=schema)
    compatible = facts.update().where(facts.c.name == "min_compatible_revision")
    op.execute(compatible.values(value="0002"))  # older code names lanes otherwise


def partial_index(schema, name, columns, condition) -> None:
    where = sa.text(condition)
    op.create_index(name, "workflows", columns, schema=schema, postgresql_where=where, sqlite_where=where)

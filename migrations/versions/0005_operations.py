"""Paused consumers, circuit breakers, and the reasons of gaps.

Revision 0005. Every column is nullable or has a default, so processes of the release before go on
beside this one: they do not pause, and their watermarks have no first offset.
"""

from urllib.parse import quote

import sqlalchemy as sa
from alembic import context, op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    schema = context.config.attributes["schema"]
    op.add_column(
        "gaps", sa.Column("reason", sa.Text(), nullable=False, server_default="missing"), schema=schema
    )
    op.add_column("gaps", sa.Column("records", sa.BigInteger(), nullable=True), schema=schema)
    add_first_offsets(schema)
    add_pauses_and_breakers(schema)
    name_events(schema)
    op.add_column("executors", sa.Column("functions", sa.Text(), nullable=True), schema=schema)


def add_first_offsets(schema) -> None:
    """Where a watermark began: below it nothing has to be explained."""
    op.add_column("watermarks", sa.Column("first_offset", sa.BigInteger(), nullable=True), schema=schema)


def add_pauses_and_breakers(schema) -> None:
    for name, kind in (
        ("paused_at", sa.BigInteger()),
        ("paused_by", sa.Text()),
        ("paused_reason", sa.Text()),
        # NULL is closed, else `open` or `half-open`
        ("breaker", sa.Text()),
        ("breaker_reason", sa.Text()),
        ("breaker_since", sa.BigInteger()),
        ("breaker_until", sa.BigInteger()),
        ("breaker_executor", sa.BigInteger()),
        ("breaker_trial", sa.Text()),
    ):
        op.add_column("consumers", sa.Column(name, kind, nullable=True), schema=schema)
    for name in ("breaker_epoch", "breaker_openings"):
        column = sa.Column(name, sa.BigInteger(), nullable=False, server_default="0")
        op.add_column("consumers", column, schema=schema)


def name_events(schema) -> None:
    """What the ids of a consumer's events begin with, so that SQL finds an event by its offset."""
    op.add_column("consumers", sa.Column("id_prefix", sa.Text(), nullable=True), schema=schema)
    columns = (sa.column("id"), sa.column("group_id"), sa.column("id_prefix"))
    consumers = sa.table("consumers", *columns, schema=schema)
    connection = op.get_bind()
    for number, group in connection.execute(sa.select(consumers.c.id, consumers.c.group_id)).all():
        prefix = f"kafka/{quote(group, safe='')}/"
        connection.execute(consumers.update().where(consumers.c.id == number).values(id_prefix=prefix))

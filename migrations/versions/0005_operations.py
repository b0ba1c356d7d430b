"""Paused consumers, circuit breakers, and the reasons of gaps.

Revision 0005.
"""

import sqlalchemy as sa
from alembic import context, op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    schema = context.config.attributes["schema"]
    add_consumer_state(schema)


def add_consumer_state(schema) -> None:
    """What each process says of its consumers, for those that have no partition to say it of."""
    op.create_table(
        "source_states",
        sa.Column("consumer", sa.Integer(), primary_key=True),
        sa.Column("executor", sa.BigInteger(), primary_key=True),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("detail", sa.Text(), nullable=True),
        sa.Column("updated_at", sa.BigInteger(), nullable=False),
        schema=schema,
    )

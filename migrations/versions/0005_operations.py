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
    op.add_column(
        "gaps", sa.Column("reason", sa.Text(), nullable=False, server_default="missing"), schema=schema
    )
    op.add_column("gaps", sa.Column("records", sa.BigInteger(), nullable=True), schema=schema)

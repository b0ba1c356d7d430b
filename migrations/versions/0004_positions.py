"""Retired incarnations, branches, and what stands in the way of a partition.

Revision 0004. A branch is an incarnation of its own with the topic id of the one that it left, so the
ids of its events differ. Code of the release before would take an id that was retired for one in
use, and read a halted partition on, so it is kept out.
"""

import sqlalchemy as sa
from alembic import context, op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

IDENTITY = ["cluster_id", "topic", "topic_id"]


def upgrade() -> None:
    schema = context.config.attributes["schema"]
    with op.batch_alter_table("incarnations", schema=schema) as table:
        table.add_column(sa.Column("branch", sa.Integer(), nullable=False, server_default="0"))
        table.drop_constraint("incarnations_identity", type_="unique")
        table.create_unique_constraint("incarnations_identity", [*IDENTITY, "branch"])
    op.create_index("incarnations_topic", "incarnations", ["topic"], schema=schema)
    for name, kind in (
        ("reached", sa.BigInteger()),  # how far the log was read, what is no record included
        ("regression", sa.BigInteger()),  # Kafka's committed offset, when it was ahead of the watermark
        ("halted", sa.Text()),  # why the partition is not read, until an operator decides
        ("divergence", sa.BigInteger()),  # where the log is another one, as far as that is known
        ("alarm", sa.Text()),  # what happened to it last that somebody should know
    ):
        op.add_column("watermarks", sa.Column(name, kind, nullable=True), schema=schema)
    for name in ("cluster_id", "seen_cluster_id", "former_cluster_id", "adoption", "id_group"):
        op.add_column("consumers", sa.Column(name, sa.Text(), nullable=True), schema=schema)
    op.create_table(
        "subscriptions",
        sa.Column("consumer", sa.Integer(), primary_key=True),
        sa.Column("subscription", sa.Text(), primary_key=True),
        sa.Column("registered_at", sa.BigInteger(), nullable=False),
        schema=schema,
    )
    keep_what_is_known(schema)
    facts = sa.table("schema_facts", sa.column("name"), sa.column("value"), schema=schema)
    compatible = facts.update().where(facts.c.name == "min_compatible_revision")
    op.execute(compatible.values(value="0004"))


def keep_what_is_known(schema) -> None:
    """The cluster of each consumer, and the group that its ids name."""
    prefix = f'"{schema}".' if schema else ""
    op.execute(
        sa.text(
            f"UPDATE {prefix}consumers AS c SET id_group = c.group_id, cluster_id = ("
            f"SELECT max(i.cluster_id) FROM {prefix}watermarks AS m "
            f"JOIN {prefix}incarnations AS i ON i.id = m.incarnation WHERE m.consumer = c.id)"
        )
    )

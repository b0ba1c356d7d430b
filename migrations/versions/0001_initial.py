"""The first schema: executors, workflows with their payloads and checkpoints, events and their intake.

Revision 0001. One chain serves PostgreSQL and SQLite. The live table `workflows` is narrow:
payloads, results and raw records stand apart, and columns for what comes later (lanes by key,
retries, priorities, delays, deadlines) are there already, since adding an index or a table is
cheap and rewriting the live table is not. No foreign keys point at it.
"""

import sqlalchemy as sa
from alembic import context, op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

BIG = sa.BigInteger()
INT = sa.Integer()
FLAG = sa.Boolean()
TEXT = sa.Text()
BYTES = sa.LargeBinary()


def column(name, kind, *, null=False, default=None, key=False):
    server_default = None if default is None else sa.text(default)
    return sa.Column(name, kind, nullable=null, server_default=server_default, primary_key=key)


def text_key(name, **options):
    """An identifier: compared byte by byte, which is faster than by a language's rules."""
    on_postgres = op.get_bind().dialect.name == "postgresql"
    return column(name, sa.Text(collation="C") if on_postgres else TEXT, **options)


def numbered(name="id"):
    """A number that the database issues; SQLite needs INTEGER for that."""
    kind = BIG.with_variant(sa.Integer(), "sqlite")
    return sa.Column(name, kind, sa.Identity(always=False), primary_key=True)


def upgrade() -> None:
    schema = context.config.attributes["schema"]
    create_executors(schema)
    create_workflows(schema)
    create_values(schema)
    create_queues(schema)
    create_consumers(schema)
    create_events(schema)
    op.create_table(
        "schema_facts",
        column("name", TEXT, key=True),
        column("value", TEXT),
        schema=schema,
    )
    facts = sa.table("schema_facts", sa.column("name"), sa.column("value"), schema=schema)
    op.execute(facts.insert().values(name="min_compatible_revision", value="0001"))


def create_executors(schema) -> None:
    op.create_table(
        "executors",
        numbered(),
        column("application", TEXT),
        column("label", TEXT),
        column("explicit", FLAG),
        column("version", TEXT),
        column("boot_id", TEXT),
        column("pid_namespace", TEXT),
        column("pid", BIG),
        column("process_started", TEXT),
        column("alive", FLAG),
        column("heartbeat", BIG, default="0"),
        column("lease_until", BIG),
        column("started_at", BIG),
        column("ended_at", BIG, null=True),
        column("end_reason", TEXT, null=True),
        schema=schema,
    )


def create_workflows(schema) -> None:
    op.create_table(
        "workflows",
        text_key("id", key=True),
        column("application", TEXT),
        column("name", TEXT),
        column("status", TEXT),
        column("owner", BIG, null=True),
        column("take", INT, default="0"),
        column("crashes", INT, default="0"),
        column("generation", INT, default="0"),
        column("attempt", INT, default="0"),
        column("start_id", BIG, default="0"),
        column("version", TEXT, null=True),
        column("created_at", BIG),
        column("updated_at", BIG),
        column("started_at", BIG, null=True),
        column("completed_at", BIG, null=True),
        # waiting: for a time, for a workflow, for a queue
        column("wake_at", BIG, null=True),
        text_key("awaited_id", null=True),
        column("queue", TEXT, null=True),
        column("priority", INT, default="0"),
        column("deduplication_id", TEXT, null=True),
        column("queue_partition_key", TEXT, null=True),
        column("delay_until", BIG, null=True),
        column("timeout_ms", BIG, null=True),
        column("deadline", BIG, null=True),
        # family
        text_key("parent_id", null=True),
        text_key("root_id", null=True),
        text_key("forked_from", null=True),
        column("class_name", TEXT, null=True),
        column("config_name", TEXT, null=True),
        # the event that started it, and its place in a lane
        column("consumer", INT, null=True),
        column("incarnation", INT, null=True),
        column("partition", INT, null=True),
        column("position", BIG, null=True),
        column("lane", TEXT, null=True),
        column("lane_hash", BIG, null=True),
        column("lane_open", FLAG, null=True),
        column("held", FLAG, null=True),
        column("attributes", TEXT, null=True),
        column("authenticated_user", TEXT, null=True),
        column("authenticated_roles", TEXT, null=True),
        column("assumed_role", TEXT, null=True),
        column("schedule_name", TEXT, null=True),
        schema=schema,
    )
    # Each index equals the order of one query and holds only the rows that the query can want.
    partial_index(schema, "workflows_owned", ["owner"], "status = 'PENDING'")
    partial_index(
        schema, "workflows_waiting", ["queue", "priority", "created_at", "id"], "status = 'ENQUEUED'"
    )
    partial_index(schema, "workflows_on_queue", ["queue"], "status = 'PENDING' AND queue IS NOT NULL")
    partial_index(schema, "workflows_wake", ["wake_at"], "wake_at IS NOT NULL")
    partial_index(schema, "workflows_awaiting", ["awaited_id"], "awaited_id IS NOT NULL")
    partial_index(
        schema, "workflows_lane", ["consumer", "incarnation", "partition", "lane", "position"], "lane_open"
    )
    partial_index(schema, "workflows_parent", ["parent_id"], "parent_id IS NOT NULL")
    partial_index(
        schema,
        "workflows_deduplication",
        ["queue", "deduplication_id"],
        "deduplication_id IS NOT NULL AND status IN ('PENDING', 'ENQUEUED', 'DELAYED')",
        unique=True,
    )
    set_fillfactor(schema, "workflows", 85)


def create_values(schema) -> None:
    op.create_table(
        "payloads",
        text_key("workflow_id", key=True),
        column("codec", TEXT, null=True),
        column("input", TEXT, null=True),
        schema=schema,
    )
    op.create_table(
        "results",
        text_key("workflow_id", key=True),
        column("codec", TEXT, null=True),
        column("output", TEXT, null=True),
        column("error", TEXT, null=True),
        schema=schema,
    )
    op.create_table(
        "checkpoints",
        text_key("workflow_id", key=True),
        column("generation", INT, key=True),
        column("step", INT, key=True),
        column("call", TEXT),
        column("name", TEXT),
        column("completion_order", INT),
        column("arguments", TEXT, null=True),
        column("codec", TEXT, null=True),
        column("output", TEXT, null=True),
        column("error", TEXT, null=True),
        text_key("child_id", null=True),
        column("started_at", BIG, null=True),
        column("completed_at", BIG, null=True),
        column("writer", BIG),
        column("write_id", BIG),
        schema=schema,
    )


def create_queues(schema) -> None:
    op.create_table(
        "queues",
        column("application", TEXT, key=True),
        column("name", TEXT, key=True),
        column("concurrency", INT, null=True),
        column("worker_concurrency", INT, null=True),
        column("limiter_limit", INT, null=True),
        column("limiter_period", sa.Float(), null=True),
        column("updated_at", BIG),
        schema=schema,
    )
    op.create_table(
        "queue_starts",
        numbered(),
        column("application", TEXT),
        column("queue", TEXT),
        column("started_at", BIG),
        schema=schema,
    )
    op.create_index(
        "queue_starts_window", "queue_starts", ["application", "queue", "started_at"], schema=schema
    )


def create_consumers(schema) -> None:
    op.create_table(
        "consumers",
        numbered(),
        column("application", TEXT),
        column("name", TEXT),
        column("handler", TEXT),
        column("group_id", TEXT),
        column("topics", TEXT),
        column("settings", TEXT),
        column("updated_at", BIG),
        sa.UniqueConstraint("application", "name", name="consumers_name"),
        schema=schema,
    )
    op.create_table(
        "incarnations",
        numbered(),
        column("cluster_id", TEXT),
        column("topic", TEXT),
        column("topic_id", TEXT),
        column("retired", FLAG),
        column("created_at", BIG),
        sa.UniqueConstraint("cluster_id", "topic", "topic_id", name="incarnations_identity"),
        schema=schema,
    )
    op.create_table(
        "watermarks",
        column("consumer", INT, key=True),
        column("incarnation", INT, key=True),
        column("partition", INT, key=True),
        column("next_offset", BIG),
        column("leader_epoch", INT, null=True),
        column("reason", TEXT),
        column("epoch", BIG, default="0"),
        column("holder", BIG, null=True),
        column("end_offset", BIG, null=True),
        column("state", TEXT, null=True),
        column("detail", TEXT, null=True),
        column("updated_at", BIG),
        schema=schema,
    )
    op.create_table(
        "gaps",
        numbered(),
        column("consumer", INT),
        column("incarnation", INT),
        column("partition", INT),
        column("first_offset", BIG),
        column("next_offset", BIG),
        column("recorded_at", BIG),
        schema=schema,
    )
    op.create_index(
        "gaps_place", "gaps", ["consumer", "incarnation", "partition", "first_offset"], schema=schema
    )


def create_events(schema) -> None:
    op.create_table(
        "events",
        text_key("workflow_id", key=True),
        column("key", BYTES, null=True),
        column("value", BYTES, null=True),
        column("headers", TEXT, null=True),
        column("timestamp_type", INT),
        column("timestamp", BIG),
        column("leader_epoch", INT, null=True),
        column("latency", sa.Float(), null=True),
        column("fingerprint", BIG),
        schema=schema,
    )
    op.create_table(
        "quarantine",
        text_key("workflow_id", key=True),
        column("consumer", INT),
        column("reason", TEXT),
        column("error", TEXT, null=True),
        column("attempts", INT),
        column("quarantined_at", BIG),
        column("released_at", BIG, null=True),
        column("released_as", TEXT, null=True),
        schema=schema,
    )
    partial_index(schema, "quarantine_open", ["consumer"], "released_at IS NULL")


def partial_index(schema, name, columns, condition, *, unique=False) -> None:
    where = sa.text(condition)
    table = name.split("_")[0]
    op.create_index(
        name, table, columns, unique=unique, schema=schema, postgresql_where=where, sqlite_where=where
    )


def set_fillfactor(schema, table, percent) -> None:
    """Leave room in each page for the row's next version."""
    if op.get_bind().dialect.name == "postgresql":
        op.execute(sa.DDL('ALTER TABLE "%s"."%s" SET (fillfactor = %d)' % (schema, table, percent)))  # noqa: UP031

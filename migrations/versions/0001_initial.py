"""The first schema: executors, workflows with their payloads and checkpoints, events and their intake.

Revision 0001. One chain serves PostgreSQL and SQLite. The live table `workflows` is narrow:
payloads, results and raw records stand apart. No foreign keys point at it. Columns for what comes later (delays,
deadlines, attributes) are there where a later change of the live table would have to rewrite or to lock it for long.

The functions of PostgreSQL are no part of a revision: dbos_events/storage/functions.py makes those that are missing.
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

READY = (
    "lane_open AND status = 'PENDING' AND owner IS NULL AND wake_at IS NULL AND awaits IS NULL "
    "AND held IS NOT TRUE"
)


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
    create_parked_keys(schema)
    create_values(schema)
    create_messages(schema)
    create_publications(schema)
    create_callbacks(schema)
    create_queues(schema)
    create_debounces(schema)
    create_consumers(schema)
    create_events(schema)
    create_lanes(schema)
    create_seen(schema)
    create_generations(schema)
    create_decisions(schema)
    create_published(schema)
    create_schedules(schema)
    create_steps(schema)
    create_processes(schema)
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
        column("functions", TEXT, null=True),
        # random: a number may be issued again where a fail-over lost commits
        column("identity", BIG, default="0"),
        schema=schema,
    )


def create_processes(schema) -> None:
    # what each process tells, for people, of steps that have been running for some seconds
    op.create_table(
        "running_steps",
        text_key("workflow_id", key=True),
        column("number", INT, key=True),
        column("executor", BIG),
        column("name", TEXT),
        column("started_at", BIG),
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
        # waiting: for a time, for a key (`*`: for those in parked_keys), for a queue
        column("wake_at", BIG, null=True),
        text_key("awaits", null=True),
        column("queue", TEXT, null=True),
        column("priority", INT, default="0"),
        column("deduplication_id", TEXT, null=True),
        # where its deduplication id counts: it stays there when the workflow leaves its queue
        column("deduplication_queue", TEXT, null=True),
        text_key("queue_partition_key", null=True),
        # it may be run by its version only, also before it has begun
        column("version_pinned", FLAG, null=True),
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
        text_key("lane", null=True),
        column("lane_sequence", BIG, null=True),
        column("lane_open", FLAG, null=True),
        column("held", FLAG, null=True),
        column("attributes", TEXT, null=True),
        column("authenticated_user", TEXT, null=True),
        column("authenticated_roles", TEXT, null=True),
        column("assumed_role", TEXT, null=True),
        column("schedule_name", TEXT, null=True),
        column("own_checkpoints", TEXT, null=True),
        # until when it must be claimed; why it ended without a run of its own having said so
        column("start_by", BIG, null=True),
        column("end_reason", TEXT, null=True),
        # whether its end concerns somebody who is parked, beside its parent
        column("has_waiters", FLAG, null=True),
        schema=schema,
    )
    # Each index equals the order of one query and holds only the rows that the query can want.
    partial_index(schema, "workflows_owned", ["owner"], "status = 'PENDING'")
    partial_index(
        schema,
        "workflows_waiting",
        [sa.text("COALESCE(queue, '')"), "priority", "created_at", "start_id"],
        "status = 'ENQUEUED'",
    )
    partial_index(
        schema,
        "workflows_partitions",
        ["application", "queue", "queue_partition_key", "priority", "created_at", "start_id"],
        "status = 'ENQUEUED' AND queue_partition_key IS NOT NULL",
    )
    partial_index(
        schema,
        "workflows_on_queue",
        ["queue", "queue_partition_key"],
        "status = 'PENDING' AND queue IS NOT NULL",
    )
    partial_index(schema, "workflows_wake", ["wake_at"], "wake_at IS NOT NULL")
    partial_index(schema, "workflows_awaiting", ["awaits"], "awaits IS NOT NULL")
    partial_index(
        schema, "workflows_lanes", ["consumer", "incarnation", "lane", "lane_sequence"], "lane_open"
    )
    partial_index(schema, "workflows_ready", ["consumer", "incarnation", "lane"], READY)
    partial_index(schema, "workflows_parent", ["parent_id"], "parent_id IS NOT NULL")
    partial_index(
        schema,
        "workflows_deduplication",
        ["application", "deduplication_queue", "deduplication_id"],
        "deduplication_id IS NOT NULL AND status IN ('PENDING', 'ENQUEUED', 'DELAYED')",
        unique=True,
    )
    partial_index(
        schema,
        "workflows_deadline",
        ["deadline"],
        "deadline IS NOT NULL AND status IN ('PENDING', 'ENQUEUED', 'DELAYED')",
    )
    partial_index(
        schema,
        "workflows_start_by",
        ["start_by"],
        "start_by IS NOT NULL AND status IN ('ENQUEUED', 'DELAYED')",
    )
    partial_index(schema, "workflows_expired", ["consumer", "incarnation", "partition"], "status = 'EXPIRED'")
    set_fillfactor(schema, "workflows", 85)


def create_parked_keys(schema) -> None:
    """What a parked workflow waits for, where it waits for more than one key."""
    op.create_table(
        "parked_keys",
        text_key("workflow_id", key=True),
        text_key("key", key=True),
        column("take", INT),
        schema=schema,
    )
    op.create_index("parked_keys_key", "parked_keys", ["key"], schema=schema)


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
        column("recorded_in", INT, null=True),
        schema=schema,
    )


def create_messages(schema) -> None:
    """To workflows, numbered under the lock of their destination; with the step that consumed each."""
    op.create_table(
        "messages",
        numbered("number"),
        text_key("destination"),
        column("message_id", TEXT),
        column("topic", TEXT, null=True),
        column("codec", TEXT, null=True),
        column("value", TEXT, null=True),
        text_key("sender", null=True),
        column("sent_at", BIG),
        column("consumed_step", INT, null=True),
        column("consumed_at", BIG, null=True),
        sa.UniqueConstraint("destination", "message_id", name="messages_identity"),
        schema=schema,
    )
    partial_index(schema, "messages_waiting", ["destination", "number"], "consumed_step IS NULL")


def create_publications(schema) -> None:
    """Values under a name and a key, who waits for them, and the rows on which both sides meet."""
    op.create_table(
        "anchors",
        text_key("id", key=True),
        text_key("application"),
        text_key("name"),
        text_key("key"),
        sa.UniqueConstraint("application", "name", "key", name="anchors_identity"),
        schema=schema,
    )
    op.create_table(
        "publications",
        numbered("number"),
        text_key("anchor"),
        column("event_id", TEXT),
        column("codec", TEXT, null=True),
        column("value", TEXT, null=True),
        text_key("publisher", null=True),
        column("published_at", BIG),
        column("expires_at", BIG, null=True),
        column("seen", INT, default="0"),
        # NULL is open, else `taken`, `expired` (nobody saw it), `over` (somebody did) or `discarded`
        column("outcome", TEXT, null=True),
        column("decided_at", BIG, null=True),
        text_key("taken_by", null=True),
        column("taken_step", INT, null=True),
        # The workflow that is started when it expires, and with what
        column("on_expired", TEXT, null=True),
        column("on_expired_input", TEXT, null=True),
        sa.UniqueConstraint("anchor", "event_id", name="publications_identity"),
        schema=schema,
    )
    partial_index(schema, "publications_open", ["anchor", "number"], "outcome IS NULL")
    partial_index(schema, "publications_expiry", ["expires_at"], "outcome IS NULL AND expires_at IS NOT NULL")
    partial_index(schema, "publications_taken", ["taken_by"], "taken_by IS NOT NULL")
    partial_index(schema, "publications_expired", ["number"], "outcome = 'expired'")
    op.create_table(
        "waits",
        numbered("number"),
        text_key("anchor"),
        text_key("workflow_id"),
        column("step", INT),
        column("takes", FLAG),
        column("registered_at", BIG),
        sa.UniqueConstraint("workflow_id", "step", "anchor", name="waits_identity"),
        schema=schema,
    )
    op.create_index("waits_anchor", "waits", ["anchor", "number"], schema=schema)


def create_callbacks(schema) -> None:
    """Hashes of tokens by which somebody outside may answer a workflow once."""
    op.create_table(
        "callbacks",
        text_key("token_hash", key=True),
        column("application", TEXT),
        column("name", TEXT),
        text_key("workflow_id"),
        column("opened_at", BIG),
        column("deadline", BIG),
        column("answered_at", BIG, null=True),
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
        column("partition_concurrency", INT, null=True),
        column("partition_worker_concurrency", INT, null=True),
        column("partition_limiter_limit", INT, null=True),
        column("partition_limiter_period", sa.Float(), null=True),
        column("partitions", FLAG, default="false"),
        column("priority_ages", sa.Float(), null=True),
        column("polling_interval_sec", sa.Float(), default="1.0"),
        # another number after each change; a claim compares it
        column("revision", BIG),
        column("declared", FLAG, default="true"),
        column("version", TEXT, null=True),
        column("paused_at", BIG, null=True),
        column("paused_by", TEXT, null=True),
        column("paused_reason", TEXT, null=True),
        column("updated_at", BIG),
        schema=schema,
    )
    op.create_table(
        "queue_starts",
        numbered(),
        column("application", TEXT),
        column("queue", TEXT),
        text_key("queue_partition_key", null=True),
        column("started_at", BIG),
        schema=schema,
    )
    op.create_index(
        "queue_starts_window", "queue_starts", ["application", "queue", "started_at"], schema=schema
    )
    op.create_index(
        "queue_starts_partitions",
        "queue_starts",
        ["application", "queue", "queue_partition_key", "started_at"],
        schema=schema,
        postgresql_where=sa.text("queue_partition_key IS NOT NULL"),
        sqlite_where=sa.text("queue_partition_key IS NOT NULL"),
    )


def create_debounces(schema) -> None:
    """Of each workflow and key: the run that is put off, and the calls that belong to it."""
    op.create_table(
        "debounces",
        column("application", TEXT, key=True),
        column("name", TEXT, key=True),
        column("key", TEXT, key=True),
        text_key("workflow_id", null=True),
        column("limit_at", BIG, null=True),
        column("calls", INT),
        column("updated_at", BIG),
        schema=schema,
    )
    op.create_table(
        "debounce_members",
        column("call_id", BIG, key=True),
        text_key("workflow_id"),
        column("number", INT),
        column("codec", TEXT, null=True),
        column("input", TEXT, null=True),
        schema=schema,
    )
    op.create_index("debounce_members_run", "debounce_members", ["workflow_id", "number"], schema=schema)


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
        column("cluster_id", TEXT, null=True),
        column("seen_cluster_id", TEXT, null=True),
        column("former_cluster_id", TEXT, null=True),
        column("adoption", TEXT, null=True),
        # what the ids of its events begin with, so that SQL finds an event by its offset
        column("id_group", TEXT, null=True),
        column("id_prefix", TEXT, null=True),
        column("paused_at", BIG, null=True),
        column("paused_by", TEXT, null=True),
        column("paused_reason", TEXT, null=True),
        # NULL is closed, else `open` or `half-open`
        column("breaker", TEXT, null=True),
        column("breaker_reason", TEXT, null=True),
        column("breaker_since", BIG, null=True),
        column("breaker_until", BIG, null=True),
        column("breaker_executor", BIG, null=True),
        column("breaker_trial", TEXT, null=True),
        column("breaker_epoch", BIG, default="0"),
        column("breaker_openings", BIG, default="0"),
        column("connector", TEXT, null=True),
        column(
            "addresses", TEXT, null=True
        ),  # of consumers whose events are pushed: where they come in, as JSON
        sa.UniqueConstraint("application", "name", name="consumers_name"),
        schema=schema,
    )
    op.create_table(
        "subscriptions",
        column("consumer", INT, key=True),
        column("subscription", TEXT, key=True),
        column("registered_at", BIG),
        schema=schema,
    )
    op.create_table(
        "source_states",
        column("consumer", INT, key=True),
        column("executor", BIG, key=True),
        column("state", TEXT),
        column("detail", TEXT, null=True),
        column("updated_at", BIG),
        schema=schema,
    )
    create_positions(schema)


def create_positions(schema) -> None:
    op.create_table(
        "incarnations",
        numbered(),
        column("cluster_id", TEXT),
        column("topic", TEXT),
        column("topic_id", TEXT),
        column("retired", FLAG),
        column("created_at", BIG),
        # a branch has the topic id of the one that it left, so the ids of its events differ
        column("branch", INT, default="0"),
        sa.UniqueConstraint("cluster_id", "topic", "topic_id", "branch", name="incarnations_identity"),
        schema=schema,
    )
    op.create_index("incarnations_topic", "incarnations", ["topic"], schema=schema)
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
        column("end_at", BIG, null=True),  # when the holder last told the end
        column("reported_at", BIG, null=True),  # when it last told anything
        column("state", TEXT, null=True),
        column("detail", TEXT, null=True),
        column("updated_at", BIG),
        column("gate", TEXT, null=True),
        column("first_offset", BIG, null=True),  # below it nothing has to be explained
        column("reached", BIG, null=True),  # how far the log was read, what is no record included
        column("regression", BIG, null=True),  # Kafka's committed offset, when it was ahead of the watermark
        column("halted", TEXT, null=True),  # why the partition is not read, until an operator decides
        column("divergence", BIG, null=True),  # where the log is another one, as far as that is known
        column("alarm", TEXT, null=True),  # what happened to it last that somebody should know
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
        column("reason", TEXT, default="'missing'"),
        column("records", BIG, null=True),
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
        column("content_type", TEXT, null=True),  # of pushed events
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
        column("codec", TEXT, null=True),
        column("error_type", TEXT, null=True),
        column("error_message", TEXT, null=True),
        column("failed_steps", TEXT, null=True),
        schema=schema,
    )
    partial_index(schema, "quarantine_open", ["consumer"], "released_at IS NULL")
    partial_index(schema, "quarantine_waiting", ["quarantined_at", "workflow_id"], "released_at IS NULL")


def create_lanes(schema) -> None:
    """Lanes over several partitions, which count their events themselves."""
    op.create_table(
        "lanes",
        column("consumer", INT, key=True),
        column("incarnation", INT, key=True),
        text_key("lane", key=True),
        column("next_sequence", BIG),
        column("epoch", BIG),
        column("holder", BIG, null=True),
        column("updated_at", BIG),
        schema=schema,
    )


def create_seen(schema) -> None:
    """The ids of pushed events, which are remembered for longer than the events themselves."""
    op.create_table(
        "seen",
        text_key("digest", key=True),
        column("consumer", INT),
        column("fingerprint", TEXT),
        text_key("workflow_id", null=True),  # NULL where the consumer's `when` said no
        column("start_id", BIG),
        column("accepted_at", BIG),
        column("expires_at", BIG),
        schema=schema,
    )
    op.create_index("seen_expiry", "seen", ["expires_at"], schema=schema)
    partial_index(schema, "seen_filtered", ["consumer"], "workflow_id IS NULL")


def create_generations(schema) -> None:
    """How each generation ended, and from which point of its history on the next one may differ."""
    op.create_table(
        "generations",
        text_key("workflow_id", key=True),
        column("generation", INT, key=True),
        column("attempt", INT),
        column("ended_as", TEXT),
        column("reason", TEXT, null=True),
        column("codec", TEXT, null=True),
        column("error", TEXT, null=True),
        column("error_type", TEXT, null=True),
        column("error_message", TEXT, null=True),
        column("diverged_at", INT, null=True),
        column("ended_at", BIG),
        column("next_at", BIG),
        schema=schema,
    )


def create_decisions(schema) -> None:
    """The audit of what operators did, and the values that they gave an event in place of the received one."""
    op.create_table(
        "decisions",
        numbered(),
        text_key("workflow_id"),
        column("generation", INT),
        column("decision", TEXT),
        column("reason", TEXT, null=True),
        column("details", TEXT),
        column("decided_by", TEXT),
        column("decided_at", BIG),
        schema=schema,
    )
    op.create_index("decisions_workflow", "decisions", ["workflow_id", "id"], schema=schema)
    op.create_table(
        "edited_values",
        text_key("workflow_id", key=True),
        column("generation", INT, key=True),
        column("value", BYTES),
        column("edited_by", TEXT),
        column("edited_at", BIG),
        schema=schema,
    )


def create_published(schema) -> None:
    """What workflows show of themselves while they run: values by key, and streams."""
    op.create_table(
        "published_values",
        text_key("workflow_id", key=True),
        text_key("key", key=True),
        # the latest value is the one with the highest take, and the highest number within it
        column("take", INT, key=True),
        column("number", INT, key=True),
        column("generation", INT),
        column("step", INT),
        column("codec", TEXT, null=True),
        column("value", TEXT, null=True),
        column("writer", BIG),
        column("write_id", BIG),
        column("set_at", BIG),
        # the generation that does without it, since it does without the call
        column("cut_in", INT, null=True),
        schema=schema,
    )
    op.create_table(
        "stream_entries",
        text_key("workflow_id", key=True),
        text_key("stream", key=True),
        column("position", BIG, key=True),
        column("take", INT),
        column("generation", INT),
        column("step", INT),
        column("attempt", INT),
        # whether its call has ended well with this attempt; not known while it runs
        column("committed", FLAG, null=True),
        # an entry of a new attempt: the first position of what its call had written before
        column("resets", BIG, null=True),
        column("ends", FLAG),
        column("codec", TEXT, null=True),
        column("value", TEXT, null=True),
        column("writer", BIG),
        column("write_id", BIG),
        column("written_at", BIG),
        column("cut_in", INT, null=True),
        schema=schema,
    )


def create_schedules(schema) -> None:
    """Schedules, each change of one, and what became of every tick."""
    op.create_table(
        "schedules",
        text_key("application", key=True),
        text_key("name", key=True),
        column("schedule_id", TEXT),
        column("source", TEXT),
        # by which version of the application it was declared last; NULL where it was not declared in code
        column("version", TEXT, null=True),
        # the revision that the next tick follows, and the newest one
        column("revision", INT),
        column("latest", INT),
        # the last nominal time that was decided, local and which of two, from which the next one is computed
        column("position", TEXT),
        column("repeat", INT),
        # the instant of that; a change counts from then on at the earliest, also where the clock went back
        column("reached", BIG),
        column("due_at", BIG, null=True),
        column("next_at", BIG, null=True),
        column("last_run", TEXT, null=True),
        column("last_fired_at", TEXT, null=True),
        # a tick that waits for the end of the last run, as JSON
        column("buffered", TEXT, null=True),
        column("alarm", TEXT, null=True),
        column("created_at", BIG),
        column("updated_at", BIG),
        schema=schema,
    )
    op.create_index("schedules_due", "schedules", ["application", "due_at"], schema=schema)
    partial_index(schema, "schedules_buffered", ["application"], "buffered IS NOT NULL")
    op.create_table(
        "schedule_specs",
        text_key("application", key=True),
        text_key("name", key=True),
        column("revision", INT, key=True),
        column("valid_from", BIG),
        column("paused", FLAG),
        column("workflow_name", TEXT),
        column("class_name", TEXT, null=True),
        column("expression", TEXT),
        column("zone", TEXT, null=True),
        column("dst", TEXT),
        column("catch_up", TEXT),
        column("catch_up_window_ms", BIG),
        column("overlap", TEXT),
        column("jitter_ms", BIG),
        column("queue", TEXT, null=True),
        column("second", TEXT),
        column("codec", TEXT, null=True),
        column("context", TEXT, null=True),
        column("changed_by", TEXT),
        column("change_reason", TEXT, null=True),
        schema=schema,
    )
    op.create_table(
        "ticks",
        text_key("application", key=True),
        text_key("schedule", key=True),
        # `tick`, or `trigger`, which has no nominal time
        text_key("kind", key=True),
        text_key("nominal", key=True),
        text_key("zone", key=True),
        column("repeat", INT, key=True),
        # of a run of ticks with one outcome: when the last of them was due
        column("until", BIG, null=True),
        column("outcome", TEXT),
        column("due_at", BIG),
        column("decided_at", BIG),
        text_key("workflow_id", null=True),
        column("executor", BIG, null=True),
        column("detail", TEXT, null=True),
        schema=schema,
    )
    op.create_index("ticks_due", "ticks", ["application", "schedule", "due_at"], schema=schema)


def create_steps(schema) -> None:
    """The steps of both places, as a view: rows of their own, and those in the row of the workflow that ended with them."""
    bind = op.get_bind()
    if bind.dialect.name == "postgresql":
        quoted = bind.dialect.identifier_preparer.quote_identifier(schema)
        bind.exec_driver_sql(STEPS.format(schema=quoted, **ON_POSTGRESQL))
    else:
        bind.exec_driver_sql(STEPS.format(schema="main", **ON_SQLITE))


STEPS = """
CREATE VIEW {schema}.steps AS
SELECT workflow_id, generation, step, call, name, completion_order, arguments, codec, output, error, child_id,
       started_at, completed_at, writer, write_id, recorded_in
FROM {schema}.checkpoints
UNION ALL
SELECT w.id, w.generation, CAST({c[0]} AS int), {c[1]}, {c[2]}, CAST({c[3]} AS int), {c[4]}, {c[5]}, {c[6]}, {c[7]},
       {c[8]}{collated}, CAST({c[9]} AS bigint), CAST({c[10]} AS bigint), w.owner, CAST({c[11]} AS bigint),
       CAST(NULL AS int)
FROM {schema}.workflows AS w
CROSS JOIN {elements} AS c
WHERE w.own_checkpoints IS NOT NULL
"""

ON_POSTGRESQL = {
    "c": [f"(c.value ->> {number})" for number in range(12)],
    "collated": ' COLLATE "C"',
    "elements": "json_array_elements(CAST(w.own_checkpoints AS json))",
}
ON_SQLITE = {
    "c": [f"json_extract(c.value, '$[{number}]')" for number in range(12)],
    "collated": "",
    "elements": "json_each(w.own_checkpoints)",
}


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

"""Functions that do a whole transaction of what comes often: one exchange with the server, not six.

Revision 0006, PostgreSQL only. No table changes, so processes of the release before go on beside this
one. A function that changes later gets a new name, and the old one stays for them.

The statements are those of `dbos_events/storage/sql/` (a test compares them), less their `ON CONFLICT DO NOTHING`:
what is there already ends the function by its primary key, and need not be looked for row by row. Within a function
each statement sees what was committed before it began, as in a transaction of several exchanges: the fence holds. Its
plans are kept, so the settings leave the planner nothing but the primary keys: a plan made while the tables were empty
would read all of them later. `docs/storage.md` has the reasons.
"""

from alembic import context, op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    schema = context.config.attributes["schema"]
    if op.get_bind().dialect.name == "postgresql":
        quoted = op.get_bind().dialect.identifier_preparer.quote_identifier(schema)
        for function in (WRITE_PLAIN, WRITE_STEP, WRITE_STARTS, TAKE_IN):
            op.get_bind().exec_driver_sql(spelled(function, quoted))


def spelled(function: str, schema: str) -> str:
    """The function with its parts in their places."""
    for name, part in PARTS.items():
        function = function.replace(f"{{{name}}}", part)
    quotes = "$$"
    while quotes in schema:  # the body ends where they come again
        quotes = f"${quotes.strip('$')}q$"
    return function.replace("$$", quotes).replace("{schema}", schema)


SETTINGS = """SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off SET jit = off"""

NOW = "COALESCE(clock_now, CAST(EXTRACT(EPOCH FROM clock_timestamp()) * 1000 AS bigint))"

FENCE = """PERFORM id FROM {schema}.executors WHERE id = executor_id AND alive FOR KEY SHARE;
    IF NOT FOUND THEN
        RAISE EXCEPTION USING ERRCODE = 'DE001', MESSAGE = 'the executor is dead';
    END IF;"""

INSERT_CHECKPOINTS = """INSERT INTO {schema}.checkpoints
            (workflow_id, generation, step, call, name, completion_order, arguments, codec, output, error,
             child_id, started_at, completed_at, writer, write_id)
        SELECT u.workflow_id, u.generation, u.step, u.call, u.name, u.completion_order, u.arguments, u.codec,
               u.output, u.error, u.child_id, u.started_at, u.completed_at, executor_id, u.write_id
        FROM {rows}
            AS u(workflow_id, take, generation, step, call, name, completion_order, arguments,
                 codec, output, error, child_id, started_at, completed_at, write_id)
        JOIN {schema}.workflows AS w
          ON w.id = u.workflow_id
         AND CASE WHEN w.owner = executor_id AND w.take = u.take AND w.status = 'PENDING' THEN true ELSE false END"""

CHECKPOINT = """c_workflow_id, c_take, c_generation, c_step, c_call, c_name, c_completion_order, c_arguments,
                    c_codec, c_output, c_error, c_child_id, c_started_at, c_completed_at, c_write_id"""

PARTS = {
    "settings": SETTINGS,
    "now": NOW,
    "fence": FENCE,
    "insert_checkpoints": INSERT_CHECKPOINTS.replace("{rows}", f"unnest({CHECKPOINT})"),
    "insert_checkpoint": INSERT_CHECKPOINTS.replace("{rows}", f"(VALUES ({CHECKPOINT}))"),
}

WRITE_PLAIN = """
CREATE FUNCTION {schema}.write_plain(
    clock_now bigint, executor_id bigint,
    c_workflow_id text[], c_take int[], c_generation int[], c_step int[], c_call text[], c_name text[],
    c_completion_order int[], c_arguments text[], c_codec text[], c_output text[], c_error text[],
    c_child_id text[], c_started_at bigint[], c_completed_at bigint[], c_write_id bigint[],
    o_workflow_id text[], o_take int[], o_status text[], o_frees_lane bool[],
    r_workflow_id text[], r_codec text[], r_output text[], r_error text[]
) RETURNS void
LANGUAGE plpgsql
{settings}
AS $$
DECLARE
    now_ms bigint := {now};
    hit bigint;
BEGIN
    {fence}
    IF cardinality(c_workflow_id) > 0 THEN
        {insert_checkpoints};
        GET DIAGNOSTICS hit = ROW_COUNT;
        IF hit <> cardinality(c_workflow_id) THEN
            RAISE EXCEPTION USING ERRCODE = 'DE001', MESSAGE = 'a checkpoint was not written';
        END IF;
    END IF;
    IF cardinality(o_workflow_id) > 0 THEN
        UPDATE {schema}.workflows AS w
        SET status = u.status, completed_at = now_ms, updated_at = now_ms,
            lane_open = CASE WHEN u.frees_lane THEN NULL ELSE w.lane_open END
        FROM unnest(o_workflow_id, o_take, o_status, o_frees_lane) AS u(workflow_id, take, status, frees_lane)
        WHERE w.id = u.workflow_id
          AND CASE WHEN w.owner = executor_id AND w.take = u.take AND w.status = 'PENDING' THEN true ELSE false END;
        GET DIAGNOSTICS hit = ROW_COUNT;
        IF hit <> cardinality(o_workflow_id) THEN
            RAISE EXCEPTION USING ERRCODE = 'DE001', MESSAGE = 'an outcome was not written';
        END IF;
    END IF;
    IF cardinality(r_workflow_id) > 0 THEN
        INSERT INTO {schema}.results (workflow_id, codec, output, error)
        SELECT u.workflow_id, u.codec, u.output, u.error
        FROM unnest(r_workflow_id, r_codec, r_output, r_error) AS u(workflow_id, codec, output, error)
        WHERE true
        ON CONFLICT (workflow_id) DO UPDATE
        SET codec = excluded.codec, output = excluded.output, error = excluded.error;
    END IF;
END
$$
"""

# What write_plain does with one checkpoint alone, as it comes of steps one after the other: the arrays take as long as
# all else.
WRITE_STEP = """
CREATE FUNCTION {schema}.write_step(
    clock_now bigint, executor_id bigint,
    c_workflow_id text, c_take int, c_generation int, c_step int, c_call text, c_name text,
    c_completion_order int, c_arguments text, c_codec text, c_output text, c_error text,
    c_child_id text, c_started_at bigint, c_completed_at bigint, c_write_id bigint
) RETURNS void
LANGUAGE plpgsql
{settings}
AS $$
BEGIN
    {fence}
    {insert_checkpoint};
    IF NOT FOUND THEN
        RAISE EXCEPTION USING ERRCODE = 'DE001', MESSAGE = 'the checkpoint was not written';
    END IF;
END
$$
"""

# What is there already is no surprise here: people start workflows twice to be sure. So nothing is raised, which the
# server would log; the caller counts, and finds out by writing them again, statement by statement.
WRITE_STARTS = """
CREATE FUNCTION {schema}.write_starts(
    clock_now bigint, executor_id bigint,
    s_workflow_id text[], s_application text[], s_name text[], s_status text[], s_start_id bigint[], s_version text[],
    s_class_name text[], s_queue text[], s_priority int[], s_parent_id text[], s_root_id text[],
    s_codec text[], s_input text[]
) RETURNS bigint
LANGUAGE plpgsql
{settings}
AS $$
DECLARE
    now_ms bigint := {now};
    hit bigint;
BEGIN
    {fence}
    INSERT INTO {schema}.workflows
        (id, application, name, status, owner, take, start_id, version, class_name, queue, priority,
         parent_id, root_id, created_at, updated_at, started_at)
    SELECT u.workflow_id, u.application, u.name, u.status,
           CASE WHEN u.status = 'PENDING' THEN CAST(executor_id AS bigint) END,
           CASE WHEN u.status = 'PENDING' THEN 1 ELSE 0 END,
           u.start_id, u.version, u.class_name, u.queue, u.priority, u.parent_id, u.root_id, now_ms, now_ms,
           CASE WHEN u.status = 'PENDING' THEN now_ms END
    FROM unnest(s_workflow_id, s_application, s_name, s_status, s_start_id, s_version, s_class_name, s_queue, s_priority,
                s_parent_id, s_root_id)
        AS u(workflow_id, application, name, status, start_id, version, class_name, queue, priority, parent_id, root_id)
    WHERE true
    ON CONFLICT (id) DO NOTHING;
    GET DIAGNOSTICS hit = ROW_COUNT;
    INSERT INTO {schema}.payloads (workflow_id, codec, input)
    SELECT u.workflow_id, u.codec, u.input
    FROM unnest(s_workflow_id, s_codec, s_input, s_start_id) AS u(workflow_id, codec, input, start_id)
    JOIN {schema}.workflows AS w ON w.id = u.workflow_id AND w.start_id = u.start_id
    WHERE true
    ON CONFLICT (workflow_id) DO NOTHING;
    RETURN hit;
END
$$
"""

TAKE_IN = """
CREATE FUNCTION {schema}.take_in(
    clock_now bigint, executor_id bigint, consumer_id bigint, incarnation_id bigint,
    application_name text, workflow_name text, application_version text, queue_name text,
    m_partition int[], m_epoch bigint[], m_expected bigint[], m_next_offset bigint[], m_leader_epoch int[],
    l_lane text[],
    w_workflow_id text[], w_partition int[], w_position bigint[], w_lane text[], w_lane_sequence bigint[],
    w_owned bool[],
    e_workflow_id text[], e_key bytea[], e_value bytea[], e_headers text[], e_timestamp_type int[],
    e_timestamp bigint[], e_leader_epoch int[], e_latency float8[], e_fingerprint bigint[]
) RETURNS text
LANGUAGE plpgsql
{settings}
AS $$
DECLARE
    now_ms bigint := {now};
    behind text[] := '{}';
    hit bigint;
BEGIN
    {fence}
    WITH locked AS MATERIALIZED (
        SELECT partition, epoch, next_offset
        FROM {schema}.watermarks
        WHERE consumer = consumer_id AND incarnation = incarnation_id AND partition = ANY (m_partition)
        ORDER BY partition
        FOR UPDATE
    )
    SELECT count(*) INTO hit
    FROM unnest(m_partition, m_epoch, m_expected) AS u(partition, epoch, expected)
    JOIN locked AS l ON l.partition = u.partition AND l.epoch = u.epoch AND l.next_offset = u.expected;
    IF hit <> cardinality(m_partition) THEN
        RAISE EXCEPTION USING ERRCODE = 'DE001', MESSAGE = 'a watermark is not where it was';
    END IF;
    UPDATE {schema}.watermarks AS m
    SET next_offset = u.next_offset, leader_epoch = COALESCE(u.leader_epoch, m.leader_epoch),
        reason = 'taken in', updated_at = now_ms
    FROM unnest(m_partition, m_next_offset, m_leader_epoch) AS u(partition, next_offset, leader_epoch)
    WHERE m.consumer = consumer_id AND m.incarnation = incarnation_id AND m.partition = u.partition;
    IF cardinality(l_lane) > 0 THEN
        behind := ARRAY(
            SELECT l.lane
            FROM (SELECT DISTINCT u.lane AS lane FROM unnest(l_lane) AS u(lane)) AS l
            WHERE (SELECT 1 FROM {schema}.workflows AS w
                   WHERE w.consumer = consumer_id AND w.incarnation = incarnation_id AND w.lane = l.lane
                     AND w.lane_open
                   LIMIT 1) = 1);
    END IF;
    INSERT INTO {schema}.workflows
        (id, application, name, status, owner, take, start_id, version, queue, created_at, updated_at,
         consumer, incarnation, partition, position, lane, lane_sequence, lane_open, held)
    SELECT u.workflow_id, application_name, workflow_name,
           CASE WHEN CAST(queue_name AS text) IS NULL THEN 'PENDING' ELSE 'ENQUEUED' END,
           CASE WHEN u.owned THEN CAST(executor_id AS bigint) END,
           CASE WHEN u.owned THEN 1 ELSE 0 END,
           u.position, application_version, queue_name, now_ms, now_ms,
           consumer_id, incarnation_id, u.partition, u.position, u.lane, u.lane_sequence,
           CASE WHEN u.lane IS NOT NULL THEN true END, CASE WHEN u.lane IS NOT NULL THEN NOT u.owned END
    FROM (SELECT n.workflow_id, n.partition, n.position, n.lane, n.lane_sequence,
                 n.owned AND NOT COALESCE(n.lane = ANY (behind), false) AS owned
          FROM unnest(w_workflow_id, w_partition, w_position, w_lane, w_lane_sequence, w_owned)
              AS n(workflow_id, partition, position, lane, lane_sequence, owned)) AS u;
    GET DIAGNOSTICS hit = ROW_COUNT;
    IF hit <> cardinality(w_workflow_id) THEN
        RAISE EXCEPTION USING ERRCODE = 'DE001', MESSAGE = 'an event is known';
    END IF;
    INSERT INTO {schema}.events
        (workflow_id, key, value, headers, timestamp_type, timestamp, leader_epoch, latency, fingerprint)
    SELECT u.workflow_id, u.key, u.value, u.headers, u.timestamp_type, u.timestamp, u.leader_epoch, u.latency,
           u.fingerprint
    FROM unnest(e_workflow_id, e_key, e_value, e_headers, e_timestamp_type, e_timestamp, e_leader_epoch, e_latency,
                e_fingerprint)
        AS u(workflow_id, key, value, headers, timestamp_type, timestamp, leader_epoch, latency, fingerprint);
    RETURN CASE WHEN cardinality(behind) > 0 THEN CAST(to_json(behind) AS text) END;
END
$$
"""

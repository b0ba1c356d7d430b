"""Checkpoints in the row of the workflow that ends with them: a row less for each event.

Revision 0007. The column may be NULL and the functions have new names, so processes of the release before go on beside
this one; they do not show the steps that stand there. Whoever reads steps asks the view `steps`, which has those of
both places. `docs/storage.md` has the reasons.
"""

import sqlalchemy as sa
from alembic import context, op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    schema = context.config.attributes["schema"]
    op.add_column("workflows", sa.Column("own_checkpoints", sa.Text(), nullable=True), schema=schema)
    bind = op.get_bind()
    if bind.dialect.name != "postgresql":
        bind.exec_driver_sql(STEPS.format(schema="main", **ON_SQLITE))
        return
    quoted = bind.dialect.identifier_preparer.quote_identifier(schema)
    bind.exec_driver_sql(STEPS.format(schema=quoted, **ON_POSTGRESQL))
    before = context.script.get_revision(down_revision).module
    for function in (WRITE_ENDS, WRITE_BATCH):
        bind.exec_driver_sql(before.spelled(with_parts(function), quoted))


def with_parts(function: str) -> str:
    """The function with these parts in their places; the others are as in the revision before."""
    for name, part in PARTS.items():
        function = function.replace(f"{{{name}}}", part)
    return function


# -- the steps of both places ------------------------------------------------------------------

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

# -- functions ---------------------------------------------------------------------------------

ENDS = """
    o_workflow_id text[], o_take int[], o_status text[], o_frees_lane bool[], o_own_checkpoints text[],
    r_workflow_id text[], r_codec text[], r_output text[], r_error text[]"""

UPDATE_OUTCOMES = """UPDATE {schema}.workflows AS w
        SET status = u.status, completed_at = now_ms, updated_at = now_ms, own_checkpoints = u.own_checkpoints,
            lane_open = CASE WHEN u.frees_lane THEN NULL ELSE w.lane_open END
        FROM unnest(o_workflow_id, o_take, o_status, o_frees_lane, o_own_checkpoints)
            AS u(workflow_id, take, status, frees_lane, own_checkpoints)
        WHERE w.id = u.workflow_id
          AND CASE WHEN w.owner = executor_id AND w.take = u.take AND w.status = 'PENDING' THEN true ELSE false END;
        GET DIAGNOSTICS hit = ROW_COUNT;
        IF hit <> cardinality(o_workflow_id) THEN
            RAISE EXCEPTION USING ERRCODE = 'DE001', MESSAGE = 'an outcome was not written';
        END IF"""

INSERT_RESULTS = """IF cardinality(r_workflow_id) > 0 THEN
        INSERT INTO {schema}.results (workflow_id, codec, output, error)
        SELECT u.workflow_id, u.codec, u.output, u.error
        FROM unnest(r_workflow_id, r_codec, r_output, r_error) AS u(workflow_id, codec, output, error)
        WHERE true
        ON CONFLICT (workflow_id) DO UPDATE
        SET codec = excluded.codec, output = excluded.output, error = excluded.error;
    END IF"""

PARTS = {"ends": ENDS, "update_outcomes": UPDATE_OUTCOMES, "insert_results": INSERT_RESULTS}

WRITE_ENDS = """
CREATE FUNCTION {schema}.write_ends(
    clock_now bigint, executor_id bigint, {ends}
) RETURNS void
LANGUAGE plpgsql
{settings}
AS $$
DECLARE
    now_ms bigint := {now};
    hit bigint;
BEGIN
    {fence}
    {update_outcomes};
    {insert_results};
END
$$
"""

WRITE_BATCH = """
CREATE FUNCTION {schema}.write_batch(
    clock_now bigint, executor_id bigint,
    c_workflow_id text[], c_take int[], c_generation int[], c_step int[], c_call text[], c_name text[],
    c_completion_order int[], c_arguments text[], c_codec text[], c_output text[], c_error text[],
    c_child_id text[], c_started_at bigint[], c_completed_at bigint[], c_write_id bigint[], {ends}
) RETURNS void
LANGUAGE plpgsql
{settings}
AS $$
DECLARE
    now_ms bigint := {now};
    hit bigint;
BEGIN
    {fence}
    {insert_checkpoints};
    GET DIAGNOSTICS hit = ROW_COUNT;
    IF hit <> cardinality(c_workflow_id) THEN
        RAISE EXCEPTION USING ERRCODE = 'DE001', MESSAGE = 'a checkpoint was not written';
    END IF;
    IF cardinality(o_workflow_id) > 0 THEN
        {update_outcomes};
    END IF;
    {insert_results};
END
$$
"""

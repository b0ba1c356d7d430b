-- name: read_quarantined_event
-- The record as it was received, and the error.
SELECT e.key, e.value, e.headers, e.timestamp, COALESCE(q.codec, r.codec) AS codec, q.error
FROM {schema}.quarantine AS q
LEFT JOIN {schema}.events AS e ON e.workflow_id = q.workflow_id
LEFT JOIN {schema}.results AS r ON r.workflow_id = q.workflow_id
WHERE q.workflow_id = :workflow_id;

-- name: read_edits
-- Values that runs get in place of the received one, the last one first.
SELECT generation, value, edited_by, edited_at
FROM {schema}.edited_values
WHERE workflow_id = :workflow_id
ORDER BY generation DESC;

-- name: read_generations
-- The generations that have ended, in order.
SELECT generation, attempt, ended_as, reason, error_type, error_message, ended_at, next_at
FROM {schema}.generations
WHERE workflow_id = :workflow_id
ORDER BY generation;

-- name: read_archived_steps
-- What stayed behind in earlier generations.
SELECT c.generation, c.step, c.name
FROM {schema}.checkpoints AS c
JOIN {schema}.workflows AS w ON w.id = c.workflow_id AND c.generation < w.generation
WHERE c.workflow_id = :workflow_id AND c.step > 0
ORDER BY c.generation, c.step;

-- name: read_decisions
-- Who decided what, in order.
SELECT decision, decided_by, decided_at, reason, generation, details
FROM {schema}.decisions
WHERE workflow_id = :workflow_id
ORDER BY id;

-- name: lock_decided
-- One decision about an event after the other, in an order in which they cannot wait for each other.
SELECT id FROM {schema}.workflows WHERE id IN ({list:ids}) ORDER BY id {for_update};

-- name: read_waiting
-- What is in quarantine, now that nobody else can decide about it.
SELECT q.workflow_id, q.reason, q.attempts, q.failed_steps, q.codec, q.error, q.error_type, q.error_message,
       w.owner
FROM {schema}.quarantine AS q
JOIN {schema}.workflows AS w
  ON w.id = q.workflow_id AND w.status IN ('ERROR', 'CANCELLED', 'MAX_RECOVERY_ATTEMPTS_EXCEEDED')
WHERE q.workflow_id IN ({list:ids}) AND q.released_at IS NULL;

-- name: update_redriven
-- From owners that are locked. An event of a lane stays its head; others wait for any process, whatever its
-- version: the code may have been mended.
UPDATE {schema}.workflows
SET status = CASE WHEN lane_open IS TRUE THEN 'PENDING' ELSE 'ENQUEUED' END,
    owner = NULL, take = take + 1, generation = generation + 1, attempt = 0, crashes = 0, version = NULL,
    completed_at = NULL, wake_at = NULL, awaits = NULL, delay_until = NULL, deadline = NULL, start_by = NULL,
    end_reason = NULL, held = CASE WHEN lane_open IS TRUE THEN false ELSE held END, updated_at = {now}
WHERE id IN ({list:ids})
RETURNING id, generation;

-- name: read_history
-- What a new generation could keep.
SELECT workflow_id, step, codec, CASE WHEN error IS NULL THEN 0 ELSE 1 END AS failed
FROM {schema}.checkpoints
WHERE workflow_id IN ({list:ids})
  AND generation = (SELECT w.generation - 1 FROM {schema}.workflows AS w WHERE w.id = workflow_id);

-- name: delete_results
-- They stand in `generations` now; a new outcome may have none.
DELETE FROM {schema}.results WHERE workflow_id IN ({list:ids});

-- name: insert_edited_values
-- Beside the record, which stays as it was received.
INSERT INTO {schema}.edited_values (workflow_id, generation, value, edited_by, edited_at)
SELECT u.workflow_id, u.generation, u.value, :edited_by, {now}
FROM {rows: workflow_id text, generation int, value bytea}
WHERE true;

-- name: insert_decisions
-- Kept for ever: who decided what, and why.
INSERT INTO {schema}.decisions (workflow_id, generation, decision, reason, details, decided_by, decided_at)
SELECT u.workflow_id, u.generation, :decision, CAST(:reason AS text), :details, :decided_by, {now}
FROM {rows: workflow_id text, generation int}
WHERE true;

-- name: lock_watermarks_of
-- An intake that puts an event behind one of these in its lane ends first, or begins when the lane is free.
SELECT m.consumer, m.incarnation, m.partition
FROM {schema}.watermarks AS m
WHERE EXISTS (SELECT 1 FROM {schema}.workflows AS w
              WHERE w.id IN ({list:ids}) AND w.consumer = m.consumer AND w.incarnation = m.incarnation
                AND w.partition = m.partition AND w.lane_open)
ORDER BY m.consumer, m.incarnation, m.partition
{for_update};

-- name: lock_lanes_of
-- As `lock_watermarks_of`, for lanes that have a row of their own.
SELECT l.consumer, l.incarnation, l.lane
FROM {schema}.lanes AS l
WHERE EXISTS (SELECT 1 FROM {schema}.workflows AS w
              WHERE w.id IN ({list:ids}) AND w.consumer = l.consumer AND w.incarnation = l.incarnation
                AND w.lane = l.lane AND w.lane_open)
ORDER BY l.consumer, l.incarnation, l.lane
{for_update};

-- name: update_discarded
-- They stay as they ended, and free their lanes.
UPDATE {schema}.workflows
SET lane_open = NULL, held = NULL, take = take + 1, updated_at = {now}
WHERE id IN ({list:ids})
RETURNING id, generation;

-- name: promote_next
-- The first event that is left in each of these lanes may run.
UPDATE {schema}.workflows AS w
SET held = false, updated_at = {now}
WHERE w.lane_open AND w.held AND w.status = 'PENDING' AND w.owner IS NULL
  AND w.id IN (
      SELECT (SELECT n.id FROM {schema}.workflows AS n
              WHERE n.consumer = d.consumer AND n.incarnation = d.incarnation AND n.lane = d.lane AND n.lane_open
              ORDER BY n.lane_sequence LIMIT 1)
      FROM {schema}.workflows AS d
      WHERE d.id IN ({list:ids}) AND d.lane IS NOT NULL);

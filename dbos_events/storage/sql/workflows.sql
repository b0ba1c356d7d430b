-- name: read_checkpoints
-- Of the current generation, with the version of the process that wrote each. What has no outcome yet has none in
-- its own row.
SELECT c.workflow_id, c.step, c.call, c.name, c.completion_order, c.arguments, c.codec, c.output, c.error,
       c.child_id, c.started_at, c.completed_at, c.write_id, e.version, c.recorded_in
FROM {schema}.checkpoints AS c
JOIN {schema}.workflows AS w ON w.id = c.workflow_id AND w.generation = c.generation
LEFT JOIN {schema}.executors AS e ON e.id = c.writer
WHERE c.workflow_id IN ({list:ids})
ORDER BY c.workflow_id, c.step;

-- name: list_steps
-- As read_checkpoints, of one workflow, and wherever they are kept.
SELECT c.step, c.call, c.name, c.completion_order, c.arguments, c.codec, c.output, c.error,
       c.child_id, c.started_at, c.completed_at, c.write_id, e.version, c.recorded_in
FROM {schema}.steps AS c
JOIN {schema}.workflows AS w ON w.id = c.workflow_id AND w.generation = c.generation
LEFT JOIN {schema}.executors AS e ON e.id = c.writer
WHERE c.workflow_id = :workflow_id
ORDER BY c.step;

-- name: read_ending
-- Status, and the result once there is one.
SELECT w.status, r.codec, r.output, r.error
FROM {schema}.workflows AS w
LEFT JOIN {schema}.results AS r ON r.workflow_id = w.id
WHERE w.id = :workflow_id;

-- name: stopped_among
-- What this executor runs and does not own any more, or what has ended.
SELECT id, status
FROM {schema}.workflows
WHERE id IN ({list:ids}) AND (status <> 'PENDING' OR owner IS NULL OR owner <> :executor);

-- name: cancel
-- What has ended by itself stays as it ended.
UPDATE {schema}.workflows
SET status = 'CANCELLED', completed_at = {now}, updated_at = {now}, wake_at = NULL, awaits = NULL,
    end_reason = 'cancelled'
WHERE id IN ({list:ids}) AND status IN ('PENDING', 'ENQUEUED', 'DELAYED', 'MAX_RECOVERY_ATTEMPTS_EXCEEDED')
RETURNING id;

-- name: lock_owners
-- Batches of these executors that are under way end before their work is taken.
SELECT e.id, {idle_bound}
FROM {schema}.executors AS e
WHERE e.id IN (SELECT w.owner FROM {schema}.workflows AS w WHERE w.id IN ({list:ids}))
ORDER BY e.id
{for_update};

-- name: resume
-- Only from owners that are locked: one who claimed in between may have a batch under way. What had ended had given its
-- deduplication id up, and another may have it.
UPDATE {schema}.workflows
SET status = CASE WHEN lane_open IS TRUE THEN 'PENDING' ELSE 'ENQUEUED' END,
    queue = NULL, owner = NULL, held = false, take = take + 1, crashes = 0, completed_at = NULL, wake_at = NULL,
    awaits = NULL, delay_until = NULL, deadline = NULL, start_by = NULL, end_reason = NULL, updated_at = {now},
    deduplication_id = CASE WHEN status IN ('PENDING', 'ENQUEUED', 'DELAYED') THEN deduplication_id END
WHERE id IN ({list:ids})
  AND status IN ('PENDING', 'ENQUEUED', 'DELAYED', 'CANCELLED', 'MAX_RECOVERY_ATTEMPTS_EXCEEDED')
  AND (owner IS NULL OR owner IN ({numbers:owners}))
RETURNING id;

-- name: release_quarantine
-- Somebody decided what becomes of these events.
UPDATE {schema}.quarantine SET released_at = {now}, released_as = :released_as
WHERE workflow_id IN ({list:ids}) AND released_at IS NULL;

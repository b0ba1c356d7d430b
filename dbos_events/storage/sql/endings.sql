-- name: next_ending
-- So that nobody looks before something is due. Each half reads the first entries of its own index.
SELECT min(t.due) - {now} AS milliseconds, {now} AS now
FROM (SELECT (SELECT w.deadline FROM {schema}.workflows AS w
              WHERE w.deadline IS NOT NULL AND w.status IN ('PENDING', 'ENQUEUED', 'DELAYED')
                AND w.application = :application
              ORDER BY w.deadline LIMIT 1) AS due
      UNION ALL
      SELECT (SELECT w.start_by FROM {schema}.workflows AS w
              WHERE w.start_by IS NOT NULL AND w.status IN ('ENQUEUED', 'DELAYED') AND w.application = :application
              ORDER BY w.start_by LIMIT 1)) AS t;

-- name: end_late
-- Deadlines that have passed. The clock stands in a sub-select, read once: else the index could not be searched by it.
WITH candidates AS (
    SELECT w.id AS workflow_id
    FROM {schema}.workflows AS w
    WHERE w.deadline <= (SELECT {now}) AND w.deadline IS NOT NULL
      AND w.status IN ('PENDING', 'ENQUEUED', 'DELAYED') AND w.application = :application{unless_apart}
    ORDER BY w.deadline
    LIMIT :count
    {skip_locked_w}
)
{then}
UPDATE {schema}.workflows AS w
SET status = 'CANCELLED', completed_at = {now}, updated_at = {now}, wake_at = NULL, awaits = NULL,
    end_reason = :reason
FROM candidates AS l
WHERE w.id = l.workflow_id
RETURNING id;

-- name: end_unclaimed
-- What was to be claimed by now. What was claimed once has no such time any more.
WITH candidates AS (
    SELECT w.id AS workflow_id
    FROM {schema}.workflows AS w
    WHERE w.start_by <= (SELECT {now}) AND w.start_by IS NOT NULL
      AND w.status IN ('ENQUEUED', 'DELAYED') AND w.application = :application{unless_apart}
    ORDER BY w.start_by
    LIMIT :count
    {skip_locked_w}
)
{then}
UPDATE {schema}.workflows AS w
SET status = 'CANCELLED', completed_at = {now}, updated_at = {now}, end_reason = :reason
FROM candidates AS l
WHERE w.id = l.workflow_id
RETURNING id;

-- name: find_trees
-- Workflows with all that they have started. UNION, not UNION ALL: a damaged row must not lead round in a circle.
WITH RECURSIVE tree(id) AS (
    SELECT w.id FROM {schema}.workflows AS w WHERE w.id IN ({list:ids})
    UNION
    SELECT w.id FROM {schema}.workflows AS w JOIN tree AS t ON w.parent_id = t.id
)
SELECT id FROM tree ORDER BY id;

-- name: cancel_owned
-- As `cancel`, of what nobody runs or an executor that is locked.
UPDATE {schema}.workflows
SET status = 'CANCELLED', completed_at = {now}, updated_at = {now}, wake_at = NULL, awaits = NULL,
    end_reason = 'cancelled'
WHERE id IN ({list:ids}) AND status IN ('PENDING', 'ENQUEUED', 'DELAYED', 'MAX_RECOVERY_ATTEMPTS_EXCEEDED')
  AND (owner IS NULL OR owner IN ({numbers:owners}) OR status = 'MAX_RECOVERY_ATTEMPTS_EXCEEDED')
RETURNING id;

-- name: running_among
-- What has not ended, and who runs it.
SELECT id, owner FROM {schema}.workflows
WHERE id IN ({list:ids}) AND status IN ('PENDING', 'ENQUEUED', 'DELAYED');

-- name: update_retries
-- The run failed and gives its workflow up until the next attempt; the CASE is explained at insert_checkpoints.
-- An attempt that ended by itself is no crash.
UPDATE {schema}.workflows AS w
SET owner = NULL, wake_at = {now} + u.delay_ms, awaits = NULL, generation = w.generation + 1,
    attempt = u.attempt, crashes = 0, updated_at = {now}
FROM {rows: workflow_id text, token int, ended int, delay_ms bigint, attempt int}
WHERE w.id = u.workflow_id
  AND CASE WHEN w.owner = :executor AND w.take = u.token AND w.status = 'PENDING' AND w.generation = u.ended
           THEN true ELSE false END
RETURNING id, take;

-- name: move_checkpoints
-- All go on to the next generation; those that it shall not have are put back by the next two statements.
UPDATE {schema}.checkpoints AS c
SET generation = c.generation + 1, recorded_in = COALESCE(c.recorded_in, c.generation)
FROM {rows: workflow_id text, generation int}
WHERE c.workflow_id = u.workflow_id AND c.generation = u.generation;

-- name: archive_checkpoints
-- A failure stays in its generation, so that the call is done anew.
UPDATE {schema}.checkpoints AS c
SET generation = u.generation
FROM {rows: workflow_id text, generation int, step int}
WHERE c.workflow_id = u.workflow_id AND c.generation = u.generation + 1 AND c.step = u.step;

-- name: archive_children
-- With the failed result of a child goes its start: the next generation starts a child of its own.
UPDATE {schema}.checkpoints AS c
SET generation = u.generation
FROM {rows: workflow_id text, generation int, step int}
JOIN {schema}.checkpoints AS f
  ON f.workflow_id = u.workflow_id AND f.generation = u.generation AND f.step = u.step
WHERE c.workflow_id = u.workflow_id AND c.generation = u.generation + 1 AND c.child_id = f.child_id;

-- name: insert_generations
-- `diverged_at` is where the next generation may begin to differ: at the first checkpoint that it does not
-- get, or from the start when its input was edited.
INSERT INTO {schema}.generations
    ({columns but edited, delay_ms}, diverged_at, ended_at, next_at)
SELECT {values but edited, delay_ms},
       CASE WHEN u.edited THEN 0
            ELSE (SELECT min(c.completion_order) FROM {schema}.checkpoints AS c
                  WHERE c.workflow_id = u.workflow_id AND c.generation = u.generation) END,
       {now}, {now} + u.delay_ms
FROM {rows: workflow_id text, generation int, attempt int, ended_as text, reason text, codec text,
      error text, error_type text, error_message text, edited bool, delay_ms bigint}
WHERE true;

-- name: read_divergences
-- Where the generations after these may differ from what was recorded before.
SELECT workflow_id, generation, diverged_at
FROM {schema}.generations
WHERE workflow_id IN ({list:ids}) AND diverged_at IS NOT NULL;

-- name: read_used_keys
-- Calls of earlier generations that had asked for their idempotency key: it stands behind the hash of their arguments,
-- after a blank. Those that the last generation has kept may not fit any more, and be made anew.
SELECT c.workflow_id, COALESCE(c.recorded_in, c.generation) AS generation, c.name, c.arguments
FROM {schema}.checkpoints AS c
JOIN {schema}.workflows AS w
  ON w.id = c.workflow_id AND (c.generation < w.generation OR c.recorded_in IS NOT NULL)
WHERE c.workflow_id IN ({list:ids}) AND c.arguments LIKE '% %'
ORDER BY c.workflow_id, generation, c.completion_order;

-- name: read_key_decisions
-- What was said about the keys of the next generation.
SELECT workflow_id, generation, details
FROM {schema}.decisions
WHERE workflow_id IN ({list:ids}) AND decision = 'redrive'
ORDER BY id;

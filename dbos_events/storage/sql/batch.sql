-- name: insert_checkpoints
-- The CASE keeps the planner from guessing that the token selects almost nothing, which made it scan
-- all rows of the owner for each batch on a table without fresh statistics (docs/storage.md).
INSERT INTO {schema}.checkpoints
    ({columns but take}, writer)
SELECT {values but take}, :executor
FROM {rows: workflow_id text, take int, generation int, step int, call text, name text,
      completion_order int, arguments text, codec text, output text, error text, child_id text,
      started_at bigint, completed_at bigint, write_id bigint}
JOIN {schema}.workflows AS w
  ON w.id = u.workflow_id
 AND CASE WHEN w.owner = :executor AND w.take = u.take AND w.status = 'PENDING' THEN true ELSE false END
WHERE true
ON CONFLICT DO NOTHING;

-- name: insert_shielded_checkpoints
-- As insert_checkpoints, of runs that clean up after a cancel: theirs is the token still, and the workflow has ended.
INSERT INTO {schema}.checkpoints
    ({columns but take}, writer)
SELECT {values but take}, :executor
FROM {rows: workflow_id text, take int, generation int, step int, call text, name text,
      completion_order int, arguments text, codec text, output text, error text, child_id text,
      started_at bigint, completed_at bigint, write_id bigint}
JOIN {schema}.workflows AS w
  ON w.id = u.workflow_id
 AND CASE WHEN w.owner = :executor AND w.take = u.take AND w.status IN ('PENDING', 'CANCELLED') THEN true ELSE false END
WHERE true
ON CONFLICT DO NOTHING;

-- name: read_written_checkpoints
-- Who wrote what stands in our way: we ourselves, when the answer to a commit was lost. That commit may
-- have moved the checkpoints on to the next generation.
SELECT c.workflow_id, c.step, c.write_id
FROM {rows: workflow_id text, generation int, step int}
JOIN {schema}.checkpoints AS c
  ON c.workflow_id = u.workflow_id AND c.generation >= u.generation AND c.step = u.step
WHERE c.writer = :executor;

-- name: read_tokens
-- Who owns the workflows, for the answer to a write that was not done.
SELECT id, status, owner, take, start_id, name, queue, class_name, generation
FROM {schema}.workflows
WHERE id IN ({list:ids});

-- name: lock_tokens
-- As `read_tokens`, of workflows whose end may be our own lost commit: whoever discards one in this moment comes before
-- or after the end is written again, or the event would be in quarantine once more.
SELECT id, status, owner, take, own_checkpoints
FROM {schema}.workflows
WHERE id IN ({list:ids})
ORDER BY id
{for_share};

-- name: update_outcomes
-- Only what runs under the token ends; the CASE is explained at insert_checkpoints. Checkpoints of the same batch
-- come along in the row. Where somebody is parked who has to hear of it, the end is written once that is seen to.
UPDATE {schema}.workflows AS w
SET status = u.status, completed_at = {now}, updated_at = {now}, own_checkpoints = u.own_checkpoints,
    lane_open = CASE WHEN u.frees_lane THEN NULL ELSE w.lane_open END
FROM {rows: workflow_id text, take int, status text, frees_lane bool, own_checkpoints text}
WHERE w.id = u.workflow_id
  AND CASE WHEN w.owner = :executor AND w.take = u.take AND w.status = 'PENDING' AND w.has_waiters IS NOT TRUE
           THEN true ELSE false END;

-- name: forget_waiters
-- Those who are parked for the ends of these workflows are going to be told; the CASE is explained at
-- insert_checkpoints. Whoever parks from now on waits for this transaction, and finds the end.
UPDATE {schema}.workflows AS w
SET has_waiters = NULL
FROM {rows: workflow_id text, take int}
WHERE w.id = u.workflow_id
  AND CASE WHEN w.owner = :executor AND w.take = u.take AND w.status = 'PENDING' AND w.has_waiters
           THEN true ELSE false END
RETURNING id;

-- name: insert_results
-- Written with the outcome; again, and the same, when the answer to the commit was lost.
INSERT INTO {schema}.results ({columns})
SELECT {values}
FROM {rows: workflow_id text, codec text, output text, error text}
WHERE true
ON CONFLICT (workflow_id) DO UPDATE
SET codec = excluded.codec, output = excluded.output, error = excluded.error;

-- name: insert_quarantine
-- An event that failed for good is put aside until somebody decides about it.
INSERT INTO {schema}.quarantine
    ({columns}, quarantined_at)
SELECT {values}, {now}
FROM {rows: workflow_id text, consumer int, reason text, error text, attempts int, codec text,
      error_type text, error_message text, failed_steps text}
WHERE true
ON CONFLICT (workflow_id) DO UPDATE
SET reason = excluded.reason, error = excluded.error, attempts = excluded.attempts,
    quarantined_at = excluded.quarantined_at, released_at = NULL, released_as = NULL, codec = excluded.codec,
    error_type = excluded.error_type, error_message = excluded.error_message,
    failed_steps = excluded.failed_steps;

-- name: wake_parents
-- A parent that is parked on its child goes on when the child has ended.
UPDATE {schema}.workflows AS w
SET wake_at = {now}, awaits = NULL
FROM {rows: parent_id text, workflow_id text}
WHERE w.id = u.parent_id
  AND CASE WHEN w.status <> 'PENDING' OR w.awaits IS NULL THEN false
           WHEN w.awaits = 'workflow:' || u.workflow_id THEN true
           WHEN w.awaits = '*' THEN EXISTS (SELECT 1 FROM {schema}.parked_keys AS k
                                            WHERE k.workflow_id = w.id AND k.key = 'workflow:' || u.workflow_id
                                              AND k.take = w.take)
           ELSE false END;

-- name: insert_starts
-- What is there already stays; `start_id` tells our own lost commit answer from another's workflow. So does whoever has
-- the deduplication id.
INSERT INTO {schema}.workflows
    ({columns but delay_ms}, delay_until, wake_at, deduplication_queue, owner, take, created_at, updated_at, started_at)
SELECT {values but delay_ms}, {now} + u.delay_ms, {now} + u.delay_ms,
       CASE WHEN u.deduplication_id IS NOT NULL THEN u.queue END,
       CASE WHEN u.status = 'PENDING' THEN CAST(:executor AS bigint) END,
       CASE WHEN u.status = 'PENDING' THEN 1 ELSE 0 END,
       {now}, {now}, CASE WHEN u.status = 'PENDING' THEN {now} END
FROM {rows: id text, application text, name text, status text, start_id bigint, version text,
      class_name text, queue text, priority int, parent_id text, root_id text, deduplication_id text,
      queue_partition_key text, delay_ms bigint, version_pinned bool, attributes text, timeout_ms bigint,
      deadline bigint, start_by bigint}
WHERE true
ON CONFLICT DO NOTHING;

-- name: insert_payloads
-- Inputs apart from the workflows, so that updates of those stay small.
INSERT INTO {schema}.payloads ({columns})
SELECT {values}
FROM {rows: workflow_id text, codec text, input text}
WHERE true
ON CONFLICT (workflow_id) DO NOTHING;

-- name: insert_start_payloads
-- The inputs of those starts that were inserted, now or by a commit whose answer was lost.
INSERT INTO {schema}.payloads (workflow_id, codec, input)
SELECT u.id, u.codec, u.input
FROM {rows: id text, codec text, input text, start_id bigint}
JOIN {schema}.workflows AS w ON w.id = u.id AND w.start_id = u.start_id
WHERE true
ON CONFLICT (workflow_id) DO NOTHING;

-- name: reset_crashes
-- Progress was made: the crashes before it do not count any more.
UPDATE {schema}.workflows AS w
SET crashes = 0
FROM {rows: workflow_id text, take int}
WHERE w.id = u.workflow_id
  AND CASE WHEN w.owner = :executor AND w.take = u.take AND w.status = 'PENDING' AND w.crashes > 0
           THEN true ELSE false END;

-- name: now
-- The database's clock, in milliseconds.
SELECT {now} AS now;

-- name: name_child
-- Which run it became is known only now.
UPDATE {schema}.checkpoints SET child_id = :child
WHERE workflow_id = :workflow_id AND generation = :generation AND step = :step AND write_id = :write_id;

-- fragment: fits_version
-- What has started prefers a live process of its version; with `waits` no other takes it.
(w.version = :version OR w.version IS NULL
 OR (NOT :waits AND w.version NOT IN (SELECT alive.version FROM {schema}.executors AS alive
                                      WHERE alive.alive AND alive.application = :application)));

-- name: adopt_from_dead
-- Running workflows of dead executors. A started one of another version is left to a live process of
-- that version, if there is one; with `waits` it is left alone. Events of an ordered lane are left to the
-- lane's holder. What is parked has no owner: saying so keeps a planner without statistics from reading all of it.
WITH candidates AS (
    SELECT w.id AS workflow_id
    FROM {schema}.workflows AS w
    JOIN {schema}.executors AS e ON e.id = w.owner
    WHERE w.owner IS NOT NULL AND w.status = 'PENDING' AND NOT e.alive AND w.application = :application
      AND w.name IN ({list:names}) AND w.lane_open IS NOT TRUE
      AND ({fits_version}
           OR NOT EXISTS (SELECT 1 FROM {schema}.checkpoints AS c
                          WHERE c.workflow_id = w.id AND c.generation = w.generation)){unless_apart}
    ORDER BY w.created_at, w.id
    LIMIT :count
    {skip_locked_w}
)
{then}
UPDATE {schema}.workflows AS w
SET owner = :executor, take = w.take + 1, version = :version, crashes = w.crashes + 1, updated_at = {now}
FROM candidates AS c
WHERE w.id = c.workflow_id
RETURNING id;

-- name: take_due
-- Parked workflows without a queue whose time has come. One of another version is left to a live process
-- of that version, if there is one.
-- The clock stands in a sub-select, read once: else the index could not be searched by it.
-- The CASE, here and in the two statements below, keeps the planner from reading all that is running on a
-- table without statistics, for it guesses that a partial index on the status has next to nothing in it.
WITH candidates AS (
    SELECT w.id AS workflow_id
    FROM {schema}.workflows AS w
    WHERE w.wake_at <= (SELECT {now}) AND CASE WHEN w.status = 'PENDING' THEN true ELSE false END
      AND w.application = :application AND (w.deadline IS NULL OR w.deadline > (SELECT {now}))
      AND w.queue IS NULL AND w.lane_open IS NOT TRUE AND w.name IN ({list:names})
      AND {fits_version}{unless_apart}
    ORDER BY w.wake_at
    LIMIT :count
    {skip_locked_w}
)
{then}
UPDATE {schema}.workflows AS w
SET owner = :executor, take = w.take + 1, version = :version, wake_at = NULL, awaits = NULL, updated_at = {now}
FROM candidates AS c
WHERE w.id = c.workflow_id
RETURNING id;

-- name: requeue_due
-- Parked workflows of a queue take their slot again through the queue.
UPDATE {schema}.workflows AS w
SET status = 'ENQUEUED', owner = NULL, wake_at = NULL, awaits = NULL, updated_at = {now}
WHERE w.wake_at <= (SELECT {now}) AND CASE WHEN w.status = 'PENDING' THEN true ELSE false END
  AND w.application = :application AND w.queue IS NOT NULL AND w.lane_open IS NOT TRUE
  AND (w.deadline IS NULL OR w.deadline > (SELECT {now})){unless_apart}
RETURNING id;

-- name: ready_due_lanes
-- Parked events of an ordered lane become ready; only the lane's holder runs them.
UPDATE {schema}.workflows AS w
SET wake_at = NULL, awaits = NULL, held = false, updated_at = {now}
WHERE w.wake_at <= (SELECT {now}) AND CASE WHEN w.status = 'PENDING' THEN true ELSE false END
  AND w.application = :application AND w.lane_open
  AND (w.deadline IS NULL OR w.deadline > (SELECT {now})){unless_apart}
RETURNING id;

-- name: next_wake
-- So that a process need not look before something is due.
SELECT min(w.wake_at) - {now} AS milliseconds, {now} AS now
FROM {schema}.workflows AS w
WHERE w.wake_at IS NOT NULL AND w.application = :application;

-- name: owned_takings
-- What an executor owns that it has neither started nor taken in itself; lanes are looked after by their holder. The
-- workflow of a tick has no queue, and whoever decides the tick, or claims it, takes it for the first time.
SELECT w.id FROM {schema}.workflows AS w
WHERE w.owner = :executor AND w.status = 'PENDING' AND w.lane_open IS NOT TRUE AND (w.queue IS NOT NULL OR w.take > 1 OR w.schedule_name IS NOT NULL);

-- name: owned_work
-- All that an executor owns; what is parked, or waits, has no owner.
SELECT w.id, w.take FROM {schema}.workflows AS w WHERE w.owner = :executor AND w.status = 'PENDING';

-- name: give_back
-- What was taken and never started: to its queue, to whoever claims what waits without one, or to its lane's holder.
-- After the owner's row was locked; the CASE is explained at insert_checkpoints. The head of a lane is ready.
UPDATE {schema}.workflows AS w
SET status = CASE WHEN w.lane_open IS TRUE THEN 'PENDING' ELSE 'ENQUEUED' END,
    held = CASE WHEN w.lane_open IS TRUE THEN EXISTS (
        SELECT 1 FROM {schema}.workflows AS first
        WHERE first.consumer = w.consumer AND first.incarnation = w.incarnation AND first.lane = w.lane
          AND first.lane_open AND first.lane_sequence < w.lane_sequence) ELSE false END,
    owner = NULL, updated_at = {now}
FROM {rows: workflow_id text, take int}
WHERE w.id = u.workflow_id
  AND CASE WHEN w.owner = :executor AND w.take = u.take AND w.status = 'PENDING' THEN true ELSE false END
RETURNING id;

-- name: read_taken
-- What was just taken, in the order in which it should be started.
SELECT w.id, w.name, w.take, w.generation, w.crashes, p.codec, p.input, w.queue, w.parent_id,
       w.root_id, w.consumer, w.partition, w.position, w.lane, w.attempt, w.queue_partition_key, w.deadline
FROM {schema}.workflows AS w
LEFT JOIN {schema}.payloads AS p ON p.workflow_id = w.id
WHERE w.id IN ({list:ids})
ORDER BY w.priority, w.created_at, w.start_id;

-- name: end_crashed
-- After the take that counted the crash, in its transaction.
UPDATE {schema}.workflows
SET status = 'MAX_RECOVERY_ATTEMPTS_EXCEEDED', completed_at = {now}, updated_at = {now}
WHERE id IN ({list:ids});

-- name: quarantine_ended
-- An event whose workflow was cancelled, or crashed too often, is put aside and holds its lane.
-- Nothing failed, so a redrive keeps all checkpoints.
INSERT INTO {schema}.quarantine (workflow_id, consumer, reason, attempts, quarantined_at, failed_steps)
SELECT w.id, w.consumer, :reason, w.attempt + 1, {now}, '[]'
FROM {schema}.workflows AS w
WHERE w.id IN ({list:ids}) AND w.consumer IS NOT NULL
ON CONFLICT (workflow_id) DO UPDATE
SET reason = excluded.reason, attempts = excluded.attempts, quarantined_at = excluded.quarantined_at,
    released_at = NULL, released_as = NULL, codec = NULL, error = NULL, error_type = NULL, error_message = NULL,
    failed_steps = excluded.failed_steps;

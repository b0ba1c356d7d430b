-- name: open_lanes
-- Which of these lanes have an event that still holds them. The LIMIT keeps the planner from joining: it would
-- read all that is held, for each batch, instead of one index entry for each lane.
SELECT l.lane
FROM (SELECT DISTINCT u.lane AS lane FROM {rows: lane text}) AS l
WHERE (SELECT 1 FROM {schema}.workflows AS w
       WHERE w.consumer = :consumer AND w.incarnation = :incarnation AND w.lane = l.lane AND w.lane_open
       LIMIT 1) = 1;

-- name: lane_entries
-- The head of a lane and what follows it.
SELECT id, name, lane_sequence, owner, status, COALESCE(wake_at IS NOT NULL OR awaits IS NOT NULL, false) AS waits,
       crashes
FROM {schema}.workflows
WHERE consumer = :consumer AND incarnation = :incarnation AND lane = :lane AND lane_open
ORDER BY lane_sequence
LIMIT :count;

-- name: take_lane_entries
-- Only what nobody owns and what does not sleep; the caller is fenced and is the lane's holder. The CASE is
-- explained at insert_checkpoints: without it all that is held was read, since nobody owns that either.
UPDATE {schema}.workflows
SET owner = :executor, take = take + 1, held = false, updated_at = {now}
WHERE id IN ({list:ids})
  AND CASE WHEN status = 'PENDING' AND owner IS NULL AND wake_at IS NULL AND awaits IS NULL THEN true ELSE false END
RETURNING id;

-- name: ready_behind
-- Whether something was made ready behind an event that still holds the lane. The plus keeps the search
-- in the index of what is ready: the other one would lead through all that is held.
SELECT w.id FROM {schema}.workflows AS w
WHERE w.consumer = :consumer AND w.incarnation = :incarnation AND w.lane = :lane AND w.lane_open
  AND w.status = 'PENDING' AND w.owner IS NULL AND w.wake_at IS NULL AND w.awaits IS NULL AND w.held IS NOT TRUE
  AND +w.lane_sequence > :head
LIMIT 1;

-- name: lock_head
-- Who discards it waits, and makes ready what follows it after us; nothing when it is discarded already.
SELECT id FROM {schema}.workflows WHERE id = :workflow_id AND lane_open {for_update};

-- name: hold_back
-- What was made ready behind an event that still holds the lane waits for its turn.
UPDATE {schema}.workflows
SET held = true
WHERE consumer = :consumer AND incarnation = :incarnation AND lane = :lane AND lane_open
  AND status = 'PENDING' AND owner IS NULL AND wake_at IS NULL AND awaits IS NULL AND held IS NOT TRUE
  AND +lane_sequence > :head;

-- name: holder_of_partition
-- Who holds the partition, and under which epoch; held until the taking is committed.
SELECT epoch FROM {schema}.watermarks
WHERE consumer = :consumer AND incarnation = :incarnation AND partition = :partition AND holder = :executor
{for_share};

-- name: holder_of_lane
-- The same for a lane over several partitions.
SELECT epoch FROM {schema}.lanes
WHERE consumer = :consumer AND incarnation = :incarnation AND lane = :lane AND holder = :executor
{for_share};

-- name: ready_lanes
-- Lanes of partitions that this executor holds, in which an event became ready; a page after a given lane.
SELECT DISTINCT w.incarnation, w.partition, w.lane
FROM {schema}.workflows AS w
JOIN {schema}.watermarks AS m
  ON m.consumer = w.consumer AND m.incarnation = w.incarnation AND m.partition = w.partition
WHERE m.holder = :executor AND w.consumer = :consumer
  AND w.lane_open AND w.status = 'PENDING' AND w.owner IS NULL AND w.wake_at IS NULL AND w.awaits IS NULL
  AND w.held IS NOT TRUE
  AND (w.incarnation, w.lane) > (:after_incarnation, :after_lane)
ORDER BY w.incarnation, w.lane
LIMIT :count;

-- name: lanes_after
-- The next lanes of a partition that an event still holds, one index probe for each, and whether the first
-- in each is put aside or sleeps (then a signal tells when it goes on), or may go on.
WITH RECURSIVE found(lane) AS (
    SELECT (SELECT min(w.lane) FROM {schema}.workflows AS w
            WHERE w.consumer = :consumer AND w.incarnation = :incarnation AND w.lane_open
              AND w.lane > :after AND w.lane < :before)
    UNION ALL
    SELECT (SELECT min(w.lane) FROM {schema}.workflows AS w
            WHERE w.consumer = :consumer AND w.incarnation = :incarnation AND w.lane_open
              AND w.lane > found.lane AND w.lane < :before)
    FROM found
    WHERE found.lane IS NOT NULL
)
SELECT f.lane,
       (SELECT h.status = 'PENDING' AND h.wake_at IS NULL AND h.awaits IS NULL
        FROM {schema}.workflows AS h
        WHERE h.consumer = :consumer AND h.incarnation = :incarnation AND h.lane = f.lane AND h.lane_open
        ORDER BY h.lane_sequence
        LIMIT 1) AS may_go_on
FROM (SELECT lane FROM found WHERE lane IS NOT NULL LIMIT :count) AS f
ORDER BY f.lane;

-- name: owned_entries
-- Asked by who does not know what it has taken: the answer to its commit was lost.
SELECT w.id, w.lane
FROM {rows: lane text}
JOIN {schema}.workflows AS w
  ON w.consumer = :consumer AND w.incarnation = :incarnation AND w.lane = u.lane AND w.lane_open
WHERE w.owner = :executor AND w.status = 'PENDING';

-- name: release_unstarted
-- Back to the lane, for its next holder; the CASE is explained at insert_checkpoints.
UPDATE {schema}.workflows
SET owner = NULL, held = true, updated_at = {now}
WHERE id IN ({list:ids}) AND CASE WHEN owner = :executor AND status = 'PENDING' THEN true ELSE false END;

-- name: insert_lane
-- A lane over several partitions counts its events itself.
INSERT INTO {schema}.lanes (consumer, incarnation, lane, next_sequence, epoch, updated_at)
VALUES (:consumer, :incarnation, :lane, 0, 0, {now})
ON CONFLICT (consumer, incarnation, lane) DO NOTHING;

-- name: advance_lane
-- The caller's events get the numbers below the one that this gives.
UPDATE {schema}.lanes
SET next_sequence = next_sequence + :count, updated_at = {now}
WHERE consumer = :consumer AND incarnation = :incarnation AND lane = :lane
RETURNING next_sequence;

-- name: lock_lane
-- Whoever wants to hold it looks first who does.
SELECT epoch, holder
FROM {schema}.lanes
WHERE consumer = :consumer AND incarnation = :incarnation AND lane = :lane
{for_update};

-- name: is_alive
-- Asked after the lock: what a statement had joined before it waited, it does not look up again for a new holder.
SELECT id FROM {schema}.executors WHERE id = :executor AND alive;

-- name: hold_lane
-- A new holder under a new epoch.
UPDATE {schema}.lanes
SET holder = :executor, epoch = epoch + 1, updated_at = {now}
WHERE consumer = :consumer AND incarnation = :incarnation AND lane = :lane;

-- name: leave_lane
-- For another process that reads the topic.
UPDATE {schema}.lanes
SET holder = NULL, updated_at = {now}
WHERE consumer = :consumer AND incarnation = :incarnation AND lane = :lane AND holder = :executor;

-- name: count_open
-- How many events still hold a lane, counted up to a limit.
SELECT count(*) AS open
FROM (SELECT 1 FROM {schema}.workflows AS w
      WHERE w.consumer = :consumer AND w.incarnation = :incarnation AND w.lane = :lane AND w.lane_open
      LIMIT :limit) AS few;

-- name: count_held
-- At most `limit`: whoever asks wants to know whether it is too many, not how many there are. Lanes are `3`,
-- `3/key` and `topic`; a name stands for itself and for what is below it, none for all.
SELECT count(*) AS held
FROM (SELECT 1 AS one
      FROM {schema}.workflows AS w
      WHERE w.consumer = :consumer AND w.incarnation = :incarnation AND w.lane_open AND w.held
        AND (CAST(:lane AS text) = '' OR w.lane = :lane
             OR (w.lane >= CAST(:lane AS text) || '/' AND w.lane < CAST(:lane AS text) || '0'))
      LIMIT :count) AS bounded;

-- name: free_lanes_of_dead
-- Only the head of a lane can have been running, so only it counts a crash. The owner is compared again
-- at the end: two processes may do this at once, and the lane's holder may have taken the event since. There
-- the CASE (explained at insert_checkpoints) keeps it from comparing all that a live owner runs with each other.
WITH candidates AS (
    SELECT w.id AS workflow_id, w.owner AS owner, w.lane_sequence = (
        SELECT min(first.lane_sequence) FROM {schema}.workflows AS first
        WHERE first.consumer = w.consumer AND first.incarnation = w.incarnation
          AND first.lane = w.lane AND first.lane_open) AS is_head
    FROM {schema}.workflows AS w
    JOIN {schema}.executors AS e ON e.id = w.owner
    WHERE w.owner IS NOT NULL AND w.status = 'PENDING' AND NOT e.alive AND w.application = :application AND w.lane_open
      {unless_apart}
)
{then}
UPDATE {schema}.workflows AS w
SET owner = NULL, held = NOT d.is_head, crashes = w.crashes + CASE WHEN d.is_head THEN 1 ELSE 0 END,
    updated_at = {now}
FROM candidates AS d
WHERE w.id = d.workflow_id AND CASE WHEN w.owner = d.owner AND w.status = 'PENDING' THEN true ELSE false END
RETURNING id;

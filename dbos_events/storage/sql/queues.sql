-- fragment: claimable
-- What may be claimed of a queue; of what waits without one the name is empty and the revision 0. What has not started
-- runs on any code, unless its version was asked for. The revision is compared in the statement that takes: whoever
-- knows other settings of the queue than those that count now takes nothing. Each index has the order of its claims to the
-- last column: a planner that expects one row would sort all that waits (docs/storage.md).
w.status = 'ENQUEUED' AND w.application = :application AND w.name IN ({list:names}) AND w.lane_open IS NOT TRUE
AND (w.deadline IS NULL OR w.deadline > (SELECT {now})) AND (w.start_by IS NULL OR w.start_by > (SELECT {now}))
AND CASE WHEN w.version_pinned THEN w.version = :version ELSE w.take = 0 OR {fits_version} END
AND COALESCE((SELECT q.revision FROM {schema}.queues AS q
              WHERE q.application = :application AND q.name = :queue), 0) = :revision{unless_apart};

-- fragment: make_running
-- Ends each claim: the candidates become this executor's, and have their deadline from now on.
{then}
UPDATE {schema}.workflows AS w
SET status = 'PENDING', owner = :executor, take = w.take + 1, version = :version, updated_at = {now},
    started_at = COALESCE(w.started_at, {now}), start_by = NULL,
    deadline = CASE WHEN w.timeout_ms IS NULL OR w.deadline <= {now} + w.timeout_ms THEN w.deadline
                    ELSE {now} + w.timeout_ms END
FROM candidates AS c
WHERE w.id = c.workflow_id
RETURNING id, queue_partition_key;

-- name: claim
-- By priority, then by age.
WITH candidates AS (
    SELECT w.id AS workflow_id
    FROM {schema}.workflows AS w
    WHERE {claimable} AND COALESCE(w.queue, '') = :queue
    ORDER BY w.priority, w.created_at, w.start_id
    LIMIT :count
    {skip_locked_w}
)
{make_running};

-- name: claim_partition
-- The same within one partition.
WITH candidates AS (
    SELECT w.id AS workflow_id
    FROM {schema}.workflows AS w
    WHERE {claimable} AND w.queue = :queue AND w.queue_partition_key = :partition
    ORDER BY w.priority, w.created_at, w.start_id
    LIMIT :count
    {skip_locked_w}
)
{make_running};

-- name: claim_partitions
-- The same within several partitions at once, of each as many as there is room for; for PostgreSQL.
WITH candidates AS (
    SELECT n.workflow_id
    FROM {rows: partition text, room int}
    CROSS JOIN LATERAL (
        SELECT w.id AS workflow_id
        FROM {schema}.workflows AS w
        WHERE {claimable} AND w.queue = :queue AND w.queue_partition_key = u.partition
        ORDER BY w.priority, w.created_at, w.start_id
        LIMIT u.room
        {skip_locked_w}
    ) AS n
)
{make_running};

-- name: claim_aged_partition
-- Within one partition of a queue whose priorities age: all that waits there is sorted.
WITH candidates AS (
    SELECT w.id AS workflow_id
    FROM {schema}.workflows AS w
    WHERE {claimable} AND w.queue = :queue AND w.queue_partition_key = :partition
    ORDER BY w.created_at + CAST(w.priority AS bigint) * :ages_ms, w.start_id
    LIMIT :count
    {skip_locked_w}
)
{make_running};

-- name: claim_aged
-- As `claim_aged_partition`, of the whole queue; where it has more priorities than are looked at one by one.
WITH candidates AS (
    SELECT w.id AS workflow_id
    FROM {schema}.workflows AS w
    WHERE {claimable} AND COALESCE(w.queue, '') = :queue
    ORDER BY w.created_at + CAST(w.priority AS bigint) * :ages_ms, w.start_id
    LIMIT :count
    {skip_locked_w}
)
{make_running};

-- name: waiting_priorities
-- Each priority once: as many searches of the index as there are priorities, however much waits. The order is that of
-- the index, for a minimum might be looked for among all of them.
WITH RECURSIVE found(priority) AS (
    SELECT (SELECT w.priority FROM {schema}.workflows AS w
            WHERE w.status = 'ENQUEUED' AND COALESCE(w.queue, '') = :queue AND w.application = :application
            ORDER BY w.priority, w.created_at, w.start_id LIMIT 1)
    UNION ALL
    SELECT (SELECT w.priority FROM {schema}.workflows AS w
            WHERE w.status = 'ENQUEUED' AND COALESCE(w.queue, '') = :queue AND w.application = :application
              AND w.priority > f.priority
            ORDER BY w.priority, w.created_at, w.start_id LIMIT 1)
    FROM found AS f
    WHERE f.priority IS NOT NULL
)
SELECT priority FROM found WHERE priority IS NOT NULL LIMIT :count;

-- name: first_of_priority
-- The oldest of one priority; the queue's row is locked, so nobody else claims them meanwhile.
SELECT w.id, w.priority, w.created_at, w.start_id
FROM {schema}.workflows AS w
WHERE {claimable} AND COALESCE(w.queue, '') = :queue AND w.priority = :priority
ORDER BY w.created_at, w.start_id
LIMIT :count;

-- name: claim_these
-- What was chosen under the lock of the queue's row, and is not locked by somebody who changes it.
WITH candidates AS (
    SELECT w.id AS workflow_id
    FROM {schema}.workflows AS w
    WHERE w.id IN ({list:ids}) AND w.status = 'ENQUEUED'
    {skip_locked_w}
)
{make_running};

-- name: waiting_partitions
-- The next partitions, by key, in which something waits: one search of the index for each, as above.
WITH RECURSIVE found(key) AS (
    SELECT (SELECT w.queue_partition_key FROM {schema}.workflows AS w
            WHERE w.status = 'ENQUEUED' AND w.queue_partition_key IS NOT NULL AND w.application = :application
              AND w.queue = :queue AND w.queue_partition_key > :after
            ORDER BY w.queue_partition_key, w.priority, w.created_at, w.start_id LIMIT 1)
    UNION ALL
    SELECT (SELECT w.queue_partition_key FROM {schema}.workflows AS w
            WHERE w.status = 'ENQUEUED' AND w.queue_partition_key IS NOT NULL AND w.application = :application
              AND w.queue = :queue AND w.queue_partition_key > f.key
            ORDER BY w.queue_partition_key, w.priority, w.created_at, w.start_id LIMIT 1)
    FROM found AS f
    WHERE f.key IS NOT NULL
)
SELECT key FROM found WHERE key IS NOT NULL LIMIT :count;

-- name: lock_queue
-- Claims within shared limits go one by one, and so do changes of the queue.
SELECT revision, paused_at FROM {schema}.queues WHERE application = :application AND name = :queue {for_update};

-- name: count_running
-- Slots in use; what is parked uses none.
SELECT count(*) AS running
FROM {schema}.workflows AS w
WHERE w.queue = :queue AND w.application = :application AND w.status = 'PENDING' AND w.owner IS NOT NULL;

-- name: count_running_of
-- Slots in use, by partition. The CASE keeps the planner from going by the owner, through all that its process runs.
SELECT u.key AS key,
       (SELECT count(*) FROM {schema}.workflows AS w
        WHERE w.queue = :queue AND w.application = :application AND w.status = 'PENDING'
          AND CASE WHEN w.owner IS NULL THEN false ELSE true END AND w.queue_partition_key = u.key) AS running
FROM {rows: key text};

-- name: forget_starts
-- Starts that have left the longest window.
DELETE FROM {schema}.queue_starts
WHERE application = :application AND queue = :queue AND started_at <= (SELECT {now}) - :period_ms;

-- name: count_starts
-- Starts within the limiter's window, and when the first of them leaves it.
SELECT count(*) AS starts, min(started_at) + :period_ms - {now} AS frees_in
FROM {schema}.queue_starts
WHERE application = :application AND queue = :queue AND started_at > (SELECT {now}) - :period_ms;

-- name: count_starts_of
-- The same by partition.
SELECT u.key AS key,
       (SELECT count(*) FROM {schema}.queue_starts AS s
        WHERE s.application = :application AND s.queue = :queue AND s.queue_partition_key = u.key
          AND s.started_at > (SELECT {now}) - :period_ms) AS starts,
       (SELECT min(s.started_at) + :period_ms - {now} FROM {schema}.queue_starts AS s
        WHERE s.application = :application AND s.queue = :queue AND s.queue_partition_key = u.key
          AND s.started_at > (SELECT {now}) - :period_ms) AS frees_in
FROM {rows: key text};

-- name: insert_start_times
-- One row for each start, for the limiters.
INSERT INTO {schema}.queue_starts (application, queue, queue_partition_key, started_at)
SELECT u.application, u.queue, u.queue_partition_key, {now}
FROM {rows: application text, queue text, queue_partition_key text};

-- name: promote_due
-- What was delayed until now waits for its turn from here on. The clock stands in a sub-select, and the CASE is there,
-- for what is said at take_due. No row can be in another's way: a deduplication id is taken while it is delayed, too.
UPDATE {schema}.workflows AS w
SET status = 'ENQUEUED', wake_at = NULL, updated_at = {now}
WHERE w.wake_at <= (SELECT {now}) AND CASE WHEN w.status = 'DELAYED' THEN true ELSE false END
  AND w.application = :application{unless_apart}
RETURNING queue;

-- name: set_delay
-- Compared and set: what is not delayed any more stays as it is.
UPDATE {schema}.workflows AS w
SET delay_until = COALESCE(CAST(:until AS bigint), {now} + CAST(:delay_ms AS bigint)),
    wake_at = COALESCE(CAST(:until AS bigint), {now} + CAST(:delay_ms AS bigint)), updated_at = {now}
WHERE w.id = :workflow_id AND w.status = 'DELAYED'
RETURNING id;

-- name: read_queues
-- The settings of all queues of an application, or of all.
SELECT application, name, concurrency, worker_concurrency, limiter_limit, limiter_period, partition_concurrency,
       partition_worker_concurrency, partition_limiter_limit, partition_limiter_period, partitions, priority_ages,
       polling_interval_sec, revision, declared, version, paused_at, paused_by, paused_reason, updated_at
FROM {schema}.queues
WHERE CAST(:application AS text) IS NULL OR application = :application
ORDER BY application, name;

-- name: save_queue
-- After the comparison under the row's lock; who paused it is not asked.
INSERT INTO {schema}.queues
    (application, name, concurrency, worker_concurrency, limiter_limit, limiter_period, partition_concurrency,
     partition_worker_concurrency, partition_limiter_limit, partition_limiter_period, partitions, priority_ages,
     polling_interval_sec, revision, declared, version, updated_at)
VALUES (:application, :name, :concurrency, :worker_concurrency, :limiter_limit, :limiter_period, :partition_concurrency,
        :partition_worker_concurrency, :partition_limiter_limit, :partition_limiter_period, :partitions, :priority_ages,
        :polling_interval_sec, :revision, :declared, :version, {now})
ON CONFLICT (application, name) DO UPDATE
SET concurrency = excluded.concurrency, worker_concurrency = excluded.worker_concurrency,
    limiter_limit = excluded.limiter_limit, limiter_period = excluded.limiter_period,
    partition_concurrency = excluded.partition_concurrency,
    partition_worker_concurrency = excluded.partition_worker_concurrency,
    partition_limiter_limit = excluded.partition_limiter_limit,
    partition_limiter_period = excluded.partition_limiter_period,
    partitions = excluded.partitions, priority_ages = excluded.priority_ages,
    polling_interval_sec = excluded.polling_interval_sec,
    revision = excluded.revision, declared = excluded.declared, version = excluded.version,
    updated_at = excluded.updated_at;

-- name: insert_queue
-- So that there is a row to lock; two who do it at once do not fail.
INSERT INTO {schema}.queues (application, name, polling_interval_sec, revision, declared, updated_at)
VALUES (:application, :name, 1.0, :revision, :declared, {now})
ON CONFLICT (application, name) DO NOTHING
RETURNING name;

-- name: pause_queue
-- Under another revision, so that no claim that is about to begin takes anything more.
UPDATE {schema}.queues
SET paused_at = COALESCE(paused_at, {now}), paused_by = :by, paused_reason = :reason, revision = :revision,
    updated_at = {now}
WHERE application = :application AND name = :name
RETURNING name;

-- name: unpause_queue
-- It is served again.
UPDATE {schema}.queues
SET paused_at = NULL, paused_by = NULL, paused_reason = NULL, revision = :revision, updated_at = {now}
WHERE application = :application AND name = :name AND paused_at IS NOT NULL
RETURNING name;

-- name: delete_queue
-- What waits on it stays, and waits until there is a queue of the name again.
DELETE FROM {schema}.queues WHERE application = :application AND name = :name RETURNING name;

-- name: latest_version
-- The version whose first process began last.
SELECT e.version FROM {schema}.executors AS e
WHERE e.application = :application
GROUP BY e.version
ORDER BY min(e.id) DESC
LIMIT 1;

-- name: waiting_on
-- What has not begun, the oldest first, of one queue: to be purged, or to be counted.
SELECT w.id
FROM {schema}.workflows AS w
WHERE w.status = 'ENQUEUED' AND COALESCE(w.queue, '') = :queue AND w.application = :application AND w.lane_open IS NOT TRUE
ORDER BY w.priority, w.created_at
LIMIT :count;

-- name: count_on_queue
-- Each number is bounded: whoever asks shall not read a backlog of millions. What is delayed is found by its time.
SELECT (SELECT count(*) FROM (SELECT 1 AS one FROM {schema}.workflows AS w
                              WHERE w.status = 'ENQUEUED' AND COALESCE(w.queue, '') = :queue
                                AND w.application = :application LIMIT :count) AS a) AS waiting,
       (SELECT count(*) FROM (SELECT 1 AS one FROM {schema}.workflows AS w
                              WHERE w.wake_at IS NOT NULL AND w.status = 'DELAYED' AND w.queue = :queue
                                AND w.application = :application LIMIT :count) AS b) AS delayed,
       (SELECT count(*) FROM {schema}.workflows AS w
        WHERE w.status = 'PENDING' AND w.queue = :queue AND w.application = :application
          AND w.owner IS NOT NULL) AS running,
       (SELECT count(*) FROM (SELECT 1 AS one FROM {schema}.workflows AS w
                              WHERE w.status = 'PENDING' AND w.queue = :queue AND w.application = :application
                                AND w.owner IS NULL LIMIT :count) AS c) AS parked,
       (SELECT min(d.created_at) FROM (SELECT w.created_at FROM {schema}.workflows AS w
                                       WHERE w.status = 'ENQUEUED' AND COALESCE(w.queue, '') = :queue
                                         AND w.application = :application
                                       ORDER BY w.priority, w.created_at LIMIT 100) AS d) AS oldest_at;

-- name: count_partitions
-- The partitions in which most waits, of the first that wait.
SELECT w.queue_partition_key AS partition, count(*) AS waiting
FROM (SELECT x.queue_partition_key FROM {schema}.workflows AS x
      WHERE x.status = 'ENQUEUED' AND x.queue = :queue AND x.application = :application
        AND x.queue_partition_key IS NOT NULL LIMIT :count) AS w
GROUP BY w.queue_partition_key
ORDER BY count(*) DESC, w.queue_partition_key
LIMIT :shown;

-- name: read_winner
-- Whoever has the deduplication id now.
SELECT w.id FROM {schema}.workflows AS w
WHERE w.deduplication_id = :deduplication_id AND w.deduplication_queue = :queue AND w.application = :application
  AND w.status IN ('PENDING', 'ENQUEUED', 'DELAYED');

-- name: withdraw_checkpoints
-- What they stand for did not happen: a start whose deduplication id another has, a message to nobody, a publication
-- that somebody else took.
DELETE FROM {schema}.checkpoints
WHERE workflow_id = :workflow_id AND generation = :generation AND step = :step AND write_id = :write_id
  AND writer = :executor;

-- name: explain_waiting
-- Why does it not run? The row with all that decides about it.
SELECT w.id, w.application, w.name, w.status, w.owner, w.queue, w.queue_partition_key, w.priority, w.created_at,
       w.delay_until, w.version, w.version_pinned, w.take, w.lane_open, w.held, w.wake_at, w.awaits,
       w.deduplication_id, {now} AS now
FROM {schema}.workflows AS w
WHERE w.id = :workflow_id;

-- name: count_before
-- How many of its queue, or of its partition, go before it; bounded.
SELECT count(*) AS before
FROM (SELECT 1 AS one FROM {schema}.workflows AS w
      WHERE w.status = 'ENQUEUED' AND COALESCE(w.queue, '') = :queue AND w.application = :application
        AND (CAST(:partition AS text) IS NULL OR w.queue_partition_key = :partition)
        AND (w.priority < :priority OR (w.priority = :priority AND w.created_at < :created_at))
      LIMIT :count) AS bounded;

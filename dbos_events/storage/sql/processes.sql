-- name: delete_told_steps
-- What this process told before, and what the dead left.
DELETE FROM {schema}.running_steps
WHERE executor = :executor OR executor NOT IN (SELECT e.id FROM {schema}.executors AS e WHERE e.alive);

-- name: insert_told_steps
-- Steps that have been running for some seconds; a workflow may have several at once.
INSERT INTO {schema}.running_steps (workflow_id, number, executor, name, started_at)
SELECT u.workflow_id, u.number, :executor, u.name, u.started_at
FROM {rows: workflow_id text, number int, name text, started_at bigint}
WHERE true
ON CONFLICT (workflow_id, number) DO UPDATE
SET executor = excluded.executor, name = excluded.name, started_at = excluded.started_at;

-- name: list_processes
-- The living, and those that have ended within the last hour, with what each has.
SELECT e.id AS executor, e.application, e.label, e.pid, e.version,
       CASE WHEN NOT e.alive THEN 'dead' WHEN e.lease_until > {now} THEN 'alive' ELSE 'silent' END AS state,
       e.started_at, CASE WHEN e.alive AND e.lease_until <= {now} THEN {now} - e.lease_until END AS seen_ms,
       e.ended_at, e.end_reason,
       (SELECT count(*) FROM {schema}.workflows AS w WHERE w.owner = e.id AND w.status = 'PENDING') AS workflows,
       (SELECT count(*) FROM {schema}.watermarks AS m WHERE m.holder = e.id) AS partitions,
       s.name AS longest_step, {now} - s.started_at AS longest_step_ms
FROM {schema}.executors AS e
LEFT JOIN {schema}.running_steps AS s
  ON s.executor = e.id AND e.alive
 AND NOT EXISTS (SELECT 1 FROM {schema}.running_steps AS o
                 WHERE o.executor = e.id
                   AND (o.started_at < s.started_at
                        OR (o.started_at = s.started_at
                            AND (o.workflow_id < s.workflow_id
                                 OR (o.workflow_id = s.workflow_id AND o.number < s.number)))))
WHERE (CAST(:application AS text) IS NULL OR e.application = :application)
  AND (e.alive OR e.ended_at > {now} - 3600000)
ORDER BY e.application, e.label, e.id;

-- name: what_they_do
-- Of workflows that have not ended. What stands before one in its lane is the first there that has not freed it; the
-- generation before tells whether the time that one waits for is that of its next attempt.
SELECT w.id, w.status, w.owner, w.queue, w.attempt, w.wake_at, w.awaits, w.delay_until, w.lane, w.consumer,
       COALESCE(w.held, false) AS held, w.created_at, w.started_at, {now} AS now,
       e.label, e.pid, e.alive, e.lease_until > {now} AS fresh, e.version AS executor_version,
       g.next_at, g.error_type, g.error_message,
       s.name AS step, s.number, s.started_at AS step_started_at,
       (SELECT max(c.completed_at) FROM {schema}.steps AS c
        WHERE c.workflow_id = w.id AND c.generation = w.generation) AS last_step_at,
       (SELECT h.id FROM {schema}.workflows AS h
        WHERE w.lane IS NOT NULL AND h.consumer = w.consumer AND h.incarnation = w.incarnation AND h.lane = w.lane
          AND h.lane_open AND h.lane_sequence < w.lane_sequence
        ORDER BY h.lane_sequence LIMIT 1) AS behind
FROM {schema}.workflows AS w
LEFT JOIN {schema}.executors AS e ON e.id = w.owner
LEFT JOIN {schema}.generations AS g ON g.workflow_id = w.id AND g.generation = w.generation - 1
LEFT JOIN {schema}.running_steps AS s
  ON s.workflow_id = w.id AND s.executor = w.owner
 AND s.number = (SELECT max(o.number) FROM {schema}.running_steps AS o
                 WHERE o.workflow_id = w.id AND o.executor = w.owner)
WHERE w.id IN ({list:ids}) AND w.status IN ('PENDING', 'ENQUEUED', 'DELAYED');

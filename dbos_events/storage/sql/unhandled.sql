-- name: waiting_functions
-- Functions of work that waits for a process: on a queue, left by the dead, asleep past its time. At most `count`
-- rows of each kind are looked at, so a long queue costs no more than a short one. The order is that of a partial
-- index: without one PostgreSQL expects many such rows (a third of all to be due, or what a backlog had) and reads the
-- table from its beginning, through all that has finished.
SELECT s.application, s.name, count(*) AS waiting
FROM (
    SELECT * FROM (SELECT w.application, w.name FROM {schema}.workflows AS w
                   WHERE w.status = 'ENQUEUED'
                   ORDER BY COALESCE(w.queue, ''), w.priority, w.created_at LIMIT :count) AS on_queues
    UNION ALL
    SELECT * FROM (SELECT w.application, w.name FROM {schema}.executors AS e
                   JOIN {schema}.workflows AS w ON w.owner = e.id AND w.status = 'PENDING'
                   WHERE NOT e.alive ORDER BY w.owner LIMIT :count) AS left_over
    UNION ALL
    SELECT * FROM (SELECT w.application, w.name FROM {schema}.workflows AS w
                   WHERE w.wake_at <= (SELECT {now}) - :grace_ms
                     AND CASE WHEN w.status = 'PENDING' THEN true ELSE false END
                   ORDER BY w.wake_at LIMIT :count) AS due
) AS s
WHERE CAST(:application AS text) IS NULL OR s.application = :application
GROUP BY s.application, s.name
ORDER BY s.application, s.name;

-- name: waiting_versions
-- Started work of versions that no live process has, bounded in the same way.
SELECT s.version, count(*) AS waiting
FROM (
    SELECT * FROM (SELECT w.application, w.version FROM {schema}.workflows AS w
                   WHERE w.status = 'ENQUEUED' AND w.take > 0
                   ORDER BY COALESCE(w.queue, ''), w.priority, w.created_at LIMIT :count) AS on_queues
    UNION ALL
    SELECT * FROM (SELECT w.application, w.version FROM {schema}.executors AS e
                   JOIN {schema}.workflows AS w ON w.owner = e.id AND w.status = 'PENDING'
                   WHERE NOT e.alive ORDER BY w.owner LIMIT :count) AS left_over
    UNION ALL
    SELECT * FROM (SELECT w.application, w.version FROM {schema}.workflows AS w
                   WHERE w.wake_at <= (SELECT {now}) - :grace_ms
                     AND CASE WHEN w.status = 'PENDING' THEN true ELSE false END
                   ORDER BY w.wake_at LIMIT :count) AS due
) AS s
WHERE s.application = :application AND s.version <> :version
  AND s.version NOT IN (SELECT e.version FROM {schema}.executors AS e WHERE e.alive AND e.application = :application)
GROUP BY s.version
ORDER BY s.version;

-- name: live_functions
-- What the living can run; NULL where a process of an older release does not say.
SELECT DISTINCT e.application, e.functions FROM {schema}.executors AS e
WHERE e.alive AND (CAST(:application AS text) IS NULL OR e.application = :application);

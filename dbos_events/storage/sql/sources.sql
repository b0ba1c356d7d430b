-- name: delete_ended_sources
-- What processes said that have ended; there are few of them.
DELETE FROM {schema}.source_states
WHERE consumer = :consumer
  AND executor NOT IN (SELECT e.id FROM {schema}.executors AS e WHERE e.alive);

-- name: save_source
-- What one process says of a consumer, whether or not it has a partition.
INSERT INTO {schema}.source_states (consumer, executor, state, detail, updated_at)
VALUES (:consumer, :executor, :state, :detail, {now})
ON CONFLICT (consumer, executor) DO UPDATE
SET state = excluded.state, detail = excluded.detail, updated_at = excluded.updated_at;

-- name: list_idle_sources
-- For the status: live processes without a partition of the consumer, and consumers that never read anything
-- and that no live process has.
SELECT c.application, c.name AS consumer, c.group_id, c.topics, l.label AS process, l.pid, l.state, l.detail
FROM {schema}.consumers AS c
LEFT JOIN (SELECT s.consumer, s.executor, s.state, s.detail, e.label, e.pid
           FROM {schema}.source_states AS s
           JOIN {schema}.executors AS e ON e.id = s.executor AND e.alive AND e.lease_until > {now}) AS l ON l.consumer = c.id
WHERE (CAST(:application AS text) IS NULL OR c.application = :application)
  AND c.addresses IS NULL
  AND NOT EXISTS (SELECT 1 FROM {schema}.watermarks AS m
                  WHERE m.consumer = c.id AND (l.executor IS NULL OR m.holder = l.executor))
ORDER BY c.application, c.name, l.executor;

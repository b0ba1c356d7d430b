-- name: read_applications
-- The applications that this database knows, from any process start or queue of theirs.
SELECT e.application FROM {schema}.executors AS e
UNION
SELECT q.application FROM {schema}.queues AS q;

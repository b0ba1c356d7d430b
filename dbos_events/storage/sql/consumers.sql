-- name: lock_registrations
-- Two consumers that register at the same moment must see each other: no row of theirs is there to be locked.
SELECT {registration_lock} AS locked, {idle_bound};

-- name: read_consumers
-- All consumers of an application, to compare a new one with.
SELECT id, name, handler, group_id, COALESCE(id_group, group_id) AS id_group, topics, connector
FROM {schema}.consumers WHERE application = :application;

-- name: insert_consumer
-- A consumer that is known keeps its number and its group.
INSERT INTO {schema}.consumers (application, name, handler, group_id, topics, settings, updated_at, id_prefix,
                                 connector)
VALUES (:application, :name, :handler, :group_id, :topics, :settings, {now}, :id_prefix, :connector)
ON CONFLICT (application, name) DO UPDATE
SET handler = excluded.handler, topics = excluded.topics, settings = excluded.settings,
    updated_at = excluded.updated_at, id_prefix = COALESCE(consumers.id_prefix, excluded.id_prefix),
    connector = COALESCE(consumers.connector, excluded.connector)
RETURNING id, group_id;

-- name: consumer_states
-- Whether each consumer takes events in; the trial's row says how a half-open breaker goes on.
SELECT c.id, c.application, c.name, c.paused_at, c.paused_by, c.paused_reason,
       c.breaker, c.breaker_reason, c.breaker_since, c.breaker_until, c.breaker_executor,
       COALESCE(c.breaker_until <= {now}, false) AS due, c.breaker_epoch, c.breaker_openings,
       w.id AS trial_id, w.status AS trial_status, w.owner AS trial_owner, w.attempt AS trial_attempt,
       w.wake_at AS trial_wake_at, w.awaits AS trial_awaits
FROM {schema}.consumers AS c
LEFT JOIN {schema}.workflows AS w ON w.id = c.breaker_trial
WHERE CAST(:application AS text) IS NULL OR c.application = :application
ORDER BY c.application, c.name;

-- name: pause_consumer
-- One that is paused already keeps who paused it, and why.
UPDATE {schema}.consumers
SET paused_at = {now}, paused_by = :paused_by, paused_reason = :reason
WHERE application = :application AND name = :name AND paused_at IS NULL
RETURNING id;

-- name: resume_consumer
-- By hand: ends a pause, and closes the breaker.
UPDATE {schema}.consumers
SET paused_at = NULL, paused_by = NULL, paused_reason = NULL,
    breaker = NULL, breaker_reason = NULL, breaker_since = NULL, breaker_until = NULL, breaker_executor = NULL,
    breaker_trial = NULL, breaker_openings = 0, breaker_epoch = breaker_epoch + 1
WHERE application = :application AND name = :name AND (paused_at IS NOT NULL OR breaker IS NOT NULL)
RETURNING id;

-- name: consumer_settings
-- What each consumer was last launched with, without secrets.
SELECT application, name, settings FROM {schema}.consumers
WHERE CAST(:application AS text) IS NULL OR application = :application;

-- name: lock_consumer
-- The cluster that a consumer reads, and what was decided about another one.
SELECT id, application, name, group_id, COALESCE(id_group, group_id) AS id_group, topics,
       cluster_id, seen_cluster_id, former_cluster_id, adoption, connector
FROM {schema}.consumers
WHERE id = :consumer
{for_update};

-- name: find_consumer
-- By name, to change it.
SELECT id, application, name, group_id, COALESCE(id_group, group_id) AS id_group, topics,
       cluster_id, seen_cluster_id, former_cluster_id, adoption, connector
FROM {schema}.consumers
WHERE application = :application AND name = :name
{for_update};

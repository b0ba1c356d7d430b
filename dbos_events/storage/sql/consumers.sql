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

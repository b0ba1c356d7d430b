-- name: adopt_cluster
-- The operator's decision: the other cluster from now on, at the same offsets or from its beginning.
UPDATE {schema}.consumers
SET former_cluster_id = cluster_id, cluster_id = seen_cluster_id, seen_cluster_id = NULL, adoption = :adoption,
    updated_at = {now}
WHERE id = :consumer;

-- name: insert_branch
-- The log goes another way from some offset on: events from there have ids of their own.
INSERT INTO {schema}.incarnations (cluster_id, topic, topic_id, branch, retired, created_at)
SELECT i.cluster_id, i.topic, i.topic_id,
       (SELECT max(b.branch) + 1 FROM {schema}.incarnations AS b
        WHERE b.cluster_id = i.cluster_id AND b.topic = i.topic AND b.topic_id = i.topic_id),
       false, {now}
FROM {schema}.incarnations AS i
WHERE i.id = :incarnation
RETURNING id;

-- name: standing_of
-- A partition of a consumer in the newest branch of the topic's life in use, to decide about it: an intake that is
-- under way ends first, or the decision would put its watermark back.
SELECT m.incarnation, m.next_offset, m.halted, m.divergence, m.regression, m.reached
FROM {schema}.watermarks AS m JOIN {schema}.incarnations AS i ON i.id = m.incarnation
WHERE m.consumer = :consumer AND i.topic = :topic AND m.partition = :partition AND NOT i.retired
ORDER BY m.incarnation DESC
LIMIT 1
{for_update_m};

-- name: release_partition
-- The decision is taken: reading goes on from `next_offset`.
UPDATE {schema}.watermarks
SET halted = NULL, divergence = NULL, alarm = :alarm, next_offset = :next_offset, reason = :reason,
    epoch = epoch + 1, updated_at = {now}
WHERE consumer = :consumer AND incarnation = :incarnation AND partition = :partition;

-- name: leave_for_branch
-- What it has taken in stays; it is read no more.
UPDATE {schema}.watermarks
SET halted = NULL, divergence = NULL, alarm = NULL, holder = NULL, epoch = epoch + 1, state = 'left', detail = :detail,
    updated_at = {now}
WHERE consumer = :consumer AND incarnation = :incarnation AND partition = :partition;

-- name: change_group
-- Watermarks and ids stay: ids go on naming the group that the consumer began with.
UPDATE {schema}.consumers
SET id_group = COALESCE(id_group, group_id), group_id = :group_id, updated_at = {now}
WHERE id = :consumer;

-- name: rename_consumer
-- Number, watermarks and ids stay.
UPDATE {schema}.consumers
SET name = :name, id_group = COALESCE(id_group, group_id), group_id = :group_id, updated_at = {now}
WHERE id = :consumer;

-- name: holders_of
-- Processes that hold partitions of a consumer; one that crashed counts until its lease is over.
SELECT DISTINCT e.label
FROM {schema}.watermarks AS m JOIN {schema}.executors AS e ON e.id = m.holder
WHERE m.consumer = :consumer AND e.alive AND e.lease_until > {now};

-- name: clear_alarms
-- They were read.
UPDATE {schema}.watermarks SET alarm = NULL WHERE consumer = :consumer AND alarm IS NOT NULL
RETURNING partition;

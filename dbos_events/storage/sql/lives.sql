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

-- name: set_cluster
-- The cluster that a consumer reads from now on.
UPDATE {schema}.consumers SET cluster_id = :cluster_id WHERE id = :consumer;

-- name: see_cluster
-- Another cluster answered than the one that this consumer reads; an operator decides.
UPDATE {schema}.consumers SET seen_cluster_id = :cluster_id WHERE id = :consumer;

-- name: adopt_cluster
-- The operator's decision: the other cluster from now on, at the same offsets or from its beginning.
UPDATE {schema}.consumers
SET former_cluster_id = cluster_id, cluster_id = seen_cluster_id, seen_cluster_id = NULL, adoption = :adoption,
    updated_at = {now}
WHERE id = :consumer;

-- name: lives_of
-- All lives of a topic in a cluster, and those of the time when the cluster had no id, newest first.
SELECT id, cluster_id, topic_id, branch, retired
FROM {schema}.incarnations
WHERE topic = :topic AND cluster_id IN (:cluster_id, '')
ORDER BY id DESC
{for_update};

-- name: learn_ids
-- What was not told before belongs to the life in use.
UPDATE {schema}.incarnations
SET cluster_id = :cluster_id, topic_id = :topic_id
WHERE topic = :topic AND cluster_id IN (:cluster_id, '') AND topic_id IN (:topic_id, '') AND NOT retired;

-- name: retire_lives
-- Final: an answer that names one of these is stale.
UPDATE {schema}.incarnations
SET retired = true
WHERE topic = :topic AND cluster_id = :cluster_id AND topic_id <> :topic_id AND NOT retired;

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

-- name: branches
-- The newest branch of each partition that has left the life as it began.
SELECT m.partition, max(b.id) AS incarnation
FROM {schema}.incarnations AS i
JOIN {schema}.incarnations AS b
  ON b.cluster_id = i.cluster_id AND b.topic = i.topic AND b.topic_id = i.topic_id AND b.branch > 0
JOIN {schema}.watermarks AS m ON m.incarnation = b.id AND m.consumer = :consumer
WHERE i.id = :incarnation
GROUP BY m.partition;

-- name: unfinished_lives
-- What was taken in of a life or a branch that is over is finished by who holds the topic's partition now.
SELECT m.incarnation, m.partition
FROM {schema}.incarnations AS n
JOIN {schema}.incarnations AS i ON i.topic = n.topic AND i.cluster_id = n.cluster_id
JOIN {schema}.watermarks AS m ON m.incarnation = i.id AND m.consumer = :consumer
WHERE n.id = :incarnation AND (i.retired OR m.state = 'left')
  AND EXISTS (SELECT 1 FROM {schema}.workflows AS w
              WHERE w.consumer = m.consumer AND w.incarnation = m.incarnation AND w.lane_open
                AND w.partition = m.partition)
ORDER BY m.incarnation, m.partition;

-- name: knows_topic
-- Whether a consumer has read any life of a topic, in its cluster.
SELECT 1 FROM {schema}.watermarks AS m JOIN {schema}.incarnations AS i ON i.id = m.incarnation
WHERE m.consumer = :consumer AND i.topic = :topic AND i.cluster_id IN (:cluster_id, '')
LIMIT 1;

-- name: positions_in_cluster
-- Where a consumer stood in a topic of another cluster, in its last life and branch there.
SELECT m.partition, m.next_offset
FROM {schema}.watermarks AS m JOIN {schema}.incarnations AS i ON i.id = m.incarnation
WHERE m.consumer = :consumer AND i.topic = :topic AND i.cluster_id = :cluster_id AND NOT i.retired
ORDER BY i.id;

-- name: topics_known
-- Names of topics that anybody has read.
SELECT DISTINCT topic FROM {schema}.incarnations;

-- name: subscriptions
-- What a consumer has registered for: topics and patterns whose first positions are written.
SELECT subscription FROM {schema}.subscriptions WHERE consumer = :consumer;

-- name: insert_subscription
-- From now on what appears under it begins at its first record.
INSERT INTO {schema}.subscriptions (consumer, subscription, registered_at)
VALUES (:consumer, :subscription, {now})
ON CONFLICT DO NOTHING;

-- name: skip_offsets
-- Only by the holder, and only from where its assignment stands.
UPDATE {schema}.watermarks
SET next_offset = :next_offset, leader_epoch = NULL, reason = :reason, alarm = :alarm, updated_at = {now}
WHERE consumer = :consumer AND incarnation = :incarnation AND partition = :partition
  AND epoch = :epoch AND next_offset = :expected;

-- name: halt_partition
-- It is not read until an operator decides, also by other processes.
UPDATE {schema}.watermarks
SET halted = :reason, divergence = :divergence, updated_at = {now}
WHERE consumer = :consumer AND incarnation = :incarnation AND partition = :partition AND holder = :executor;

-- name: halted_partitions
-- Those that still wait for a decision.
SELECT partition FROM {schema}.watermarks
WHERE consumer = :consumer AND incarnation = :incarnation AND halted IS NOT NULL;

-- name: note_alarm
-- What somebody should know of a partition.
UPDATE {schema}.watermarks
SET alarm = :alarm, regression = COALESCE(CAST(:regression AS bigint), regression)
WHERE consumer = :consumer AND incarnation = :incarnation AND partition = :partition;

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

-- name: holders_of
-- Processes that hold partitions of a consumer; one that crashed counts until its lease is over.
SELECT DISTINCT e.label
FROM {schema}.watermarks AS m JOIN {schema}.executors AS e ON e.id = m.holder
WHERE m.consumer = :consumer AND e.alive AND e.lease_until > {now};

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

-- name: clear_alarms
-- They were read.
UPDATE {schema}.watermarks SET alarm = NULL WHERE consumer = :consumer AND alarm IS NOT NULL
RETURNING partition;

-- name: insert_explained_gap
-- Offsets that are passed over for a reason that is known.
INSERT INTO {schema}.gaps (consumer, incarnation, partition, first_offset, next_offset, reason, recorded_at)
VALUES (:consumer, :incarnation, :partition, :first_offset, :next_offset, :reason, {now});

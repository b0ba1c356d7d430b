-- name: read_consumers
-- All consumers of an application, to compare a new one with.
SELECT id, name, handler, group_id, topics FROM {schema}.consumers WHERE application = :application;

-- name: insert_consumer
-- A consumer that is known keeps its number and its group.
INSERT INTO {schema}.consumers (application, name, handler, group_id, topics, settings, updated_at)
VALUES (:application, :name, :handler, :group_id, :topics, :settings, {now})
ON CONFLICT (application, name) DO UPDATE
SET handler = excluded.handler, topics = excluded.topics, settings = excluded.settings,
    updated_at = excluded.updated_at
RETURNING id, group_id;

-- name: insert_incarnation
-- One life of a topic; two processes may learn of it at once.
INSERT INTO {schema}.incarnations (cluster_id, topic, topic_id, retired, created_at)
VALUES (:cluster_id, :topic, :topic_id, false, {now})
ON CONFLICT (cluster_id, topic, topic_id) DO NOTHING;

-- name: read_incarnation
-- The number of this life of a topic.
SELECT id FROM {schema}.incarnations
WHERE cluster_id = :cluster_id AND topic = :topic AND topic_id = :topic_id;

-- name: known_partitions
-- Partitions that have a first position.
SELECT partition FROM {schema}.watermarks WHERE consumer = :consumer AND incarnation = :incarnation;

-- name: insert_watermarks
-- What is there already stays: a watermark never goes back.
INSERT INTO {schema}.watermarks (consumer, incarnation, partition, next_offset, reason, epoch, updated_at)
SELECT :consumer, :incarnation, u.partition, u.next_offset, u.reason, 0, {now}
FROM {rows: partition int, next_offset bigint, reason text}
WHERE true
ON CONFLICT DO NOTHING;

-- name: lock_watermarks
-- In partition order, so that two processes cannot wait for each other.
SELECT partition, epoch, next_offset, leader_epoch, reason
FROM {schema}.watermarks
WHERE consumer = :consumer AND incarnation = :incarnation AND partition IN ({numbers:partitions})
ORDER BY partition
{for_update};

-- name: raise_epochs
-- A new assignment: whoever held these partitions before is fenced by the epoch.
UPDATE {schema}.watermarks AS m
SET epoch = m.epoch + 1, holder = :executor, updated_at = {now}
WHERE m.consumer = :consumer AND m.incarnation = :incarnation AND m.partition IN ({numbers:partitions});

-- name: move_watermarks
-- After the comparison under lock_watermarks, in the transaction that inserts the events.
UPDATE {schema}.watermarks AS m
SET next_offset = u.next_offset, leader_epoch = COALESCE(u.leader_epoch, m.leader_epoch),
    reason = 'taken in', updated_at = {now}
FROM {rows: partition int, next_offset bigint, leader_epoch int}
WHERE m.consumer = :consumer AND m.incarnation = :incarnation AND m.partition = u.partition;

-- name: insert_gaps
-- Offsets that the broker skipped, for the gap report.
INSERT INTO {schema}.gaps (consumer, incarnation, partition, first_offset, next_offset, recorded_at)
SELECT :consumer, :incarnation, u.partition, u.first_offset, u.next_offset, {now}
FROM {rows: partition int, first_offset bigint, next_offset bigint};

-- name: insert_event_workflows
-- Running here, or waiting when the consumer has a queue; an id that is known is passed over.
INSERT INTO {schema}.workflows
    (id, application, name, status, owner, take, start_id, version, queue, created_at, updated_at,
     consumer, incarnation, partition, position, lane, lane_open)
SELECT u.workflow_id, :application, :name,
       CASE WHEN CAST(:queue AS text) IS NULL THEN 'PENDING' ELSE 'ENQUEUED' END,
       CASE WHEN CAST(:queue AS text) IS NULL THEN CAST(:executor AS bigint) END,
       CASE WHEN CAST(:queue AS text) IS NULL THEN 1 ELSE 0 END,
       u.position, :version, :queue, {now}, {now},
       :consumer, :incarnation, u.partition, u.position, u.lane, CASE WHEN u.lane IS NOT NULL THEN true END
FROM {rows: workflow_id text, partition int, position bigint, lane text}
WHERE true
ON CONFLICT (id) DO NOTHING;

-- name: insert_events
-- The records themselves.
INSERT INTO {schema}.events
    (workflow_id, key, value, headers, timestamp_type, timestamp, leader_epoch, latency, fingerprint)
SELECT u.workflow_id, u.key, u.value, u.headers, u.timestamp_type, u.timestamp, u.leader_epoch, u.latency,
       u.fingerprint
FROM {rows: workflow_id text, key bytea, value bytea, headers text, timestamp_type int, timestamp bigint,
      leader_epoch int, latency float8, fingerprint bigint}
WHERE true
ON CONFLICT (workflow_id) DO NOTHING;

-- name: read_fingerprints
-- What is known under these ids, to tell a duplicate from another record.
SELECT workflow_id, fingerprint FROM {schema}.events WHERE workflow_id IN ({list:ids});

-- name: read_events
-- The records as they were received.
SELECT e.workflow_id, i.topic, w.partition, w.position, e.key, e.value, e.headers, e.timestamp_type,
       e.timestamp, e.leader_epoch, e.latency
FROM {schema}.events AS e
JOIN {schema}.workflows AS w ON w.id = e.workflow_id
JOIN {schema}.incarnations AS i ON i.id = w.incarnation
WHERE e.workflow_id IN ({list:ids});

-- name: lane_entries
-- The head of a partition's lane and what follows it.
SELECT id, position, owner, status
FROM {schema}.workflows
WHERE consumer = :consumer AND incarnation = :incarnation AND partition = :partition AND lane = ''
  AND lane_open AND position < :before
ORDER BY position
LIMIT :count;

-- name: take_lane_entry
-- Only what nobody owns and what does not sleep; the caller is fenced.
UPDATE {schema}.workflows
SET owner = :executor, take = take + 1, updated_at = {now}
WHERE id = :workflow_id AND status = 'PENDING' AND owner IS NULL AND wake_at IS NULL AND awaited_id IS NULL
RETURNING id;

-- name: release_unstarted
-- Back to the lane, for its next holder.
UPDATE {schema}.workflows
SET owner = NULL, updated_at = {now}
WHERE id IN ({list:ids}) AND owner = :executor AND status = 'PENDING';

-- name: report_partitions
-- What the holder knows of the broker; the report of a former holder is passed over.
UPDATE {schema}.watermarks AS m
SET end_offset = COALESCE(u.end_offset, m.end_offset), state = u.state, detail = u.detail
FROM {rows: incarnation int, partition int, end_offset bigint, state text, detail text}
WHERE m.consumer = :consumer AND m.incarnation = u.incarnation AND m.partition = u.partition
  AND m.holder = :executor;

-- name: list_partitions
-- For `kafka status`.
SELECT c.application, c.name AS consumer, c.group_id, i.topic, m.incarnation, m.partition, m.next_offset, m.end_offset,
       e.label AS holder, COALESCE(e.alive, false) AS holder_alive, m.state, m.detail,
       (SELECT count(*) FROM {schema}.workflows AS w
        WHERE w.consumer = m.consumer AND w.incarnation = m.incarnation AND w.partition = m.partition
          AND w.status = 'PENDING' AND w.owner IS NOT NULL
          AND NOT EXISTS (SELECT 1 FROM {schema}.workflows AS h
                 WHERE h.consumer = w.consumer AND h.incarnation = w.incarnation AND h.partition = w.partition
                   AND h.lane = w.lane AND h.lane_open AND h.position < w.position)) AS in_flight,
       (SELECT count(*) FROM {schema}.workflows AS w
        WHERE w.consumer = m.consumer AND w.incarnation = m.incarnation AND w.partition = m.partition
          AND (w.status = 'ENQUEUED'
               OR (w.status = 'PENDING'
                   AND (w.owner IS NULL OR EXISTS (SELECT 1 FROM {schema}.workflows AS h
                        WHERE h.consumer = w.consumer AND h.incarnation = w.incarnation AND h.partition = w.partition
                          AND h.lane = w.lane AND h.lane_open AND h.position < w.position))))) AS held,
       (SELECT count(*) FROM {schema}.quarantine AS q JOIN {schema}.workflows AS w ON w.id = q.workflow_id
        WHERE q.consumer = m.consumer AND q.released_at IS NULL AND w.incarnation = m.incarnation
          AND w.partition = m.partition) AS quarantined
FROM {schema}.watermarks AS m
JOIN {schema}.consumers AS c ON c.id = m.consumer
JOIN {schema}.incarnations AS i ON i.id = m.incarnation
LEFT JOIN {schema}.executors AS e ON e.id = m.holder
WHERE CAST(:application AS text) IS NULL OR c.application = :application
ORDER BY c.name, i.topic, m.incarnation, m.partition;

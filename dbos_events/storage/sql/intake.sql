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
-- Running here, held behind another event, or waiting on the consumer's queue; an id that is known is passed over.
-- `behind` are lanes in which an earlier event stands: their events are not kept by this process.
INSERT INTO {schema}.workflows
    (id, application, name, status, owner, take, start_id, version, queue, created_at, updated_at,
     consumer, incarnation, partition, position, lane, lane_sequence, lane_open, held)
SELECT u.workflow_id, :application, :name,
       CASE WHEN CAST(:queue AS text) IS NULL THEN 'PENDING' ELSE 'ENQUEUED' END,
       CASE WHEN u.owned THEN CAST(:executor AS bigint) END,
       CASE WHEN u.owned THEN 1 ELSE 0 END,
       u.position, :version, :queue, {now}, {now},
       :consumer, :incarnation, u.partition, u.position, u.lane, u.lane_sequence,
       CASE WHEN u.lane IS NOT NULL THEN true END, CASE WHEN u.lane IS NOT NULL THEN NOT u.owned END
FROM (SELECT {values but owned}, u.owned AND NOT COALESCE(u.lane IN ({list:behind}), false) AS owned
      FROM {rows: workflow_id text, partition int, position bigint, lane text, lane_sequence bigint, owned bool}) AS u
WHERE true
ON CONFLICT (id) DO NOTHING;

-- name: place_events
-- Where on the queue they wait; of consumers that say so, in the transaction that has inserted them.
UPDATE {schema}.workflows AS w
SET priority = u.priority, queue_partition_key = u.queue_partition_key,
    status = CASE WHEN u.delay_ms IS NULL THEN w.status ELSE 'DELAYED' END,
    delay_until = {now} + u.delay_ms, wake_at = {now} + u.delay_ms
FROM {rows: workflow_id text, priority int, queue_partition_key text, delay_ms bigint}
WHERE w.id = u.workflow_id AND CASE WHEN w.status = 'ENQUEUED' AND w.take = 0 THEN true ELSE false END;

-- name: insert_events
-- The records themselves.
INSERT INTO {schema}.events ({columns})
SELECT {values}
FROM {rows: workflow_id text, key bytea, value bytea, headers text, timestamp_type int, timestamp bigint,
      leader_epoch int, latency float8, fingerprint bigint}
WHERE true
ON CONFLICT (workflow_id) DO NOTHING;

-- name: read_known
-- What there is under these ids, to tell a duplicate from another record, and from a workflow that is no event.
SELECT w.id, w.consumer, e.fingerprint
FROM {schema}.workflows AS w
LEFT JOIN {schema}.events AS e ON e.workflow_id = w.id
WHERE w.id IN ({list:ids});

-- name: read_fingerprints
-- What the last records were that were taken in, to see whether the log still has them.
SELECT workflow_id, fingerprint FROM {schema}.events WHERE workflow_id IN ({list:ids});

-- name: event_sizes
-- The lengths stand beside the values, which are not read for them; of headers, which are short, characters are counted.
SELECT e.workflow_id,
       COALESCE((SELECT length(v.value) FROM {schema}.edited_values AS v WHERE v.workflow_id = e.workflow_id
                 ORDER BY v.generation DESC LIMIT 1), length(e.value), 0)
       + COALESCE(length(e.key), 0) + COALESCE(length(e.headers), 0) AS size
FROM {schema}.events AS e
WHERE e.workflow_id IN ({list:ids});

-- name: read_events
-- The records as they were received; with the value that an operator gave instead, where one did.
SELECT e.workflow_id, c.name AS consumer, c.connector, i.topic, w.partition, w.position AS "offset", e.key,
       COALESCE((SELECT v.value FROM {schema}.edited_values AS v WHERE v.workflow_id = e.workflow_id
                 ORDER BY v.generation DESC LIMIT 1), e.value) AS value,
       e.headers, e.timestamp_type, e.timestamp, e.leader_epoch, e.latency, e.content_type, w.lane, e.fingerprint
FROM {schema}.events AS e
JOIN {schema}.workflows AS w ON w.id = e.workflow_id
LEFT JOIN {schema}.consumers AS c ON c.id = w.consumer
LEFT JOIN {schema}.incarnations AS i ON i.id = w.incarnation
WHERE e.workflow_id IN ({list:ids});

-- name: insert_filtered
-- Records that a consumer's `when` left out, or that were only published: they start nothing, and are counted.
INSERT INTO {schema}.gaps
    (consumer, incarnation, partition, first_offset, next_offset, reason, records, recorded_at)
SELECT :consumer, :incarnation, u.partition, u.first_offset, u.next_offset, u.reason, u.records, {now}
FROM {rows: partition int, first_offset bigint, next_offset bigint, records bigint, reason text};

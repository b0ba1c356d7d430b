-- name: known_partitions
-- Partitions that have a first position.
SELECT partition FROM {schema}.watermarks WHERE consumer = :consumer AND incarnation = :incarnation;

-- name: insert_watermarks
-- What is there already stays: a watermark never goes back.
INSERT INTO {schema}.watermarks
    (consumer, incarnation, partition, next_offset, first_offset, reason, gate, epoch, updated_at)
SELECT :consumer, :incarnation, u.partition, u.next_offset, u.next_offset, u.reason, :gate, 0, {now}
FROM {rows: partition int, next_offset bigint, reason text}
WHERE true
ON CONFLICT DO NOTHING;

-- name: gate_holds
-- Whether something of these partitions, below these offsets, was not taken in yet, or holds its lane still.
SELECT u.partition
FROM {rows: partition int, before bigint}
WHERE EXISTS (SELECT 1 FROM {schema}.watermarks AS m
              WHERE m.consumer = :consumer AND m.incarnation = :incarnation AND m.partition = u.partition
                AND m.next_offset < u.before)
   OR EXISTS (SELECT 1 FROM {schema}.workflows AS w
              WHERE w.consumer = :consumer AND w.incarnation = :incarnation AND w.lane_open
                AND w.partition = u.partition AND w.position < u.before)
LIMIT 1;

-- name: open_gate
-- Nothing is before the partition any more.
UPDATE {schema}.watermarks SET gate = NULL, updated_at = {now}
WHERE consumer = :consumer AND incarnation = :incarnation AND partition = :partition AND epoch = :epoch;

-- name: lock_watermarks
-- In partition order, so that two processes cannot wait for each other.
SELECT partition, epoch, next_offset, leader_epoch, reason, halted, regression, gate
FROM {schema}.watermarks
WHERE consumer = :consumer AND incarnation = :incarnation AND partition IN ({numbers:partitions})
ORDER BY partition
{for_update};

-- name: raise_epochs
-- A new assignment: whoever held these partitions before is fenced by the epoch.
UPDATE {schema}.watermarks AS m
SET epoch = m.epoch + 1, holder = :executor, updated_at = {now}
WHERE m.consumer = :consumer AND m.incarnation = :incarnation AND m.partition IN ({numbers:partitions});

-- name: report_partitions
-- What the holder knows of the broker; the report of a former holder is passed over.
UPDATE {schema}.watermarks AS m
SET end_offset = COALESCE(u.end_offset, m.end_offset), state = u.state, detail = u.detail,
    reached = COALESCE(u.reached, m.reached), reported_at = {now},
    end_at = CASE WHEN u.end_offset IS NULL THEN m.end_at ELSE {now} END
FROM {rows: incarnation int, partition int, end_offset bigint, state text, detail text, reached bigint}
WHERE m.consumer = :consumer AND m.incarnation = u.incarnation AND m.partition = u.partition
  AND m.holder = :executor;

-- name: list_partitions
-- For the status. A holder whose lease is over, or who has said nothing for 15 seconds, tells nothing: then neither
-- the state nor the end is known. What runs, sleeps, or may run at once is in flight; what waits behind another event of its
-- lane, or on a queue, is held. All is counted in one pass: each count of its own, for each partition,
-- took minutes with 200,000 held events. Of what somebody owns only the head of a lane runs.
WITH open_events AS (
    SELECT w.consumer, w.incarnation, w.partition, w.created_at, w.owner,
           CASE WHEN w.lane_open IS NOT TRUE THEN 0
                WHEN w.owner IS NULL THEN CASE WHEN w.held THEN 1 ELSE 0 END
                WHEN EXISTS (SELECT 1 FROM {schema}.workflows AS h
                             WHERE h.consumer = w.consumer AND h.incarnation = w.incarnation
                               AND h.lane = w.lane AND h.lane_open AND h.lane_sequence < w.lane_sequence) THEN 1
                ELSE 0 END AS held
    FROM {schema}.workflows AS w
    WHERE w.status = 'PENDING' AND w.consumer IS NOT NULL
    UNION ALL
    SELECT w.consumer, w.incarnation, w.partition, w.created_at, w.owner, 1
    FROM {schema}.workflows AS w
    WHERE w.status = 'ENQUEUED' AND w.consumer IS NOT NULL
), counted AS (
    SELECT consumer, incarnation, partition, sum(1 - held) AS in_flight, sum(held) AS held,
           sum(CASE WHEN held = 0 AND owner IS NULL THEN 1 ELSE 0 END) AS idle, min(created_at) AS oldest
    FROM open_events
    GROUP BY consumer, incarnation, partition
), put_aside AS (
    SELECT w.consumer, w.incarnation, w.partition, count(*) AS quarantined
    FROM {schema}.quarantine AS q
    JOIN {schema}.workflows AS w ON w.id = q.workflow_id
    WHERE q.released_at IS NULL
    GROUP BY w.consumer, w.incarnation, w.partition
)
SELECT c.application, c.name AS consumer, c.group_id, i.topic, i.topic_id, m.incarnation, m.partition, m.next_offset,
       CASE WHEN e.alive AND e.lease_until > {now} AND m.end_at > {now} - 15000 THEN m.end_offset END AS end_offset,
       e.label AS holder, e.pid AS holder_pid, COALESCE(e.alive AND e.lease_until > {now}, false) AS holder_alive,
       CASE WHEN i.retired THEN 'retired' WHEN m.halted IS NOT NULL THEN 'halted' WHEN m.state = 'left' THEN 'left'
            WHEN NOT COALESCE(e.alive AND e.lease_until > {now}, false) THEN 'no process'
            WHEN m.state = 'sweeping' OR m.reported_at > {now} - 15000 OR m.updated_at > {now} - 15000 THEN m.state
            ELSE 'silent' END AS state,
       COALESCE(m.halted, m.detail, m.alarm) AS detail, m.reached, {now} - m.reported_at AS silent_ms,
       COALESCE(n.in_flight, 0) AS in_flight, COALESCE(n.held, 0) AS held, COALESCE(p.quarantined, 0) AS quarantined,
       COALESCE(n.idle, 0) AS idle, {now} - n.oldest AS oldest_ms,
       (SELECT CAST(COALESCE(sum(g.records), 0) AS bigint) FROM {schema}.gaps AS g
        WHERE g.consumer = m.consumer AND g.incarnation = m.incarnation AND g.partition = m.partition
          AND g.reason = 'filtered') AS filtered,
       (SELECT count(*) FROM {schema}.workflows AS x
        WHERE x.consumer = m.consumer AND x.incarnation = m.incarnation AND x.partition = m.partition
          AND x.status = 'EXPIRED') AS expired
FROM {schema}.watermarks AS m
JOIN {schema}.consumers AS c ON c.id = m.consumer
JOIN {schema}.incarnations AS i ON i.id = m.incarnation
LEFT JOIN {schema}.executors AS e ON e.id = m.holder
LEFT JOIN counted AS n
  ON n.consumer = m.consumer AND n.incarnation = m.incarnation AND n.partition = m.partition
LEFT JOIN put_aside AS p
  ON p.consumer = m.consumer AND p.incarnation = m.incarnation AND p.partition = m.partition
WHERE CAST(:application AS text) IS NULL OR c.application = :application
ORDER BY c.name, i.topic, m.incarnation, m.partition;

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

-- name: insert_explained_gap
-- Offsets that are passed over for a reason that is known.
INSERT INTO {schema}.gaps (consumer, incarnation, partition, first_offset, next_offset, reason, recorded_at)
VALUES (:consumer, :incarnation, :partition, :first_offset, :next_offset, :reason, {now});

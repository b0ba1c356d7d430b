-- name: orphaned_partitions
-- Nobody lives who holds them, for a while now, and something in them is ready to run. What sleeps becomes
-- ready by the timers, what the dead ran by `free_lanes_of_dead`; a lane behind a quarantined head is not ready.
-- What the asking process held last it knows itself to have or not.
SELECT m.consumer, c.name, c.handler, i.topic, m.incarnation, m.partition, m.epoch
FROM {schema}.watermarks AS m
JOIN {schema}.consumers AS c ON c.id = m.consumer
JOIN {schema}.incarnations AS i ON i.id = m.incarnation
LEFT JOIN {schema}.executors AS e ON e.id = m.holder
WHERE c.application = :application AND c.handler IN ({list:handlers})
  AND (m.holder IS NULL OR NOT e.alive OR m.holder = :executor)
  AND COALESCE(e.ended_at, m.updated_at) <= (SELECT {now}) - :grace_ms
  AND EXISTS (
        SELECT 1 FROM {schema}.workflows AS w
        WHERE w.consumer = m.consumer AND w.incarnation = m.incarnation
          AND (w.lane = CAST(m.partition AS text)
               OR (w.lane >= CAST(m.partition AS text) || '/' AND w.lane < CAST(m.partition AS text) || '0'))
          AND w.lane_open AND w.status = 'PENDING' AND w.owner IS NULL AND w.wake_at IS NULL
          AND w.awaits IS NULL AND w.held IS NOT TRUE)
ORDER BY m.consumer, m.incarnation, m.partition;

-- name: take_orphan
-- The epoch says that nobody was assigned the partition since; death is final, so the holder stays dead.
UPDATE {schema}.watermarks AS m
SET epoch = m.epoch + 1, holder = :executor, state = 'sweeping', detail = :detail, updated_at = {now}
WHERE m.consumer = :consumer AND m.incarnation = :incarnation AND m.partition = :partition AND m.epoch = :epoch
  AND NOT EXISTS (SELECT 1 FROM {schema}.executors AS e WHERE e.id = m.holder AND e.alive AND e.id <> :executor)
RETURNING epoch, next_offset, leader_epoch, reason;

-- name: orphans_still_held
-- Those that no assignment has taken over.
SELECT m.consumer, m.incarnation, m.partition
FROM {rows: consumer int, incarnation int, partition int, epoch bigint}
JOIN {schema}.watermarks AS m
  ON m.consumer = u.consumer AND m.incarnation = u.incarnation AND m.partition = u.partition
WHERE m.epoch = u.epoch AND m.holder = :executor;

-- name: release_orphan
-- Nothing is left to run in it.
UPDATE {schema}.watermarks
SET holder = NULL, state = NULL, detail = NULL, updated_at = {now}
WHERE consumer = :consumer AND incarnation = :incarnation AND partition = :partition AND epoch = :epoch
  AND holder = :executor;

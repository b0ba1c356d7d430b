-- name: insert_executor
-- One process start; its lease runs from now. Where the database has lost starts in a fail-over a number may come again,
-- so a random identity stands beside it.
INSERT INTO {schema}.executors
    (application, label, explicit, version, boot_id, pid_namespace, pid, process_started, alive,
     heartbeat, lease_until, started_at, functions, start_id)
VALUES
    (:application, :label, :explicit, :version, :boot_id, :pid_namespace, :pid, :process_started, true,
     0, {now} + :lease_ms, {now}, :functions, :start_id)
RETURNING id;

-- name: renew_lease
-- No row: this executor is dead, and that is final. As `fence`, it takes the identity together with the number.
UPDATE {schema}.executors
SET heartbeat = heartbeat + 1, lease_until = {now} + :lease_ms
WHERE id = CAST(:executor AS bigint) & 4294967295 AND alive AND CAST(:executor AS bigint) >> 32 IN (0, start_id)
RETURNING id, {now} AS now, {idle_bound};

-- name: fence
-- First statement of every batch, intake and claim. A key share does not block the heartbeat, but
-- whoever takes this executor's work locks the row for update, and so waits for the batch to end.
-- The parameter is the number, and in its upper half the identity; 0 there stands for any.
SELECT id, {idle_bound} FROM {schema}.executors
WHERE id = CAST(:executor AS bigint) & 4294967295 AND alive AND CAST(:executor AS bigint) >> 32 IN (0, start_id)
{for_key_share};

-- name: list_executors
-- The living, and the dead who still own running workflows.
SELECT e.id, e.application, e.label, e.explicit, e.version, e.boot_id, e.pid_namespace, e.pid,
       e.process_started, e.alive, e.heartbeat, e.lease_until < {now} AS lease_over
FROM {schema}.executors AS e
WHERE e.application = :application
  AND (e.alive OR EXISTS (
        SELECT 1 FROM {schema}.workflows AS w WHERE w.owner = e.id AND w.status = 'PENDING'))
ORDER BY e.id;

-- name: lock_executor
-- Waits for the batches under way, whose fence holds the row.
SELECT alive, heartbeat, {idle_bound} FROM {schema}.executors WHERE id = :executor {for_update};

-- name: end_executor
-- Final.
UPDATE {schema}.executors
SET alive = false, ended_at = {now}, end_reason = :reason
WHERE id = CAST(:executor AS bigint) & 4294967295 AND alive AND CAST(:executor AS bigint) >> 32 IN (0, start_id);

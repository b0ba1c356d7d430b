-- name: insert_debounce
-- So that there is a row to lock.
INSERT INTO {schema}.debounces (application, name, key, calls, updated_at)
VALUES (:application, :name, :key, 0, {now})
ON CONFLICT (application, name, key) DO NOTHING;

-- name: lock_debounce
-- Calls of one workflow and key go one after the other.
SELECT workflow_id, limit_at, calls FROM {schema}.debounces
WHERE application = :application AND name = :name AND key = :key
{for_update};

-- name: find_call
-- Our own call, when the answer to its commit was lost.
SELECT workflow_id FROM {schema}.debounce_members WHERE call_id = :call_id;

-- name: push_window
-- Compared and set on the run's own row, which closes the window at its time: a call that comes then opens the next one.
-- The limit is that of the first call.
UPDATE {schema}.workflows AS w
SET delay_until = CASE WHEN CAST(:limit_at AS bigint) < {now} + :period_ms THEN CAST(:limit_at AS bigint)
                       ELSE {now} + :period_ms END,
    wake_at = CASE WHEN CAST(:limit_at AS bigint) < {now} + :period_ms THEN CAST(:limit_at AS bigint)
                   ELSE {now} + :period_ms END,
    updated_at = {now}
WHERE w.id = :workflow_id AND w.status = 'DELAYED' AND w.wake_at > {now}
RETURNING id;

-- name: open_window
-- The next run of the key, and until when it can be put off at most.
UPDATE {schema}.debounces
SET workflow_id = :workflow_id, limit_at = {now} + CAST(:limit_ms AS bigint), calls = 1, updated_at = {now}
WHERE application = :application AND name = :name AND key = :key;

-- name: count_call
-- One more call of the same run.
UPDATE {schema}.debounces SET calls = calls + 1, updated_at = {now}
WHERE application = :application AND name = :name AND key = :key;

-- name: insert_member
-- A call, and with what; of those that do not count for the run no input is kept.
INSERT INTO {schema}.debounce_members (call_id, workflow_id, number, codec, input)
VALUES (:call_id, :workflow_id, :number, :codec, :input);

-- name: replace_input
-- The last call says with what the function runs.
UPDATE {schema}.payloads SET codec = :codec, input = :input WHERE workflow_id = :workflow_id;

-- name: forget_members
-- Calls of a run that has begun, of which nothing was kept: they only tell a call that is written again.
DELETE FROM {schema}.debounce_members WHERE workflow_id = :workflow_id AND input IS NULL;

-- name: read_members
-- All calls of these runs.
SELECT workflow_id, codec, input FROM {schema}.debounce_members
WHERE workflow_id IN ({list:ids}) AND input IS NOT NULL
ORDER BY workflow_id, number;

-- name: update_parks
-- The run gives its workflow up; the CASE is explained at insert_checkpoints.
UPDATE {schema}.workflows AS w
SET owner = NULL, wake_at = u.wake_at, awaits = u.awaits, updated_at = {now}
FROM {rows: workflow_id text, take int, wake_at bigint, awaits text}
WHERE w.id = u.workflow_id
  AND CASE WHEN w.owner = :executor AND w.take = u.take AND w.status = 'PENDING' THEN true ELSE false END
RETURNING id;

-- name: insert_parked_keys
-- Of those that wait for several; the take tells them from what is left of an earlier wait.
INSERT INTO {schema}.parked_keys (workflow_id, take, key)
SELECT u.workflow_id, u.take, u.key
FROM {rows: workflow_id text, take int, key text}
JOIN {schema}.workflows AS w ON w.id = u.workflow_id AND w.take = u.take AND w.owner IS NULL AND w.awaits = '*'
WHERE true
ON CONFLICT (workflow_id, key) DO UPDATE SET take = excluded.take;

-- name: hasten_parks
-- What a run waits for is true already, or nobody might tell it.
UPDATE {schema}.workflows AS w
SET wake_at = u.wake_at, awaits = CASE WHEN u.is_true THEN NULL ELSE w.awaits END
FROM {rows: workflow_id text, take int, wake_at bigint, is_true bool}
WHERE w.id = u.workflow_id
  AND CASE WHEN w.take = u.take AND w.status = 'PENDING' AND w.owner IS NULL AND w.awaits IS NOT NULL
           THEN true ELSE false END;

-- name: lock_awaited
-- Held until the parking is committed, so the awaited workflow cannot end unseen in between.
SELECT id FROM {schema}.workflows WHERE id IN ({list:ids}) ORDER BY id {for_share};

-- name: lock_published
-- As lock_awaited, and the end of the workflow concerns the waiter as well: `update_outcomes` leaves it to who tells.
UPDATE {schema}.workflows SET has_waiters = true WHERE id IN ({list:ids}) AND status IN ('PENDING', 'ENQUEUED', 'DELAYED');

-- name: look_for_endings
-- What has ended, or does not exist; nobody tells of the end of a workflow that is not a child.
SELECT u.number, COALESCE(w.status NOT IN ('PENDING', 'ENQUEUED', 'DELAYED'), true) AS is_true
FROM {rows: number int, waiter text, subject text, detail text, since bigint}
LEFT JOIN {schema}.workflows AS w ON w.id = u.subject
WHERE COALESCE(w.status NOT IN ('PENDING', 'ENQUEUED', 'DELAYED') OR w.parent_id IS NULL OR w.parent_id <> u.waiter,
               true);

-- name: wake_parked
-- Whoever is parked on one of these keys goes on.
WITH keys(key) AS ({list:keys})
UPDATE {schema}.workflows AS w SET wake_at = {now}, awaits = NULL
FROM (SELECT p.id AS workflow_id, p.take AS take FROM {schema}.workflows AS p
      WHERE p.awaits IN (SELECT key FROM keys) AND p.awaits IS NOT NULL
      UNION ALL
      SELECT k.workflow_id, k.take FROM {schema}.parked_keys AS k WHERE k.key IN (SELECT key FROM keys)) AS f
WHERE w.id = f.workflow_id AND w.take = f.take AND w.awaits IS NOT NULL AND w.status = 'PENDING'
RETURNING id;

-- name: read_marked
-- Those of the workflows for whose end somebody is parked, beside a parent.
SELECT id FROM {schema}.workflows WHERE id IN ({list:ids}) AND has_waiters;

-- name: wake_readers
-- Whoever is parked on a key that begins so goes on: what it is about has ended. One beginning at a time: a planner has
-- no idea of how many keys lie between two that come from a table.
UPDATE {schema}.workflows AS w SET wake_at = {now}, awaits = NULL
FROM (SELECT p.id AS workflow_id, p.take AS take FROM {schema}.workflows AS p
      WHERE p.awaits >= :first AND p.awaits < :beyond
      UNION ALL
      SELECT k.workflow_id, k.take FROM {schema}.parked_keys AS k WHERE k.key >= :first AND k.key < :beyond) AS f
WHERE w.id = f.workflow_id AND w.take = f.take AND w.awaits IS NOT NULL AND w.status = 'PENDING'
RETURNING id;

-- name: wake_waiting
-- As wake_parked, where it is known who may wait for what.
UPDATE {schema}.workflows AS w SET wake_at = {now}, awaits = NULL
FROM {rows: workflow_id text, key text}
WHERE w.id = u.workflow_id
  AND CASE WHEN w.status <> 'PENDING' OR w.awaits IS NULL THEN false
           WHEN w.awaits = u.key THEN true
           WHEN w.awaits = '*' THEN EXISTS (SELECT 1 FROM {schema}.parked_keys AS k
                                            WHERE k.workflow_id = w.id AND k.key = u.key AND k.take = w.take)
           ELSE false END;

-- name: forget_parked_keys
-- They do not wait any more.
DELETE FROM {schema}.parked_keys WHERE workflow_id IN ({list:ids});

-- name: list_awaited
-- What parked workflows wait for, beside a time; of a publication its name and key.
SELECT p.id, p.key, a.name, a.key AS of_key
FROM (SELECT w.id, w.awaits AS key FROM {schema}.workflows AS w
      WHERE w.id IN ({list:ids}) AND w.awaits IS NOT NULL AND w.awaits <> '*'
      UNION ALL
      SELECT k.workflow_id, k.key FROM {schema}.parked_keys AS k
      JOIN {schema}.workflows AS w ON w.id = k.workflow_id AND w.take = k.take AND w.awaits = '*') AS p
LEFT JOIN {schema}.anchors AS a ON p.key = 'anchor:' || a.id
ORDER BY p.id, p.key;

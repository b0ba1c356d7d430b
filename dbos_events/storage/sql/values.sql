-- name: lock_writers
-- Workflows that set a value or write into a stream. Whoever parks to wait for it has the row locked, too, and looks again before its
-- parking is committed: one of both comes first (docs/protocol.md, rule 17).
SELECT id FROM {schema}.workflows WHERE id IN ({list:ids}) ORDER BY id {for_update};

-- name: insert_values
-- Only under the token; the CASE is explained at insert_checkpoints.
INSERT INTO {schema}.published_values
    ({columns but shielded}, writer, set_at)
SELECT {values but shielded}, :executor, {now}
FROM {rows: workflow_id text, take int, generation int, key text, number int, step int, codec text, value text,
      write_id bigint, shielded bool}
JOIN {schema}.workflows AS w
  ON w.id = u.workflow_id
 AND CASE WHEN w.owner = :executor AND w.take = u.take
               AND (w.status = 'PENDING' OR (u.shielded AND w.status = 'CANCELLED')) THEN true ELSE false END
WHERE true
ON CONFLICT DO NOTHING;

-- name: read_written_values
-- What stands in our way by our own hand, when the answer to a commit was lost.
SELECT v.workflow_id, v.key, v.number, v.write_id
FROM {rows: workflow_id text, take int, key text, number int}
JOIN {schema}.published_values AS v
  ON v.workflow_id = u.workflow_id AND v.key = u.key AND v.take = u.take AND v.number = u.number
WHERE v.writer = :executor;

-- name: delete_replaced_values
-- A step that sets a key again and again leaves one row for it: a cut keeps all that a step did, or nothing.
DELETE FROM {schema}.published_values
WHERE (workflow_id, key, take, number) IN (SELECT u.workflow_id, u.key, u.take, u.replaces
                                           FROM {rows: workflow_id text, take int, key text, replaces int});

-- name: with_values_or_entries
-- Those of the workflows that have values or entries of streams.
SELECT u.workflow_id, u.generation
FROM {rows: workflow_id text, generation int}
WHERE EXISTS (SELECT 1 FROM {schema}.published_values AS v WHERE v.workflow_id = u.workflow_id)
   OR EXISTS (SELECT 1 FROM {schema}.stream_entries AS e WHERE e.workflow_id = u.workflow_id);

-- name: cut_values
-- A value goes on into the next generation together with the checkpoint of the call that set it. One workflow at a time:
-- for several, a planner without statistics reads the whole table.
UPDATE {schema}.published_values
SET cut_in = :generation + 1
WHERE workflow_id = :workflow_id AND cut_in IS NULL
  AND NOT EXISTS (SELECT 1 FROM {schema}.checkpoints AS c
                  WHERE c.workflow_id = :workflow_id AND c.generation = :generation + 1
                    AND c.step = published_values.step);

-- name: read_value
-- How the workflow stands, and the value of the key, at one moment; no row where there is no such workflow.
SELECT w.status, v.number IS NOT NULL AS is_set, v.codec, v.value
FROM {schema}.workflows AS w
LEFT JOIN (
    SELECT x.number, x.codec, x.value
    FROM {schema}.published_values AS x
    WHERE x.workflow_id = :workflow_id AND x.key = :key AND x.cut_in IS NULL
    ORDER BY x.take DESC, x.number DESC
    LIMIT 1
) AS v ON 1 = 1
WHERE w.id = :workflow_id;

-- name: read_values
-- The latest value of each key, in the order of the keys. Goes from key to key, however often each was set.
WITH RECURSIVE keys(key) AS (
    SELECT min(x.key) FROM {schema}.published_values AS x WHERE x.workflow_id = :workflow_id
    UNION ALL
    SELECT (SELECT min(x.key) FROM {schema}.published_values AS x
            WHERE x.workflow_id = :workflow_id AND x.key > keys.key)
    FROM keys
    WHERE keys.key IS NOT NULL
)
SELECT v.key, v.codec, v.value
FROM keys AS k
JOIN {schema}.published_values AS v ON v.workflow_id = :workflow_id AND v.key = k.key
WHERE v.cut_in IS NULL
  AND (v.take, v.number) = (SELECT x.take, x.number FROM {schema}.published_values AS x
                            WHERE x.workflow_id = :workflow_id AND x.key = k.key AND x.cut_in IS NULL
                            ORDER BY x.take DESC, x.number DESC
                            LIMIT 1)
ORDER BY v.key;

-- name: look_for_values
-- A wait for a value is over when the value is there, or when its workflow has ended without it. Where there is no such
-- workflow yet, nobody can be met on its row.
SELECT u.number, w.id IS NOT NULL AS is_true
FROM {rows: number int, waiter text, subject text, detail text, since bigint}
LEFT JOIN {schema}.workflows AS w ON w.id = u.subject
WHERE w.id IS NULL OR w.status NOT IN ('PENDING', 'ENQUEUED', 'DELAYED')
   OR EXISTS (SELECT 1 FROM {schema}.published_values AS v
              WHERE v.workflow_id = u.subject AND v.key = u.detail AND v.cut_in IS NULL);

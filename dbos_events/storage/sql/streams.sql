-- name: insert_stream_entries
-- Only under the token; the CASE is explained at insert_checkpoints. A run counts positions itself: nobody else writes
-- into the streams of its workflow as long as it has the token.
INSERT INTO {schema}.stream_entries
    ({columns but shielded}, writer, written_at)
SELECT {values but shielded}, :executor, {now}
FROM {rows: workflow_id text, take int, generation int, stream text, position bigint, step int, attempt int,
      committed bool, resets bigint, ends bool, codec text, value text, write_id bigint,
      shielded bool}
JOIN {schema}.workflows AS w
  ON w.id = u.workflow_id
 AND CASE WHEN w.owner = :executor AND w.take = u.take
               AND (w.status = 'PENDING' OR (u.shielded AND w.status = 'CANCELLED')) THEN true ELSE false END
WHERE true
ON CONFLICT DO NOTHING;

-- name: read_written_entries
-- What stands in our way by our own hand, when the answer to a commit was lost.
SELECT e.workflow_id, e.stream, e.position, e.write_id
FROM {rows: workflow_id text, stream text, position bigint}
JOIN {schema}.stream_entries AS e
  ON e.workflow_id = u.workflow_id AND e.stream = u.stream AND e.position = u.position
WHERE e.writer = :executor;

-- name: settle_entries
-- The step has ended: what its last attempt wrote counts, or nothing does. Its checkpoint was written before, under the
-- token.
UPDATE {schema}.stream_entries AS e
SET committed = u.committed
FROM {rows: workflow_id text, take int, stream text, first bigint, last bigint, step int, attempt int, committed bool}
WHERE e.workflow_id = u.workflow_id AND e.stream = u.stream AND e.position BETWEEN u.first AND u.last
  AND e.take = u.take AND e.step = u.step AND e.attempt = u.attempt;

-- name: cut_entries
-- As cut_values.
UPDATE {schema}.stream_entries
SET cut_in = :generation + 1
WHERE workflow_id = :workflow_id AND cut_in IS NULL
  AND NOT EXISTS (SELECT 1 FROM {schema}.checkpoints AS c
                  WHERE c.workflow_id = :workflow_id AND c.generation = :generation + 1
                    AND c.step = stream_entries.step);

-- name: read_stream_ends
-- Where each stream of a workflow goes on, and since where its entries count no more for the generation that runs
-- now, if this has written nothing yet.
SELECT e.stream, max(e.position) + 1 AS next_position,
       CASE WHEN max(e.generation) < :generation
            THEN min(CASE WHEN e.cut_in IS NOT NULL THEN e.position END) END AS cut_from
FROM {schema}.stream_entries AS e
WHERE e.workflow_id = :workflow_id
GROUP BY e.stream;

-- name: read_open_entries
-- By stream and step: the first entry of a call that was under way when an earlier run of this generation was lost.
SELECT e.stream, e.step, min(e.position) AS first
FROM {schema}.stream_entries AS e
WHERE e.workflow_id = :workflow_id AND e.generation = :generation AND e.take < :take
  AND e.committed IS NULL AND e.cut_in IS NULL
GROUP BY e.stream, e.step;

-- name: read_entries
-- How the workflow stands, and the entries from a position on, at one moment; one row without an entry where there is
-- none, no row where there is no such workflow.
SELECT w.status, w.take AS current_take, w.generation AS current_generation,
       e.position, e.take, e.generation, e.step, e.committed, e.resets, e.ends, e.codec, e.value, e.cut_in
FROM {schema}.workflows AS w
LEFT JOIN (
    SELECT x.position, x.take, x.generation, x.step, x.committed, x.resets, x.ends, x.codec, x.value, x.cut_in
    FROM {schema}.stream_entries AS x
    WHERE x.workflow_id = :workflow_id AND x.stream = :stream AND x.position >= :position
    ORDER BY x.position
    LIMIT :count
) AS e ON 1 = 1
WHERE w.id = :workflow_id
ORDER BY e.position;

-- name: look_for_entries
-- A wait for a stream is over when there is an entry behind what was read, or when its workflow has ended.
SELECT u.number, w.id IS NOT NULL AS is_true
FROM {rows: number int, waiter text, subject text, detail text, since bigint}
LEFT JOIN {schema}.workflows AS w ON w.id = u.subject
WHERE w.id IS NULL OR w.status NOT IN ('PENDING', 'ENQUEUED', 'DELAYED')
   OR EXISTS (SELECT 1 FROM {schema}.stream_entries AS e
              WHERE e.workflow_id = u.subject AND e.stream = u.detail AND e.position >= u.since);

-- name: look_for_committed_entries
-- As `look_for_entries`, for a reader of what counts for good: it waits for the end of the call that wrote the next
-- entry, unless another run or generation has come since. That one will come, nobody tells.
SELECT u.number,
       COALESCE(w.status NOT IN ('PENDING', 'ENQUEUED', 'DELAYED') OR e.committed IS NOT NULL
                OR e.take < w.take OR e.generation < w.generation, false) AS is_true
FROM {rows: number int, waiter text, subject text, detail text, since bigint}
LEFT JOIN {schema}.workflows AS w ON w.id = u.subject
LEFT JOIN {schema}.stream_entries AS e
  ON e.workflow_id = u.subject AND e.stream = u.detail
 AND e.position = (SELECT min(x.position) FROM {schema}.stream_entries AS x
                   WHERE x.workflow_id = u.subject AND x.stream = u.detail AND x.position >= u.since)
WHERE w.id IS NULL OR w.status NOT IN ('PENDING', 'ENQUEUED', 'DELAYED') OR e.position IS NOT NULL;

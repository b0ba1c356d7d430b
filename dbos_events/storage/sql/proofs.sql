-- name: trace_event
-- What became of one offset, for every consumer and every incarnation that knows the partition. The workflow
-- is found by its id, which is made of what the row of the watermark names (a topic's name needs no encoding).
SELECT c.application, c.name AS consumer, c.group_id, m.incarnation, i.topic_id, i.retired,
       m.first_offset, m.next_offset, m.state, m.detail,
       w.id AS workflow_id, w.status, w.name, w.version, e.label AS executor, COALESCE(e.alive, false) AS executor_alive,
       w.generation, w.attempt, w.crashes, w.queue, w.lane, COALESCE(w.held, false) AS held,
       w.owner IS NOT NULL AS owned, w.created_at, w.completed_at, w.wake_at,
       r.error, r.codec AS error_codec, q.reason AS quarantine_reason, q.attempts AS quarantine_attempts,
       q.quarantined_at, q.released_at, q.released_as,
       g.first_offset AS gap_first, g.next_offset AS gap_next, g.reason AS gap_reason, g.recorded_at AS gap_recorded_at
FROM {schema}.watermarks AS m
JOIN {schema}.consumers AS c ON c.id = m.consumer
JOIN {schema}.incarnations AS i ON i.id = m.incarnation
LEFT JOIN {schema}.workflows AS w
  ON w.id = c.id_prefix || i.topic || '/' || CAST(m.incarnation AS text) || '/' || CAST(m.partition AS text)
            || '/' || CAST(CAST(:offset AS bigint) AS text)
LEFT JOIN {schema}.executors AS e ON e.id = w.owner
LEFT JOIN {schema}.results AS r ON r.workflow_id = w.id
LEFT JOIN {schema}.quarantine AS q ON q.workflow_id = w.id
LEFT JOIN {schema}.gaps AS g
  ON g.id = (SELECT min(s.id) FROM {schema}.gaps AS s
             WHERE s.consumer = m.consumer AND s.incarnation = m.incarnation AND s.partition = m.partition
               AND s.first_offset <= :offset AND s.next_offset > :offset)
WHERE i.topic = :topic AND m.partition = :partition
  AND (CAST(:application AS text) IS NULL OR c.application = :application)
  AND (CAST(:consumer AS text) IS NULL OR c.name = :consumer)
ORDER BY c.application, c.name, m.incarnation;

-- name: begin_look
-- What reads millions of rows once is not worth compiling, nor a second process.
SELECT {plain_plan};

-- name: known_topics
-- For whoever asked for another one.
SELECT DISTINCT i.topic, m.partition
FROM {schema}.watermarks AS m
JOIN {schema}.consumers AS c ON c.id = m.consumer
JOIN {schema}.incarnations AS i ON i.id = m.incarnation
WHERE CAST(:application AS text) IS NULL OR c.application = :application
ORDER BY i.topic, m.partition;

-- name: find_gaps
-- Every offset from a watermark's first one to its next one is covered by a workflow or by a stated gap; what
-- is left over has no reason. One ordered pass over the ids of each partition, which the primary key holds side
-- by side, so finished workflows need no index of their own (docs/operations.md has figures).
-- `reached` is how far all that begins before a row goes. The CASE keeps the planner from going by the numbers
-- alone, for which it would read the whole table.
WITH places AS (
    SELECT m.consumer, m.incarnation, m.partition, m.first_offset, m.next_offset,
           c.application, c.name, i.topic,
           c.id_prefix || i.topic || '/' || CAST(m.incarnation AS text) || '/' || CAST(m.partition AS text) AS id
    FROM {schema}.watermarks AS m
    JOIN {schema}.consumers AS c ON c.id = m.consumer
    JOIN {schema}.incarnations AS i ON i.id = m.incarnation
    WHERE (CAST(:application AS text) IS NULL OR c.application = :application)
      AND (CAST(:topic AS text) IS NULL OR i.topic = :topic)
      AND (CAST(:consumer AS text) IS NULL OR c.name = :consumer)
      AND (CAST(:partition AS int) IS NULL OR m.partition = :partition)
),
covered AS (
    SELECT p.consumer, p.incarnation, p.partition, w.position AS begins, w.position + 1 AS ends
    FROM places AS p
    JOIN {schema}.workflows AS w ON w.id > p.id || '/' AND w.id < p.id || '0'
     AND CASE WHEN w.consumer = p.consumer AND w.incarnation = p.incarnation AND w.partition = p.partition
              THEN true ELSE false END
    UNION ALL
    SELECT g.consumer, g.incarnation, g.partition, g.first_offset, g.next_offset
    FROM places AS p
    JOIN {schema}.gaps AS g
      ON g.consumer = p.consumer AND g.incarnation = p.incarnation AND g.partition = p.partition
    UNION ALL
    SELECT p.consumer, p.incarnation, p.partition, p.next_offset, p.next_offset FROM places AS p
),
passed AS (
    SELECT consumer, incarnation, partition, begins,
           max(ends) OVER (PARTITION BY consumer, incarnation, partition ORDER BY begins, ends
                           ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS reached
    FROM covered
),
found AS (
    SELECT p.application, p.name AS consumer, p.topic, p.incarnation, p.partition,
           CASE WHEN s.reached > p.first_offset OR p.first_offset IS NULL THEN s.reached ELSE p.first_offset END
               AS first_offset, s.begins AS next_offset,
           NULL AS reason, NULL AS records, NULL AS recorded_at
    FROM passed AS s
    JOIN places AS p
      ON p.consumer = s.consumer AND p.incarnation = s.incarnation AND p.partition = s.partition
    WHERE (s.reached IS NULL OR s.begins > s.reached)
      AND s.begins > COALESCE(s.reached, p.first_offset) AND s.begins > COALESCE(p.first_offset, s.reached)
      AND s.begins <= p.next_offset
    UNION ALL
    SELECT p.application, p.name, p.topic, p.incarnation, p.partition, g.first_offset, g.next_offset,
           g.reason, g.records, g.recorded_at
    FROM places AS p
    JOIN {schema}.gaps AS g
      ON g.consumer = p.consumer AND g.incarnation = p.incarnation AND g.partition = p.partition
    WHERE :stated
)
SELECT application, consumer, topic, incarnation, partition, first_offset, next_offset, reason, records, recorded_at
FROM found
ORDER BY CASE WHEN reason IS NULL THEN 0 ELSE 1 END, application, consumer, topic, incarnation, partition, first_offset
LIMIT :count;

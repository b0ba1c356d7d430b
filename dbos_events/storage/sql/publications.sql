-- name: insert_anchors
-- The row on which a publisher and a waiter meet who do not know each other. Its id is a digest of the three, which the
-- second key proves to be theirs alone.
INSERT INTO {schema}.anchors ({columns})
SELECT {values}
FROM {rows: id text, application text, name text, key text}
WHERE true
ORDER BY u.id
ON CONFLICT (id) DO NOTHING;

-- name: lock_anchors
-- Publishers and waiters of one anchor go one after the other (docs/protocol.md, rule 19).
SELECT id FROM {schema}.anchors WHERE id IN ({list:ids}) ORDER BY id {for_update};

-- name: insert_publications
-- Under the locks of the anchors, so that numbers grow in the order of the commits. The same event id is the same
-- publication.
INSERT INTO {schema}.publications
    (anchor, event_id, codec, value, publisher, on_expired, on_expired_input, published_at, expires_at)
SELECT u.anchor, u.event_id, u.codec, u.value, u.publisher, u.on_expired, u.on_expired_input, {now}, {now} + u.ttl_ms
FROM {rows: place int, anchor text, event_id text, codec text, value text, publisher text, ttl_ms bigint,
      on_expired text, on_expired_input text}
WHERE true
ORDER BY u.place
ON CONFLICT (anchor, event_id) DO NOTHING;

-- name: insert_waits
-- The waiting calls, in the order in which they came; a wait that is made anew keeps its place.
INSERT INTO {schema}.waits (anchor, workflow_id, step, takes, registered_at)
SELECT u.anchor, u.workflow_id, u.step, u.takes, {now}
FROM {rows: anchor text, workflow_id text, step int, takes bool}
WHERE true
ON CONFLICT (workflow_id, step, anchor) DO NOTHING;

-- name: delete_waits
-- Of calls that are over; what comes later is for the next waiter.
DELETE FROM {schema}.waits AS w
WHERE EXISTS (SELECT 1 FROM {rows: workflow_id text, step int}
              WHERE w.workflow_id = u.workflow_id AND w.step = u.step);

-- name: delete_dead_waits
-- Of workflows that have ended; nobody counted them any more.
DELETE FROM {schema}.waits AS o
WHERE EXISTS (SELECT 1 FROM {schema}.workflows AS w
              WHERE w.id = o.workflow_id AND w.status IN ('SUCCESS', 'ERROR', 'CANCELLED', 'MAX_RECOVERY_ATTEMPTS_EXCEEDED'))
RETURNING number;

-- name: next_publications
-- What each wait would get now: the oldest that is open and new to it. Of those that take, each leaves one for every
-- wait that came before it and still lives: its workflow has not ended, and its call has no outcome.
SELECT v.place, v.number, p.codec, p.value
FROM (SELECT u.place, a.number,
             row_number() OVER (PARTITION BY u.place ORDER BY a.number) AS position,
             CASE WHEN u.takes THEN
                 (SELECT count(*) FROM {schema}.waits AS o
                  JOIN {schema}.workflows AS w ON w.id = o.workflow_id AND w.status IN ('PENDING', 'ENQUEUED', 'DELAYED')
                  WHERE o.anchor = u.anchor AND o.takes AND NOT (o.workflow_id = u.waiter AND o.step = u.step)
                    AND o.number < COALESCE((SELECT m.number FROM {schema}.waits AS m
                                             WHERE m.workflow_id = u.waiter AND m.step = u.step AND m.anchor = u.anchor),
                                            o.number + 1)
                    AND NOT EXISTS (SELECT 1 FROM {schema}.checkpoints AS c
                                    WHERE c.workflow_id = o.workflow_id AND c.generation = w.generation
                                      AND c.step = o.step))
             ELSE 0 END AS ahead
      FROM {rows: place int, anchor text, since bigint, takes bool, waiter text, step int}
      JOIN {schema}.publications AS a
        ON a.anchor = u.anchor AND a.outcome IS NULL AND a.number > u.since
       AND (a.expires_at IS NULL OR a.expires_at > (SELECT {now}))) AS v
JOIN {schema}.publications AS p ON p.number = v.number
WHERE v.position = v.ahead + 1
ORDER BY v.place;

-- name: look_for_publications
-- As next_publications, for a parked run: whether one of its waits on the anchor would get something.
SELECT u.number, true AS is_true
FROM {rows: number int, waiter text, subject text, detail text, since bigint}
WHERE (SELECT count(*) FROM {schema}.publications AS a
       WHERE a.anchor = u.subject AND a.outcome IS NULL AND a.number > u.since
         AND (a.expires_at IS NULL OR a.expires_at > (SELECT {now})))
    > CASE WHEN EXISTS (SELECT 1 FROM {schema}.waits AS m
                        WHERE m.anchor = u.subject AND m.workflow_id = u.waiter AND NOT m.takes) THEN 0
           ELSE (SELECT count(*) FROM {schema}.waits AS o
                 JOIN {schema}.workflows AS w ON w.id = o.workflow_id AND w.status IN ('PENDING', 'ENQUEUED', 'DELAYED')
                 WHERE o.anchor = u.subject AND o.takes AND o.workflow_id <> u.waiter
                   AND o.number < COALESCE((SELECT min(m.number) FROM {schema}.waits AS m
                                            WHERE m.workflow_id = u.waiter AND m.anchor = u.subject), o.number + 1)
                   AND NOT EXISTS (SELECT 1 FROM {schema}.checkpoints AS c
                                   WHERE c.workflow_id = o.workflow_id AND c.generation = w.generation
                                     AND c.step = o.step)) END;

-- name: take_publications
-- With the checkpoint that holds the value, in its transaction.
UPDATE {schema}.publications AS p
SET outcome = 'taken', decided_at = {now}, taken_by = u.workflow_id, taken_step = u.step, seen = p.seen + 1
FROM {rows: workflow_id text, step int, publication bigint}
WHERE p.number = u.publication AND p.outcome IS NULL;

-- name: see_publications
-- Somebody saw them, so they have found a partner, and stay for others.
UPDATE {schema}.publications AS p
SET seen = p.seen + 1
FROM {rows: workflow_id text, step int, publication bigint}
WHERE p.number = u.publication;

-- name: return_publications
-- The next generation makes the calls anew that took them.
UPDATE {schema}.publications AS p
SET outcome = NULL, decided_at = NULL, taken_by = NULL, taken_step = NULL, seen = p.seen - 1
FROM {rows: workflow_id text, generation int, step int}
WHERE p.taken_by = u.workflow_id AND p.taken_step = u.step AND p.outcome = 'taken'
RETURNING anchor;

-- name: return_all_publications
-- The next generation begins with nothing.
UPDATE {schema}.publications AS p
SET outcome = NULL, decided_at = NULL, taken_by = NULL, taken_step = NULL, seen = p.seen - 1
WHERE p.taken_by IN ({list:ids}) AND p.outcome = 'taken'
RETURNING anchor;

-- name: open_publications
-- Under the locks of their anchors: those that somebody may still get.
SELECT number FROM {schema}.publications WHERE number IN ({numbers:ids}) AND outcome IS NULL;

-- name: due_anchors
-- Where something is over, so that it can be locked: who gets one, and who ends it, go one after the other.
SELECT DISTINCT w.anchor AS id
FROM (SELECT p.anchor FROM {schema}.publications AS p
      WHERE p.outcome IS NULL AND p.expires_at <= (SELECT {now})
      ORDER BY p.expires_at LIMIT :count) AS w;

-- name: expire_publications
-- One that nobody saw is an outcome that is counted. The numbers are texts where some are left out or chosen.
WITH candidates AS (
    SELECT w.number AS number, w.id AS workflow_id
    FROM (SELECT p.number, CAST(p.number AS text) AS id, p.expires_at FROM {schema}.publications AS p
          WHERE p.outcome IS NULL AND p.expires_at <= (SELECT {now}) AND p.anchor IN ({list:anchors})) AS w
    WHERE true{unless_apart}
    ORDER BY w.expires_at LIMIT :count
)
{then}
UPDATE {schema}.publications
SET outcome = CASE WHEN seen = 0 THEN 'expired' ELSE 'over' END, decided_at = {now}
WHERE number IN (SELECT c.number FROM candidates AS c)
RETURNING number, outcome, anchor, expires_at, on_expired, codec, on_expired_input;

-- name: read_anchor_applications
-- Whose anchors these are.
SELECT id, application FROM {schema}.anchors WHERE id IN ({list:ids});

-- name: next_expiry
-- So that nobody looks before something expires.
SELECT min(expires_at) - {now} AS milliseconds FROM {schema}.publications
WHERE outcome IS NULL AND expires_at IS NOT NULL;

-- name: list_unmatched_publications
-- Open or expired, and nobody has seen them.
SELECT p.number, a.name, a.key, p.codec, p.value, p.event_id, p.publisher, p.published_at, p.expires_at,
       COALESCE(p.outcome, 'open') AS state
FROM {schema}.publications AS p
JOIN {schema}.anchors AS a ON a.id = p.anchor
WHERE p.seen = 0 AND (p.outcome IS NULL OR p.outcome = 'expired')
  AND (CAST(:application AS text) IS NULL OR a.application = :application)
  AND (CAST(:name AS text) IS NULL OR a.name = :name)
ORDER BY p.number
LIMIT :count;

-- name: list_unmatched_waits
-- Whoever waits, and has nothing that it would get.
SELECT w.number, a.name, a.key, w.workflow_id, w.step, w.takes, w.registered_at, f.wake_at
FROM {schema}.waits AS w
JOIN {schema}.anchors AS a ON a.id = w.anchor
JOIN {schema}.workflows AS f ON f.id = w.workflow_id AND f.status IN ('PENDING', 'ENQUEUED', 'DELAYED')
WHERE NOT EXISTS (SELECT 1 FROM {schema}.checkpoints AS c
                  WHERE c.workflow_id = w.workflow_id AND c.generation = f.generation AND c.step = w.step)
  AND (CAST(:application AS text) IS NULL OR a.application = :application)
  AND (CAST(:name AS text) IS NULL OR a.name = :name)
ORDER BY w.number
LIMIT :count;

-- name: count_publications
-- How those of a name ended, and how many are open.
SELECT a.name, COALESCE(p.outcome, CASE WHEN p.seen > 0 THEN 'seen' ELSE 'open' END) AS state, count(*) AS publications
FROM {schema}.publications AS p
JOIN {schema}.anchors AS a ON a.id = p.anchor
WHERE (CAST(:application AS text) IS NULL OR a.application = :application)
GROUP BY a.name, COALESCE(p.outcome, CASE WHEN p.seen > 0 THEN 'seen' ELSE 'open' END)
ORDER BY 1, 2;

-- name: read_publication
-- One of them, with what it is published under.
SELECT p.number, a.id AS anchor, a.application, a.name, a.key, p.outcome, p.expires_at
FROM {schema}.publications AS p
JOIN {schema}.anchors AS a ON a.id = p.anchor
WHERE p.number = :number;

-- name: discard_publication
-- Somebody decided that it finds no partner.
UPDATE {schema}.publications SET outcome = 'discarded', decided_at = {now}
WHERE number = :number AND (outcome IS NULL OR outcome = 'expired')
RETURNING number;

-- name: force_publication
-- Under another key, or once more under its own: somebody decided where it belongs.
UPDATE {schema}.publications
SET anchor = :anchor, outcome = NULL, decided_at = NULL, expires_at = {now} + CAST(:ttl_ms AS bigint)
WHERE number = :number AND (outcome IS NULL OR outcome IN ('expired', 'discarded'))
RETURNING number;

-- name: read_taken_publications
-- By whom they were taken.
SELECT number, taken_by, taken_step FROM {schema}.publications WHERE number IN ({numbers:ids});

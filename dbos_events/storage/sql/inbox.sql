-- name: bound_accept
-- Senders wait: a lock that a stalled process holds must not keep their events for longer than they do.
SELECT {accept_bounds};

-- name: register_pushed
-- A consumer that is known keeps its number; a name that a consumer of another connector has gives nothing.
INSERT INTO {schema}.consumers
    (application, name, handler, group_id, topics, settings, updated_at, id_prefix, connector, addresses)
VALUES (:application, :name, :handler, '', '[]', :settings, {now}, :id_prefix, :connector, :addresses)
ON CONFLICT (application, name) DO UPDATE
SET handler = excluded.handler, addresses = excluded.addresses, updated_at = excluded.updated_at
WHERE consumers.connector = excluded.connector
RETURNING id;

-- name: insert_seen
-- In the order of their digests, so that two transactions with the same events wait for each other in one direction.
-- What another one has inserted and not committed is waited for; what is there already is not given back.
INSERT INTO {schema}.seen (digest, consumer, fingerprint, workflow_id, start_id, accepted_at, expires_at)
SELECT u.digest, u.consumer, u.fingerprint, u.workflow_id, u.start_id, {now}, {now} + u.remembered_ms
FROM {rows: digest text, consumer int, fingerprint text, workflow_id text, start_id bigint, remembered_ms bigint}
WHERE true
ON CONFLICT (digest) DO NOTHING
RETURNING digest;

-- name: read_seen
-- In a statement of its own after `insert_seen`: what that has waited for is visible to this one only.
SELECT digest, fingerprint, workflow_id, start_id FROM {schema}.seen WHERE digest IN ({list:digests});

-- name: correct_seen
-- The id had been forgotten, and its workflow is still there, with other content: that is what it stands for.
UPDATE {schema}.seen AS s
SET fingerprint = u.fingerprint
FROM {rows: digest text, fingerprint text}
WHERE s.digest = u.digest;

-- name: delete_seen
-- Ids whose time is over, the oldest first.
DELETE FROM {schema}.seen
WHERE digest IN (SELECT s.digest FROM {schema}.seen AS s WHERE s.expires_at <= (SELECT {now})
                 ORDER BY s.expires_at LIMIT :count)
RETURNING digest;

-- name: advance_lanes
-- Each lane's row is locked until the transaction ends: its events get the numbers below the one that this gives.
INSERT INTO {schema}.lanes (consumer, incarnation, lane, next_sequence, epoch, updated_at)
SELECT u.consumer, 0, u.lane, u.events, 0, {now}
FROM {rows: consumer int, lane text, events bigint}
WHERE true
ON CONFLICT (consumer, incarnation, lane) DO UPDATE
SET next_sequence = lanes.next_sequence + excluded.next_sequence, updated_at = excluded.updated_at
RETURNING consumer, lane, next_sequence;

-- name: open_pushed_lanes
-- Which of these lanes an event still holds; after `advance_lanes`, so nobody puts one into them now.
SELECT l.consumer, l.lane
FROM (SELECT u.consumer AS consumer, u.lane AS lane FROM {rows: consumer int, lane text}) AS l
WHERE (SELECT 1 FROM {schema}.workflows AS w
       WHERE w.consumer = l.consumer AND w.incarnation = 0 AND w.lane = l.lane AND w.lane_open
       LIMIT 1) = 1;

-- name: insert_pushed_workflows
-- Running here, waiting for its turn in a lane, on a queue, or for any process; an id that is known is passed over.
INSERT INTO {schema}.workflows
    (id, application, name, status, owner, take, start_id, version, queue, created_at, updated_at,
     consumer, incarnation, lane, lane_sequence, lane_open, held)
SELECT u.workflow_id, :application, u.name,
       CASE WHEN u.lane IS NOT NULL OR u.owned THEN 'PENDING' ELSE 'ENQUEUED' END,
       CASE WHEN u.owned THEN CAST(:executor AS bigint) END,
       CASE WHEN u.owned THEN 1 ELSE 0 END,
       u.start_id, :version, u.queue, {now}, {now},
       u.consumer, 0, u.lane, u.lane_sequence,
       CASE WHEN u.lane IS NOT NULL THEN true END, u.held
FROM {rows: workflow_id text, name text, queue text, consumer int, lane text, lane_sequence bigint, start_id bigint,
      owned bool, held bool}
WHERE true
ON CONFLICT (id) DO NOTHING;

-- name: insert_pushed_events
-- The events themselves; the id as the sender gave it stands in `key`.
INSERT INTO {schema}.events ({columns}, timestamp_type)
SELECT {values}, 1
FROM {rows: workflow_id text, key bytea, value bytea, headers text, content_type text, timestamp bigint,
      fingerprint bigint}
WHERE true
ON CONFLICT (workflow_id) DO NOTHING;

-- name: read_accepted
-- What there is under these ids: `start_id` tells what this very call has inserted, now or by a commit whose answer
-- was lost.
SELECT w.id, w.consumer, w.start_id, w.owner, w.take, w.status, w.lane, e.fingerprint
FROM {schema}.workflows AS w
LEFT JOIN {schema}.events AS e ON e.workflow_id = w.id
WHERE w.id IN ({list:ids});

-- name: make_heads_ready
-- What was to stand before them in their lanes was there already, and is not.
UPDATE {schema}.workflows SET held = false WHERE id IN ({list:ids}) AND owner IS NULL;

-- name: insert_conflicting
-- An event that never runs by itself: its id was used with other content. It is in no lane, and holds none.
INSERT INTO {schema}.workflows
    (id, application, name, status, take, start_id, version, created_at, updated_at, completed_at, consumer, incarnation)
SELECT u.workflow_id, :application, u.name, 'ERROR', 0, u.start_id, :version, {now}, {now}, {now}, u.consumer, 0
FROM {rows: workflow_id text, name text, consumer int, start_id bigint}
WHERE true
ON CONFLICT (id) DO NOTHING
RETURNING id;

-- name: lock_pushed_lanes
-- An event is put into one of them before or after something is taken from it, never meanwhile.
SELECT lane FROM {schema}.lanes
WHERE consumer = :consumer AND incarnation = 0 AND lane IN ({list:lanes})
ORDER BY lane
{for_update};

-- name: ready_pushed_lanes
-- Lanes of a consumer in which an event became ready, a page after a given lane.
SELECT DISTINCT w.lane
FROM {schema}.workflows AS w
WHERE w.consumer = :consumer AND w.incarnation = 0
  AND w.lane_open AND w.status = 'PENDING' AND w.owner IS NULL AND w.wake_at IS NULL AND w.awaits IS NULL
  AND w.held IS NOT TRUE AND w.lane > :after
ORDER BY w.lane
LIMIT :count;

-- name: idle_lanes_after
-- As `lanes_after`, with lanes whose head nobody runs though it could: their process ended between two events.
WITH RECURSIVE found(lane) AS (
    SELECT (SELECT min(w.lane) FROM {schema}.workflows AS w
            WHERE w.consumer = :consumer AND w.incarnation = 0 AND w.lane_open AND w.lane > :after)
    UNION ALL
    SELECT (SELECT min(w.lane) FROM {schema}.workflows AS w
            WHERE w.consumer = :consumer AND w.incarnation = 0 AND w.lane_open AND w.lane > found.lane)
    FROM found
    WHERE found.lane IS NOT NULL
)
SELECT f.lane,
       (SELECT h.status = 'PENDING' AND h.wake_at IS NULL AND h.awaits IS NULL AND h.owner IS NULL
        FROM {schema}.workflows AS h
        WHERE h.consumer = :consumer AND h.incarnation = 0 AND h.lane = f.lane AND h.lane_open
        ORDER BY h.lane_sequence
        LIMIT 1) AS may_go_on
FROM (SELECT lane FROM found WHERE lane IS NOT NULL LIMIT :count) AS f
ORDER BY f.lane;

-- name: delete_idle_lanes
-- Lanes of pushed events that nothing stands in, and nothing was put into for long. One that gets an event in this
-- moment has another time by then. Their numbers begin anew.
DELETE FROM {schema}.lanes
WHERE incarnation = 0 AND updated_at < (SELECT {now}) - :idle_ms
  AND NOT EXISTS (SELECT 1 FROM {schema}.workflows AS w
                  WHERE w.consumer = lanes.consumer AND w.incarnation = 0 AND w.lane = lanes.lane AND w.lane_open)
RETURNING lane;

-- name: pushed_standing
-- How each pushed consumer stands.
SELECT c.application, c.name AS consumer, c.connector, c.addresses, c.id_prefix,
       (SELECT count(*) FROM {schema}.workflows AS w
        WHERE w.consumer = c.id AND w.incarnation = 0 AND w.lane_open AND w.held) AS held,
       (SELECT count(*) FROM {schema}.quarantine AS q
        WHERE q.consumer = c.id AND q.released_at IS NULL) AS quarantined,
       (SELECT count(*) FROM {schema}.seen AS s
        WHERE s.consumer = c.id AND s.workflow_id IS NULL) AS filtered
FROM {schema}.consumers AS c
WHERE c.addresses IS NOT NULL AND (CAST(:application AS text) IS NULL OR c.application = :application)
ORDER BY c.application, c.name;

-- name: pushed_processes
-- What live processes say of their part in pushed consumers.
SELECT c.application, c.name AS consumer, e.label AS process, s.state, s.detail
FROM {schema}.consumers AS c
JOIN {schema}.source_states AS s ON s.consumer = c.id
JOIN {schema}.executors AS e ON e.id = s.executor AND e.alive
WHERE c.addresses IS NOT NULL AND (CAST(:application AS text) IS NULL OR c.application = :application)
ORDER BY c.application, c.name, e.id;

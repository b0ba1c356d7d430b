-- name: lock_destinations
-- Whoever sends to one of these, or parks as one of them, comes before or after us: so numbers grow in the order of
-- the commits, and no wake-up is lost (docs/protocol.md, rule 16).
SELECT id, awaits FROM {schema}.workflows WHERE id IN ({list:ids}) ORDER BY id {for_update};

-- name: insert_messages
-- Under the locks of the destinations. What was sent under the same id stays as it was sent first.
INSERT INTO {schema}.messages (destination, message_id, topic, codec, value, sender, sent_at)
SELECT u.destination, u.message_id, u.topic, u.codec, u.value, u.sender, {now}
FROM {rows: place int, destination text, message_id text, topic text, codec text, value text, sender text}
WHERE true
ORDER BY u.place
ON CONFLICT (destination, message_id) DO NOTHING;

-- name: placed_messages
-- What was inserted a moment ago, still under the locks: the number of each, and that of the message before it which waits,
-- so that a receiver in this process knows whether it has all that comes before. Left out is what was there already as
-- something else.
SELECT u.place, m.number,
       (SELECT p.number FROM {schema}.messages AS p
        WHERE p.destination = u.destination AND p.consumed_step IS NULL AND p.number < m.number
          AND (p.topic = u.topic OR (p.topic IS NULL AND u.topic IS NULL))
        ORDER BY p.number DESC LIMIT 1) AS previous
FROM {rows: place int, destination text, message_id text, topic text, codec text, value text}
JOIN {schema}.messages AS m ON m.destination = u.destination AND m.message_id = u.message_id
WHERE u.place IN ({numbers:near}) AND m.consumed_step IS NULL
  AND (m.topic = u.topic OR (m.topic IS NULL AND u.topic IS NULL))
  AND (m.codec = u.codec OR (m.codec IS NULL AND u.codec IS NULL))
  AND (m.value = u.value OR (m.value IS NULL AND u.value IS NULL))
ORDER BY m.number;

-- name: next_messages
-- The oldest of a topic that were not consumed, or were by calls that the workflow does not make any more.
SELECT m.number, m.codec, m.value
FROM {schema}.messages AS m
WHERE m.destination = :destination AND m.consumed_step IS NULL AND m.number > :after
  AND (m.topic = CAST(:topic AS text) OR (m.topic IS NULL AND CAST(:topic AS text) IS NULL))
ORDER BY m.number
LIMIT :most;

-- name: first_messages
-- The oldest message of each of these mailboxes, whatever its topic; large ones are left to the receipt.
SELECT m.destination, m.number, m.topic, m.codec, m.value
FROM {rows: destination text}
JOIN {schema}.messages AS m
  ON m.number = (SELECT min(x.number) FROM {schema}.messages AS x
                 WHERE x.destination = u.destination AND x.consumed_step IS NULL)
WHERE m.value IS NULL OR length(m.value) <= :most_characters;

-- name: consume_messages
-- With the checkpoint that holds the value, in its transaction.
UPDATE {schema}.messages AS m
SET consumed_step = u.step, consumed_at = {now}
FROM {rows: workflow_id text, message bigint, step int}
WHERE m.number = u.message AND m.destination = u.workflow_id;

-- name: return_messages
-- The next generation makes these calls anew.
UPDATE {schema}.messages AS m
SET consumed_step = NULL, consumed_at = NULL
FROM {rows: workflow_id text, generation int, step int}
WHERE m.destination = u.workflow_id AND m.consumed_step = u.step;

-- name: return_all_messages
-- The next generation begins with nothing.
UPDATE {schema}.messages
SET consumed_step = NULL, consumed_at = NULL
WHERE destination IN ({list:ids}) AND consumed_step IS NOT NULL;

-- name: look_for_messages
-- Whether a parked run has one.
SELECT u.number, true AS is_true
FROM {rows: number int, waiter text, subject text, detail text, since bigint}
WHERE EXISTS (SELECT 1 FROM {schema}.messages AS m
              WHERE m.destination = u.waiter AND m.consumed_step IS NULL
                AND (m.topic = u.detail OR (m.topic IS NULL AND u.detail IS NULL)));

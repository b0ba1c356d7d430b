-- name: open_callback
-- By an attempt of the step that makes it: one whose checkpoint never came leaves a row that nobody knows the token of.
INSERT INTO {schema}.callbacks (token_hash, application, name, workflow_id, opened_at, deadline)
VALUES (:token_hash, :application, :name, :workflow_id, {now}, :deadline)
ON CONFLICT (token_hash) DO NOTHING;

-- name: answer_callback
-- Decided on the row: the first answer in time counts, and every later one is told as that was.
UPDATE {schema}.callbacks
SET answered_at = COALESCE(answered_at, {now})
WHERE token_hash = :token_hash AND application = :application AND (answered_at IS NOT NULL OR deadline > {now})
RETURNING workflow_id;

-- name: read_callback
-- Until when it may be answered; nothing where nobody opened it.
SELECT deadline FROM {schema}.callbacks WHERE token_hash = :token_hash AND application = :application;

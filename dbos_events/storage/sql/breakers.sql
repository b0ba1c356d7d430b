-- name: open_breaker
-- From closed, or again after a trial that failed; who compares an older epoch comes too late.
UPDATE {schema}.consumers
SET breaker = 'open', breaker_reason = :reason, breaker_since = {now},
    breaker_until = {now} + :pause_ms, breaker_executor = NULL, breaker_trial = NULL,
    breaker_openings = breaker_openings + 1, breaker_epoch = breaker_epoch + 1
WHERE id = :consumer AND breaker_epoch = :epoch
RETURNING id;

-- name: begin_trial
-- One process wins. It is half-open since the pause was over, whether or not there was anything to try. A trial that
-- came to nothing is followed by another when its time is over.
UPDATE {schema}.consumers
SET breaker_since = CASE WHEN breaker = 'open' THEN breaker_until ELSE breaker_since END,
    breaker = 'half-open', breaker_executor = :executor, breaker_trial = NULL,
    breaker_until = {now} + :trial_ms, breaker_epoch = breaker_epoch + 1
WHERE id = :consumer AND breaker_epoch = :epoch AND breaker IS NOT NULL AND breaker_until <= {now}
RETURNING id;

-- name: note_trial
-- Which event was let in; its end decides.
UPDATE {schema}.consumers
SET breaker_trial = :workflow_id
WHERE id = :consumer AND breaker_epoch = :epoch AND breaker = 'half-open'
RETURNING id;

-- name: close_breaker
-- The trial ended well.
UPDATE {schema}.consumers
SET breaker = NULL, breaker_reason = NULL, breaker_since = NULL, breaker_until = NULL, breaker_executor = NULL,
    breaker_trial = NULL, breaker_openings = 0, breaker_epoch = breaker_epoch + 1
WHERE id = :consumer AND breaker_epoch = :epoch AND breaker IS NOT NULL
RETURNING id;

-- name: consumer_states
-- Whether each consumer takes events in; the trial's row says how a half-open breaker goes on.
SELECT c.id, c.application, c.name, c.paused_at, c.paused_by, c.paused_reason,
       c.breaker, c.breaker_reason, c.breaker_since, c.breaker_until, c.breaker_executor,
       COALESCE(c.breaker_until <= {now}, false) AS due, c.breaker_epoch, c.breaker_openings,
       w.id AS trial_id, w.status AS trial_status, w.owner AS trial_owner, w.attempt AS trial_attempt,
       w.wake_at AS trial_wake_at, w.awaits AS trial_awaits
FROM {schema}.consumers AS c
LEFT JOIN {schema}.workflows AS w ON w.id = c.breaker_trial
WHERE CAST(:application AS text) IS NULL OR c.application = :application
ORDER BY c.application, c.name;

-- name: pause_consumer
-- One that is paused already keeps who paused it, and why.
UPDATE {schema}.consumers
SET paused_at = {now}, paused_by = :paused_by, paused_reason = :reason
WHERE application = :application AND name = :name AND paused_at IS NULL
RETURNING id;

-- name: resume_consumer
-- By hand: ends a pause, and closes the breaker.
UPDATE {schema}.consumers
SET paused_at = NULL, paused_by = NULL, paused_reason = NULL,
    breaker = NULL, breaker_reason = NULL, breaker_since = NULL, breaker_until = NULL, breaker_executor = NULL,
    breaker_trial = NULL, breaker_openings = 0, breaker_epoch = breaker_epoch + 1
WHERE application = :application AND name = :name AND (paused_at IS NOT NULL OR breaker IS NOT NULL)
RETURNING id;

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

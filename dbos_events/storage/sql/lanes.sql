-- name: lane_entries
-- The head of a partition's lane and what follows it.
SELECT id, position, owner, status
FROM {schema}.workflows
WHERE consumer = :consumer AND incarnation = :incarnation AND lane = CAST(CAST(:partition AS int) AS text)
  AND lane_open AND lane_sequence < :before
ORDER BY lane_sequence
LIMIT :count;

-- name: take_lane_entry
-- Only what nobody owns and what does not sleep; the caller is fenced.
UPDATE {schema}.workflows
SET owner = :executor, take = take + 1, updated_at = {now}
WHERE id = :workflow_id AND status = 'PENDING' AND owner IS NULL AND wake_at IS NULL AND awaited_id IS NULL
RETURNING id;

-- name: release_unstarted
-- Back to the lane, for its next holder.
UPDATE {schema}.workflows
SET owner = NULL, updated_at = {now}
WHERE id IN ({list:ids}) AND owner = :executor AND status = 'PENDING';

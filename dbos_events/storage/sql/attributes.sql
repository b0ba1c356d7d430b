-- name: lock_attributes
-- A change goes by what is there.
SELECT attributes FROM {schema}.workflows WHERE id = :workflow_id {for_update};

-- name: set_attributes
-- Under the lock.
UPDATE {schema}.workflows SET attributes = :attributes, updated_at = {now} WHERE id = :workflow_id;

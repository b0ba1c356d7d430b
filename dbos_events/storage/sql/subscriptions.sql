-- name: topics_known
-- Names of topics that anybody has read.
SELECT DISTINCT topic FROM {schema}.incarnations;

-- name: subscriptions
-- What a consumer has registered for: topics and patterns whose first positions are written.
SELECT subscription FROM {schema}.subscriptions WHERE consumer = :consumer;

-- name: insert_subscription
-- From now on what appears under it begins at its first record.
INSERT INTO {schema}.subscriptions (consumer, subscription, registered_at)
VALUES (:consumer, :subscription, {now})
ON CONFLICT DO NOTHING;

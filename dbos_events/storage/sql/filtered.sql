-- name: insert_filtered
-- Records that a consumer's `when` left out, or that were only published: they start nothing, and are counted.
INSERT INTO {schema}.gaps
    (consumer, incarnation, partition, first_offset, next_offset, reason, records, recorded_at)
SELECT :consumer, :incarnation, u.partition, u.first_offset, u.next_offset, u.reason, u.records, {now}
FROM {rows: partition int, first_offset bigint, next_offset bigint, records bigint, reason text};

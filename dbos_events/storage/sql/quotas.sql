-- name: count_held
-- At most `limit`: whoever asks wants to know whether it is too many, not how many there are. Lanes are `3`,
-- `3/key` and `topic`; a name stands for itself and for what is below it, none for all.
SELECT count(*) AS held
FROM (SELECT 1 AS one
      FROM {schema}.workflows AS w
      WHERE w.consumer = :consumer AND w.incarnation = :incarnation AND w.lane_open AND w.held
        AND (CAST(:lane AS text) = '' OR w.lane = :lane
             OR (w.lane >= CAST(:lane AS text) || '/' AND w.lane < CAST(:lane AS text) || '0'))
      LIMIT :count) AS bounded;

-- name: set_cluster
-- The cluster that a consumer reads from now on.
UPDATE {schema}.consumers SET cluster_id = :cluster_id WHERE id = :consumer;

-- name: see_cluster
-- Another cluster answered than the one that this consumer reads; an operator decides.
UPDATE {schema}.consumers SET seen_cluster_id = :cluster_id WHERE id = :consumer;

-- name: lives_of
-- All lives of a topic in a cluster, and those of the time when the cluster had no id, newest first.
SELECT id, cluster_id, topic_id, branch, retired
FROM {schema}.incarnations
WHERE topic = :topic AND cluster_id IN (:cluster_id, '')
ORDER BY id DESC
{for_update};

-- name: learn_ids
-- What was not told before belongs to the life in use.
UPDATE {schema}.incarnations
SET cluster_id = :cluster_id, topic_id = :topic_id
WHERE topic = :topic AND cluster_id IN (:cluster_id, '') AND topic_id IN (:topic_id, '') AND NOT retired;

-- name: retire_lives
-- Final: an answer that names one of these is stale.
UPDATE {schema}.incarnations
SET retired = true
WHERE topic = :topic AND cluster_id = :cluster_id AND topic_id <> :topic_id AND NOT retired;

-- name: branches
-- The newest branch of each partition that has left the life as it began.
SELECT m.partition, max(b.id) AS incarnation
FROM {schema}.incarnations AS i
JOIN {schema}.incarnations AS b
  ON b.cluster_id = i.cluster_id AND b.topic = i.topic AND b.topic_id = i.topic_id AND b.branch > 0
JOIN {schema}.watermarks AS m ON m.incarnation = b.id AND m.consumer = :consumer
WHERE i.id = :incarnation
GROUP BY m.partition;

-- name: unfinished_lives
-- What was taken in of a life or a branch that is over is finished by who holds the topic's partition now.
SELECT m.incarnation, m.partition
FROM {schema}.incarnations AS n
JOIN {schema}.incarnations AS i ON i.topic = n.topic AND i.cluster_id = n.cluster_id
JOIN {schema}.watermarks AS m ON m.incarnation = i.id AND m.consumer = :consumer
WHERE n.id = :incarnation AND (i.retired OR m.state = 'left')
  AND EXISTS (SELECT 1 FROM {schema}.workflows AS w
              WHERE w.consumer = m.consumer AND w.incarnation = m.incarnation AND w.lane_open
                AND w.partition = m.partition)
ORDER BY m.incarnation, m.partition;

-- name: knows_topic
-- Whether a consumer has read any life of a topic, in its cluster.
SELECT 1 FROM {schema}.watermarks AS m JOIN {schema}.incarnations AS i ON i.id = m.incarnation
WHERE m.consumer = :consumer AND i.topic = :topic AND i.cluster_id IN (:cluster_id, '')
LIMIT 1;

-- name: positions_in_cluster
-- Where a consumer stood in a topic of another cluster, in its last life and branch there.
SELECT m.partition, m.next_offset
FROM {schema}.watermarks AS m JOIN {schema}.incarnations AS i ON i.id = m.incarnation
WHERE m.consumer = :consumer AND i.topic = :topic AND i.cluster_id = :cluster_id AND NOT i.retired
ORDER BY i.id;

-- name: insert_incarnation
-- One life of a topic; two processes may learn of it at once.
INSERT INTO {schema}.incarnations (cluster_id, topic, topic_id, retired, created_at)
VALUES (:cluster_id, :topic, :topic_id, false, {now})
ON CONFLICT (cluster_id, topic, topic_id, branch) DO NOTHING;

-- name: read_incarnation
-- The number of this life of a topic.
SELECT id FROM {schema}.incarnations
WHERE cluster_id = :cluster_id AND topic = :topic AND topic_id = :topic_id AND branch = 0;

-- Functions that do a whole transaction of what comes often: one exchange with the server, not six. A process cannot be
-- frozen in the middle of one. They consist of the statements of `sql/`; dbos_events/storage/functions.py says how.
-- Each statement has a snapshot of its own, as in a transaction of several exchanges, so the fence holds.

-- function: write_step(executor bigint, identity bigint) returns void
-- One checkpoint alone, as steps make it one after the other: the arrays of a batch take as long as all else.
{found: fence, the executor is dead}
{one: insert_checkpoints, the checkpoint was not written};

-- function: write_ends(executor bigint, identity bigint) returns void
-- Outcomes with the checkpoints that go into the row of their workflow: most events end so.
{found: fence, the executor is dead}
{all: update_outcomes, an outcome was not written}
{all: insert_results, a result was not written};

-- function: write_batch(executor bigint, identity bigint) returns void
-- As write_ends, with checkpoints of runs that go on.
{found: fence, the executor is dead}
{all: insert_checkpoints, a checkpoint was not written}
{all: update_outcomes, an outcome was not written}
{all: insert_results, a result was not written};

-- function: write_talk(executor bigint, identity bigint) returns text
-- As write_batch, with messages that are sent and consumed: two workflows that answer each other do nothing else. Gives
-- the numbers of those that are near, as JSON.
-- table: destinations(destination text)
-- table: near(place int)
-- table: wake_waiting(workflow_id text, key text)
{found: fence, the executor is dead}
{all: insert_checkpoints, a checkpoint was not written}
IF {size: destinations} > 0 THEN
    WITH locked AS MATERIALIZED ({select: lock_destinations from destinations, ids = destinations.destination})
    SELECT count(*), max(awaits) INTO hit, told FROM locked;
    {expect: destinations, a destination does not exist}
    {do: insert_messages}
    IF told IS NOT NULL THEN  -- nobody is parked who waits for nothing, and nobody can park before the commit
        {do: wake_waiting}
        told := NULL;
    END IF;
    IF {size: near} > 0 THEN
        told := (SELECT CAST(json_agg(f) AS text)
                 FROM ({select: placed_messages from insert_messages, near = near.place}) AS f);
    END IF;
END IF;
{all: consume_messages, a message is not there}
{all: update_outcomes, an outcome was not written}
{all: insert_results, a result was not written}
RETURN told;

-- function: write_children(executor bigint, identity bigint) returns void
-- As write_batch, with starts of children, and outcomes for which a parent may be parked.
-- table: starts(id text, application text, name text, status text, start_id bigint, version text,
--               class_name text, queue text, priority int, parent_id text, root_id text, deduplication_id text,
--               queue_partition_key text, delay_ms bigint, version_pinned bool, attributes text, timeout_ms bigint,
--               deadline bigint, start_by bigint, codec text, input text)
{found: fence, the executor is dead}
{all: insert_checkpoints, a checkpoint was not written}
IF {size: starts} > 0 THEN
    {count: insert_starts from starts}
    {expect: starts, a workflow was not started}
    {do: insert_start_payloads from starts}
END IF;
{all: update_outcomes, an outcome was not written}
{all: insert_results, a result was not written}
{do: wake_parents};

-- function: write_published(executor bigint, identity bigint) returns text
-- As write_batch, with what workflows show while they run: values, entries of streams, publications. Gives a text where
-- somebody parked is due now.
-- table: writers(id text)
-- table: wake_parked(key text)
{found: fence, the executor is dead}
{do: insert_anchors}
IF {size: insert_anchors} > 0 THEN
    WITH locked AS MATERIALIZED ({select: lock_anchors from insert_anchors, ids = insert_anchors.id})
    SELECT count(*) INTO hit FROM locked;
END IF;
IF {size: writers} > 0 THEN
    WITH locked AS MATERIALIZED ({select: lock_writers from writers, ids = writers.id})
    SELECT count(*) INTO hit FROM locked;
END IF;
{all: insert_checkpoints, a checkpoint was not written}
{do: insert_publications}
{all: insert_values, a value was not written}
{do: delete_replaced_values}
{all: insert_stream_entries, an entry was not written}
{do: settle_entries}
IF {size: wake_parked} > 0 THEN
    FOR told IN {select: wake_parked, keys = wake_parked.key} LOOP
        NULL;  -- it keeps the last of them
    END LOOP;
END IF;
{all: update_outcomes, an outcome was not written}
{all: insert_results, a result was not written}
RETURN told;

-- function: look_for_messages(destination text, topic text, after bigint, most int) returns text
-- What a receipt looks for, in one exchange.
RETURN (SELECT CAST(json_agg(f ORDER BY f.number) AS text) FROM ({select: next_messages}) AS f);

-- function: write_starts(executor bigint, identity bigint) returns bigint
-- Starts from outside of workflows. An id that exists already is usual here: people start a workflow twice to be sure. So
-- nothing is raised, which the server would log. The caller compares the count that it gets back.
-- table: starts(id text, application text, name text, status text, start_id bigint, version text,
--               class_name text, queue text, priority int, parent_id text, root_id text, deduplication_id text,
--               queue_partition_key text, delay_ms bigint, version_pinned bool, attributes text, timeout_ms bigint,
--               deadline bigint, start_by bigint, codec text, input text)
{found: fence, the executor is dead}
{count: insert_starts from starts}
{do: insert_start_payloads from starts}
RETURN hit;

-- function: take_in(executor bigint, identity bigint, consumer bigint, incarnation bigint, application text, name text, version text, queue text) returns text
-- New events, and watermarks that stand where they stood. Gives the lanes in which an earlier event stands, as JSON.
-- table: moves(partition int, epoch bigint, expected bigint, next_offset bigint, leader_epoch int)
-- table: lanes(lane text)
-- table: events(workflow_id text, partition int, position bigint, key bytea, value bytea, headers text,
--               timestamp_type int, timestamp bigint, leader_epoch int, latency float8, fingerprint bigint,
--               lane text, lane_sequence bigint, owned bool)
{found: fence, the executor is dead}
WITH locked AS MATERIALIZED ({select: lock_watermarks, partitions = moves.partition})
SELECT count(*) INTO hit
FROM {rows: moves}
JOIN locked AS l ON l.partition = u.partition AND l.epoch = u.epoch AND l.next_offset = u.expected;
{expect: moves, a watermark is not where it was}
{do: move_watermarks from moves}
IF {size: lanes} > 0 THEN
    behind := ARRAY({select: open_lanes from lanes});
END IF;
{all: insert_event_workflows from events, an event is known}
{all: insert_events from events, an event is known}
RETURN CASE WHEN cardinality(behind) > 0 THEN CAST(to_json(behind) AS text) END;

-- Schedules and their ticks (docs/protocol.md, rule 21). The row of a schedule is an anchor in the order of locks: after
-- the executor's own row, before those of workflows.

-- name: next_schedule
-- How long until a schedule that this process may serve is due. Those without a next tick are passed over. The spec is
-- looked up in a sub-select: a planner that cannot know how many are due would join all of them.
SELECT min(s.due_at) - {now} AS milliseconds, {now} AS now,
       (SELECT count(*) FROM {schema}.schedules AS b
        WHERE b.application = :application AND b.buffered IS NOT NULL) AS buffered
FROM {schema}.schedules AS s
WHERE s.application = :application AND s.due_at <= (SELECT {now}) + :horizon_ms
  AND s.name NOT IN ({list:but})
  AND CASE WHEN s.source = 'code' THEN s.name IN ({list:declared})
           ELSE (SELECT p.workflow_name FROM {schema}.schedule_specs AS p
                 WHERE p.application = s.application AND p.name = s.name AND p.revision = s.revision) IN ({list:names})
      END
  AND (s.version IS NULL OR s.version = :version
       OR s.version NOT IN (SELECT e.version FROM {schema}.executors AS e
                            WHERE e.alive AND e.application = :application));

-- name: due_schedules
-- Schedules that are due, or hold a tick that waits for the end of the last run. One that another process decides at this
-- moment is passed over. What newer code has declared is left to it while it lives.
SELECT w.name, w.source, w.version, w.revision, w.latest, w.position, w.repeat, w.reached, w.last_run, w.last_fired_at, w.buffered,
       w.alarm, p.paused, p.workflow_name, p.class_name, p.expression, p.zone, p.dst, p.catch_up,
       p.catch_up_window_ms, p.overlap, p.jitter_ms, p.queue, p.second, p.codec, p.context,
       n.valid_from AS ends_at, n.zone AS next_zone, {now} AS now
FROM {schema}.schedules AS w
JOIN {schema}.schedule_specs AS p
  ON p.application = w.application AND p.name = w.name AND p.revision = w.revision
LEFT JOIN {schema}.schedule_specs AS n
  ON n.application = w.application AND n.name = w.name AND n.revision = w.revision + 1
WHERE w.application = :application
  AND (w.due_at <= (SELECT {now}) OR w.buffered IS NOT NULL)
  AND w.name NOT IN ({list:but})
  AND (CAST(:only AS text) IS NULL OR w.name = :only)
  AND CASE WHEN w.source = 'code' THEN w.name IN ({list:declared}) ELSE p.workflow_name IN ({list:names}) END
  AND (w.version IS NULL OR w.version = :version
       OR w.version NOT IN (SELECT e.version FROM {schema}.executors AS e
                            WHERE e.alive AND e.application = :application))
ORDER BY w.due_at, w.name
LIMIT :count
{skip_locked_w};

-- name: read_run_states
-- How the last runs stand.
SELECT id, status FROM {schema}.workflows WHERE id IN ({list:ids});

-- name: insert_tick_workflows
-- An id that is there already is the same tick: decided before, or filled in by hand.
INSERT INTO {schema}.workflows
    ({columns but codec, input}, owner, take, created_at, updated_at, started_at)
SELECT {values but codec, input},
       CASE WHEN u.status = 'PENDING' THEN CAST(:executor AS bigint) END,
       CASE WHEN u.status = 'PENDING' THEN 1 ELSE 0 END,
       {now}, {now}, CASE WHEN u.status = 'PENDING' THEN {now} END
FROM {rows: id text, application text, name text, status text, start_id bigint, version text, class_name text,
      queue text, schedule_name text, codec text, input text}
WHERE true
ON CONFLICT (id) DO NOTHING;

-- name: insert_ticks
-- The first outcome of a tick stays.
INSERT INTO {schema}.ticks (application, {columns}, decided_at)
SELECT :application, {values}, {now}
FROM {rows: schedule text, kind text, nominal text, zone text, repeat int, until bigint, outcome text,
      due_at bigint, workflow_id text, executor bigint, detail text}
WHERE true
ON CONFLICT DO NOTHING;

-- name: fill_ticks
-- A tick that started nothing is filled in by hand.
INSERT INTO {schema}.ticks (application, {columns}, decided_at)
SELECT :application, {values}, {now}
FROM {rows: schedule text, kind text, nominal text, zone text, repeat int, until bigint, outcome text,
      due_at bigint, workflow_id text, executor bigint, detail text}
WHERE true
ON CONFLICT (application, schedule, kind, nominal, zone, repeat) DO UPDATE
SET outcome = excluded.outcome, workflow_id = excluded.workflow_id, decided_at = excluded.decided_at,
    detail = 'was ' || ticks.outcome
WHERE ticks.outcome IN ('missed', 'paused', 'skipped', 'merged', 'absent') AND ticks.until IS NULL;

-- name: release_tick
-- A tick that waited for the end of the last run.
UPDATE {schema}.ticks
SET outcome = :outcome, decided_at = {now}, executor = :executor, detail = :detail
WHERE application = :application AND schedule = :schedule AND kind = 'tick' AND nominal = :nominal AND zone = :zone
  AND repeat = :repeat AND outcome = 'buffered';

-- name: move_schedules
-- In the transaction that holds their rows.
UPDATE {schema}.schedules AS s
SET revision = u.revision, position = u.position, repeat = u.repeat, reached = u.reached, due_at = u.due_at, next_at = u.next_at,
    last_run = u.last_run, last_fired_at = u.last_fired_at, buffered = u.buffered, alarm = u.alarm, updated_at = {now}
FROM {rows: name text, revision int, position text, repeat int, reached bigint, due_at bigint, next_at bigint, last_run text,
      last_fired_at text, buffered text, alarm text}
WHERE s.application = :application AND s.name = u.name;

-- name: alarm_schedule
-- What keeps a schedule from being decided.
UPDATE {schema}.schedules SET alarm = :alarm, updated_at = {now}
WHERE application = :application AND name = :name AND (alarm IS NULL OR alarm <> :alarm);

-- name: clear_alarm
-- Somebody has seen it.
UPDATE {schema}.schedules SET alarm = NULL WHERE application = :application AND name = :name AND alarm IS NOT NULL;

-- name: lock_schedule
-- Held until the transaction ends; what it is now is read by the next statement, which sees what was waited for.
SELECT s.name FROM {schema}.schedules AS s WHERE s.application = :application AND s.name = :name {for_update};

-- name: read_schedule
-- With the newest of its specs.
SELECT s.name, s.source, s.version, s.revision, s.latest, s.reached, p.paused, p.valid_from, p.workflow_name, p.class_name,
       p.expression, p.zone, p.dst, p.catch_up, p.catch_up_window_ms, p.overlap, p.jitter_ms, p.queue, p.second,
       p.codec, p.context
FROM {schema}.schedules AS s
JOIN {schema}.schedule_specs AS p
  ON p.application = s.application AND p.name = s.name AND p.revision = s.latest
WHERE s.application = :application AND s.name = :name;

-- name: insert_schedule
-- Nothing when it is there already.
INSERT INTO {schema}.schedules
    (application, name, schedule_id, source, version, revision, latest, position, repeat, reached, due_at, next_at,
     created_at, updated_at)
VALUES (:application, :name, :schedule_id, :source, :version, 1, 1, :position, :repeat, :reached, :due_at, :next_at, {now}, {now})
ON CONFLICT (application, name) DO NOTHING
RETURNING name;

-- name: insert_spec
-- From when on it counts: never before the one that it follows.
INSERT INTO {schema}.schedule_specs
    (application, name, revision, valid_from, paused, workflow_name, class_name, expression, zone, dst, catch_up,
     catch_up_window_ms, overlap, jitter_ms, queue, second, codec, context, changed_by, change_reason)
VALUES (:application, :name, :revision, :valid_from, :paused, :workflow_name, :class_name, :expression, :zone, :dst,
        :catch_up, :catch_up_window_ms, :overlap, :jitter_ms, :queue, :second, :codec, :context, :changed_by,
        :change_reason);

-- name: follow_spec
-- Due at once, so that what was due before the change follows the spec of then, and the next tick the new one.
UPDATE {schema}.schedules
SET latest = :latest, due_at = {now}, alarm = NULL, updated_at = {now}
WHERE application = :application AND name = :name;

-- name: claim_schedule
-- Declared in this version's code.
UPDATE {schema}.schedules SET source = 'code', version = :version
WHERE application = :application AND name = :name;

-- name: newer_version
-- Whether a live process has this version, and it was there first later than ours.
SELECT e.version
FROM {schema}.executors AS e
WHERE e.application = :application AND e.version = :other AND e.alive
  AND (SELECT min(a.id) FROM {schema}.executors AS a
       WHERE a.application = :application AND a.version = :other)
    > (SELECT min(b.id) FROM {schema}.executors AS b
       WHERE b.application = :application AND b.version = :version)
LIMIT 1;

-- name: delete_schedule
-- Its ticks stay, as what has happened.
DELETE FROM {schema}.schedules WHERE application = :application AND name = :name;

-- name: delete_specs
-- Together with their schedule.
DELETE FROM {schema}.schedule_specs WHERE application = :application AND name = :name;

-- name: list_schedules
-- With the newest spec of each.
SELECT s.application, s.name, s.schedule_id, s.source, s.version, s.latest AS revision, s.next_at, s.position, s.repeat,
       s.last_fired_at, s.alarm, p.valid_from, p.paused, p.workflow_name, p.class_name, p.expression, p.zone, p.dst,
       p.catch_up, p.catch_up_window_ms, p.overlap, p.jitter_ms, p.queue, p.second, p.codec, p.context,
       p.changed_by, p.change_reason
FROM {schema}.schedules AS s
JOIN {schema}.schedule_specs AS p
  ON p.application = s.application AND p.name = s.name AND p.revision = s.latest
WHERE (CAST(:application AS text) IS NULL OR s.application = :application)
  AND (CAST(:name AS text) IS NULL OR s.name = :name)
ORDER BY s.application, s.name;

-- name: list_specs
-- All that a schedule has been.
SELECT p.revision, p.valid_from, p.paused, p.workflow_name, p.class_name, p.expression, p.zone, p.dst, p.catch_up,
       p.catch_up_window_ms, p.overlap, p.jitter_ms, p.queue, p.second, p.codec, p.context
FROM {schema}.schedule_specs AS p
WHERE p.application = :application AND p.name = :name
ORDER BY p.revision;

-- name: list_ticks
-- Those that were due in a time, and runs of them that reach into it.
SELECT t.schedule, t.kind, t.nominal, t.zone, t.repeat, t.outcome, t.due_at, t.until, t.workflow_id,
       t.detail, t.decided_at, t.executor
FROM {schema}.ticks AS t
WHERE t.application = :application AND t.schedule = :schedule
  AND t.due_at <= :end_ms AND (t.due_at > :begin_ms OR t.until > :begin_ms)
ORDER BY t.due_at, t.nominal, t.repeat
LIMIT :count;

-- name: live_versions
-- What lives, and what it can run.
SELECT DISTINCT e.application, e.version, e.functions FROM {schema}.executors AS e
WHERE e.alive AND (CAST(:application AS text) IS NULL OR e.application = :application);

-- name: read_facts
-- What was noted of this application's fire times.
SELECT name, value FROM {schema}.schema_facts WHERE name IN ({list:names});

-- name: note_fact
-- What they depend on now.
INSERT INTO {schema}.schema_facts (name, value) VALUES (:name, :value)
ON CONFLICT (name) DO UPDATE SET value = excluded.value;

-- name: retime_schedule
-- Unless somebody has decided or changed it meanwhile.
UPDATE {schema}.schedules
SET due_at = :due_at, next_at = :next_at, updated_at = {now}
WHERE application = :application AND name = :name AND position = :position AND repeat = :repeat
  AND next_at = :was_next
RETURNING name;

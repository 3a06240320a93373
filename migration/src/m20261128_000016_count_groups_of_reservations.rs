//! The triggers of budgets again. On PostgreSQL, a statement now locks and reads each budget once,
//! and counts all of its reservations together.

use sea_orm::{DbBackend, Statement};

use crate::m20261128_000015_create_budget_charges as create_budget_charges;
use crate::schema_migration::{Change, SchemaMigration};

const BUDGETS: &str = "runtrail_budgets";
const USAGE: &str = "runtrail_budget_usage";
const RESERVATIONS: &str = "runtrail_budget_reservations";

pub(crate) const MIGRATION: SchemaMigration = SchemaMigration {
    name: "runtrail_m20261128_000016_count_groups_of_reservations@0.1.0",
    change: Change::Triggers {
        table: RESERVATIONS,
        triggers: &[
            (RESERVATIONS, "runtrail_check_reservation"),
            (RESERVATIONS, "runtrail_count_reservation"),
            (RESERVATIONS, "runtrail_close_reservation"),
            (RESERVATIONS, "runtrail_delete_reservation"),
            (BUDGETS, "runtrail_replace_budget"),
            (BUDGETS, "runtrail_delete_budget"),
            (USAGE, "runtrail_delete_slots"),
        ],
    },
    up,
    down,
};

fn up(backend: DbBackend) -> Vec<Statement> {
    // Also creates the triggers that stay as they are, in case one was lost.
    let mut statements = (create_budget_charges::MIGRATION.up)(backend);
    let triggers = match backend {
        DbBackend::Postgres => postgres_up(),
        _ => sqlite_up(),
    };
    statements.extend(triggers.into_iter().map(|sql| raw(backend, sql)));
    statements
}

fn down(backend: DbBackend) -> Vec<Statement> {
    let triggers = match backend {
        DbBackend::Postgres => POSTGRES_DOWN,
        _ => SQLITE_DOWN,
    };
    let triggers = triggers.iter().map(|sql| raw(backend, (*sql).to_owned()));
    let before = (create_budget_charges::MIGRATION.up)(backend);
    triggers.chain(before).collect()
}

fn raw(backend: DbBackend, sql: String) -> Statement {
    #[expect(
        clippy::disallowed_methods,
        reason = "the query builder has no triggers"
    )]
    let statement = Statement::from_string(backend, sql);
    statement
}

/// Whether the budget `b` applies to the new reservation.
const APPLIES: &str = "(b.scope = 'everything' \
     OR b.scope = 'caller' AND b.scope_id = NEW.caller_id \
     OR b.scope = 'skill' AND b.scope_id = NEW.skill_id \
     OR b.scope = 'channel' AND b.scope_id = NEW.channel_id)";

/// The length of the slots of the budget `b`, whose period is a window.
const SLOT_LENGTH: &str = "((b.period_micros + 63) / 64)";

/// What a reservation holds of the budget `b`.
fn amount(reservation: &str) -> String {
    format!(
        "CASE b.unit WHEN 'tokens' THEN {reservation}.tokens ELSE {reservation}.cost_micros END"
    )
}

/// The start of the slot of the budget `b` that counts a reservation: a day, a month, or at least a
/// 64th of the window.
fn slot(backend: DbBackend, reservation: &str) -> String {
    let time = format!("{reservation}.reserved_at");
    let month = match backend {
        DbBackend::Postgres => format!(
            "CAST(date_part('epoch', date_trunc('month', timestamp 'epoch' \
             + ({time} + b.period_micros) * interval '1 microsecond')) AS bigint)"
        ),
        _ => format!(
            "CAST(strftime('%s', ({time} + b.period_micros) / 1000000, 'unixepoch', \
             'start of month') AS bigint)"
        ),
    };
    format!(
        "CASE b.period WHEN 'window' THEN {time} - {time} % {SLOT_LENGTH} \
         WHEN 'day' THEN {time} - ({time} + b.period_micros) % 86400000000 \
         ELSE {month} * 1000000 - b.period_micros END"
    )
}

/// What has been used and reserved of the budget `b`, in the slots that still count when the new
/// reservation is made. A slot leaves a window once all of it has.
fn counted(backend: DbBackend) -> String {
    let slot = slot(backend, "NEW");
    format!(
        "(SELECT coalesce(sum(u.used + u.reserved), 0) FROM runtrail_budget_usage AS u \
         WHERE u.budget = b.name AND u.slot_start >= CASE b.period WHEN 'window' THEN \
         NEW.reserved_at - b.period_micros - {SLOT_LENGTH} + 1 ELSE {slot} END)"
    )
}

/// Whether a slot `u` of the budget `b` ended more than a day before the new slot began. Until
/// then, a reservation with a slightly earlier time may need it.
fn has_ended() -> String {
    format!(
        "b.name = NEW.budget AND u.budget = b.name AND u.slot_start < NEW.slot_start - 86400000000 \
         - CASE b.period WHEN 'window' THEN b.period_micros + {SLOT_LENGTH} ELSE 0 END"
    )
}

fn sqlite_up() -> Vec<String> {
    let counted = counted(DbBackend::Sqlite);
    let (slot, amount) = (slot(DbBackend::Sqlite, "NEW"), amount("NEW"));
    let has_ended = has_ended();
    vec![
        "DROP TRIGGER IF EXISTS runtrail_check_reservation".to_owned(),
        // A reservation without an amount in the unit of a budget needs one that isn't used up.
        format!(
            "CREATE TRIGGER runtrail_check_reservation \
             BEFORE INSERT ON runtrail_budget_reservations BEGIN \
             SELECT RAISE(IGNORE) WHERE EXISTS (SELECT 1 FROM runtrail_budgets AS b \
             WHERE {APPLIES} AND b.amount_limit < max({amount}, 1) + {counted}); END"
        ),
        "DROP TRIGGER IF EXISTS runtrail_count_reservation".to_owned(),
        format!(
            "CREATE TRIGGER runtrail_count_reservation \
             AFTER INSERT ON runtrail_budget_reservations BEGIN \
             INSERT INTO runtrail_budget_charges (reservation_id, budget, slot_start, amount) \
             SELECT NEW.id, b.name, {slot}, {amount} FROM runtrail_budgets AS b WHERE {APPLIES}; \
             INSERT INTO runtrail_budget_usage (budget, slot_start, used, reserved) \
             SELECT b.name, {slot}, 0, {amount} FROM runtrail_budgets AS b WHERE {APPLIES} \
             ON CONFLICT (budget, slot_start) \
             DO UPDATE SET reserved = runtrail_budget_usage.reserved + excluded.reserved; END"
        ),
        "DROP TRIGGER IF EXISTS runtrail_delete_slots".to_owned(),
        format!(
            "CREATE TRIGGER runtrail_delete_slots AFTER INSERT ON runtrail_budget_usage BEGIN \
             DELETE FROM runtrail_budget_usage WHERE (budget, slot_start) IN \
             (SELECT u.budget, u.slot_start FROM runtrail_budgets AS b \
             JOIN runtrail_budget_usage AS u ON {has_ended}); END"
        ),
    ]
}

const SQLITE_DOWN: &[&str] = &[
    "DROP TRIGGER IF EXISTS runtrail_check_reservation",
    "DROP TRIGGER IF EXISTS runtrail_count_reservation",
    "DROP TRIGGER IF EXISTS runtrail_delete_slots",
];

fn postgres_up() -> Vec<String> {
    let counted = counted(DbBackend::Postgres);
    let (slot, amount) = (slot(DbBackend::Postgres, "r"), amount("r"));
    let has_ended = has_ended();
    let function = "RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$";
    vec![
        // The first reservation of a statement locks the budgets in the order of their names, and
        // then reads their usage with a new snapshot. The lock is an update, so that a transaction
        // with an older snapshot fails instead of reading outdated sums. What is left is kept in
        // settings of the transaction: a query for each reservation would cost several times as
        // much, and a trigger that sees all of them at once could no longer skip one. Here and
        // below, no plan depends on the size of a table or on the values: it stays in use while
        // the tables grow, and isn't made anew for each statement.
        format!(
            "CREATE OR REPLACE FUNCTION runtrail_check_reservation() {function} \
             DECLARE request text := CAST(jsonb_build_array(\
             NEW.caller_id, NEW.skill_id, NEW.channel_id) AS text); \
             checked text := coalesce(current_setting('runtrail.request', true), ''); \
             candidate text; locked text[] := '{{}}'; unit text; amount_left numeric; \
             tokens_left numeric; cost_left numeric; is_refused boolean; BEGIN \
             IF checked = '' THEN \
             FOR candidate IN SELECT b.name FROM runtrail_budgets AS b WHERE {APPLIES} \
             ORDER BY b.name LOOP \
             UPDATE runtrail_budgets AS b SET amount_limit = b.amount_limit \
             WHERE b.name = candidate AND {APPLIES}; CONTINUE WHEN NOT FOUND; \
             locked := locked || candidate; \
             SELECT b.unit, b.amount_limit - {counted} INTO unit, amount_left \
             FROM runtrail_budgets AS b WHERE b.name = candidate; \
             IF unit = 'tokens' THEN tokens_left := least(tokens_left, amount_left); \
             ELSE cost_left := least(cost_left, amount_left); END IF; END LOOP; \
             PERFORM set_config('runtrail.request', request, true), \
             set_config('runtrail.locked_budgets', CAST(locked AS text), true); \
             ELSIF checked = request THEN \
             tokens_left := nullif(current_setting('runtrail.tokens_left'), ''); \
             cost_left := nullif(current_setting('runtrail.cost_left'), ''); \
             ELSE RAISE EXCEPTION 'the reservations of a statement must have the same caller, \
             skill and channel'; END IF; \
             is_refused := (greatest(NEW.tokens, 1) > tokens_left) IS TRUE \
             OR (greatest(NEW.cost_micros, 1) > cost_left) IS TRUE; \
             IF NOT is_refused THEN tokens_left := tokens_left - NEW.tokens; \
             cost_left := cost_left - NEW.cost_micros; END IF; \
             PERFORM set_config('runtrail.tokens_left', \
             coalesce(CAST(tokens_left AS text), ''), true), \
             set_config('runtrail.cost_left', coalesce(CAST(cost_left AS text), ''), true); \
             IF is_refused THEN RETURN NULL; END IF; \
             RETURN NEW; END $$"
        ),
        // Counts only what was inserted, and only in the budgets that the check has locked. Whoever
        // inserts a slot holds the lock. An upsert would wait longer than the updates of concurrent
        // settlements, which queue for the row.
        format!(
            "CREATE OR REPLACE FUNCTION runtrail_count_reservation() {function} \
             DECLARE candidate text; slot record; locked text[] := \
             coalesce(nullif(current_setting('runtrail.locked_budgets', true), ''), '{{}}'); \
             BEGIN FOREACH candidate IN ARRAY locked LOOP \
             FOR slot IN WITH charge AS (INSERT INTO runtrail_budget_charges AS c \
             (reservation_id, budget, slot_start, amount) SELECT r.id, b.name, {slot}, {amount} \
             FROM inserted AS r JOIN runtrail_budgets AS b ON b.name = candidate \
             RETURNING c.slot_start, c.amount) \
             SELECT c.slot_start, sum(c.amount) AS amount FROM charge AS c \
             GROUP BY c.slot_start LOOP \
             UPDATE runtrail_budget_usage AS u SET reserved = u.reserved + slot.amount \
             WHERE u.budget = candidate AND u.slot_start = slot.slot_start; \
             CONTINUE WHEN FOUND; \
             INSERT INTO runtrail_budget_usage (budget, slot_start, used, reserved) \
             VALUES (candidate, slot.slot_start, 0, slot.amount); END LOOP; END LOOP; \
             PERFORM set_config('runtrail.request', '', true), \
             set_config('runtrail.locked_budgets', '', true); \
             RETURN NULL; END $$"
        ),
        // Skips charges that another transaction has deleted with their budget. The usage is
        // updated in the order of the budgets' names. A reservation that a sweep has released can
        // still be settled, so its charges stay; a deleted one with charges was never settled.
        "CREATE OR REPLACE FUNCTION runtrail_close_reservation() RETURNS trigger \
         LANGUAGE plpgsql SECURITY DEFINER AS $$ DECLARE slot record; reservation record; BEGIN \
         FOR slot IN SELECT c.budget, c.slot_start, sum(c.amount) AS amount, \
         sum(coalesce(CASE b.unit WHEN 'tokens' THEN r.actual_tokens \
         ELSE r.actual_cost_micros END, 0)) AS used FROM closed AS r \
         CROSS JOIN LATERAL (SELECT * FROM runtrail_budget_charges \
         WHERE reservation_id = r.id FOR UPDATE) AS c \
         JOIN runtrail_budgets AS b ON b.name = c.budget \
         GROUP BY c.budget, c.slot_start ORDER BY c.budget, c.slot_start LOOP \
         UPDATE runtrail_budget_usage AS u \
         SET reserved = u.reserved - slot.amount, used = u.used + slot.used \
         WHERE u.budget = slot.budget AND u.slot_start = slot.slot_start; END LOOP; \
         FOR reservation IN SELECT id, actual_tokens FROM closed LOOP \
         IF TG_OP = 'UPDATE' AND reservation.actual_tokens IS NULL THEN \
         UPDATE runtrail_budget_charges SET amount = 0 WHERE reservation_id = reservation.id; \
         ELSE DELETE FROM runtrail_budget_charges WHERE reservation_id = reservation.id; \
         END IF; END LOOP; \
         RETURN NULL; END $$"
            .to_owned(),
        format!(
            "CREATE OR REPLACE FUNCTION runtrail_delete_slots() {function} BEGIN \
             DELETE FROM runtrail_budget_usage AS u USING runtrail_budgets AS b \
             WHERE {has_ended}; RETURN NULL; END $$"
        ),
        // As for the functions that these replace.
        "DO $$ DECLARE name text; BEGIN FOREACH name IN ARRAY ARRAY['runtrail_check_reservation', \
         'runtrail_count_reservation', 'runtrail_close_reservation', 'runtrail_delete_slots'] \
         LOOP EXECUTE format('ALTER FUNCTION %I() SET search_path = %I, pg_temp', name, \
         current_schema()); \
         EXECUTE format('REVOKE ALL ON FUNCTION %I() FROM PUBLIC', name); END LOOP; END $$"
            .to_owned(),
    ]
    .into_iter()
    .chain(POSTGRES_TRIGGERS.iter().map(|sql| (*sql).to_owned()))
    .collect()
}

const POSTGRES_TRIGGERS: &[&str] = &[
    "DROP TRIGGER IF EXISTS runtrail_count_reservation ON runtrail_budget_reservations",
    "CREATE TRIGGER runtrail_count_reservation AFTER INSERT ON runtrail_budget_reservations \
     REFERENCING NEW TABLE AS inserted \
     FOR EACH STATEMENT EXECUTE PROCEDURE runtrail_count_reservation()",
    // With the rows of a statement, PostgreSQL allows no list of columns.
    "DROP TRIGGER IF EXISTS runtrail_close_reservation ON runtrail_budget_reservations",
    "CREATE TRIGGER runtrail_close_reservation AFTER UPDATE ON runtrail_budget_reservations \
     REFERENCING NEW TABLE AS closed \
     FOR EACH STATEMENT EXECUTE PROCEDURE runtrail_close_reservation()",
    "DROP TRIGGER IF EXISTS runtrail_delete_reservation ON runtrail_budget_reservations",
    "CREATE TRIGGER runtrail_delete_reservation AFTER DELETE ON runtrail_budget_reservations \
     REFERENCING OLD TABLE AS closed \
     FOR EACH STATEMENT EXECUTE PROCEDURE runtrail_close_reservation()",
    "DROP TRIGGER IF EXISTS runtrail_delete_slots ON runtrail_budget_usage",
    "CREATE TRIGGER runtrail_delete_slots AFTER INSERT ON runtrail_budget_usage \
     FOR EACH ROW EXECUTE PROCEDURE runtrail_delete_slots()",
];

const POSTGRES_DOWN: &[&str] = &[
    "DROP TRIGGER IF EXISTS runtrail_count_reservation ON runtrail_budget_reservations",
    "DROP TRIGGER IF EXISTS runtrail_delete_slots ON runtrail_budget_usage",
    "DROP FUNCTION IF EXISTS runtrail_count_reservation()",
    "DROP FUNCTION IF EXISTS runtrail_delete_slots()",
];

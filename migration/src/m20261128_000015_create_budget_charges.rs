//! The table of charges: what each reservation holds of each budget. Triggers derive it and the
//! usage of the budgets from the reservations, so that a statement that writes a reservation also
//! checks and counts it.

use sea_orm::sea_query::{self, ColumnDef, Index};
use sea_orm::{DbBackend, DeriveIden, Statement};

use crate::schema_migration::{Change, SchemaMigration, identifier};

pub(crate) const MIGRATION: SchemaMigration = SchemaMigration {
    name: "runtrail_m20261128_000015_create_budget_charges@0.1.0",
    change: Change::Table {
        name: "runtrail_budget_charges",
        columns: &["reservation_id", "budget", "slot_start", "amount"],
    },
    up,
    down,
};

#[derive(DeriveIden)]
enum RuntrailBudgetCharges {
    Table,
    ReservationId,
    Budget,
    SlotStart,
    Amount,
}

fn up(backend: DbBackend) -> Vec<Statement> {
    use RuntrailBudgetCharges::*;

    let number = |column| ColumnDef::new(column).big_integer().not_null().take();
    let table = sea_query::Table::create()
        .if_not_exists()
        .table(Table)
        .col(identifier(backend, ReservationId).not_null())
        .col(identifier(backend, Budget).not_null())
        .col(number(SlotStart))
        .col(number(Amount))
        .primary_key(Index::create().col(ReservationId).col(Budget))
        .take();
    let triggers = match backend {
        DbBackend::Postgres => POSTGRES_UP,
        _ => SQLITE_UP,
    };
    let triggers = triggers.iter().map(|sql| raw(backend, sql));
    [backend.build(&table)]
        .into_iter()
        .chain(triggers)
        .collect()
}

fn down(backend: DbBackend) -> Vec<Statement> {
    let triggers = match backend {
        DbBackend::Postgres => POSTGRES_DOWN,
        _ => SQLITE_DOWN,
    };
    let table = RuntrailBudgetCharges::Table;
    let table = backend.build(sea_query::Table::drop().if_exists().table(table));
    let triggers = triggers.iter().map(|sql| raw(backend, sql));
    triggers.chain([table]).collect()
}

fn raw(backend: DbBackend, sql: &str) -> Statement {
    #[expect(
        clippy::disallowed_methods,
        reason = "the query builder has no triggers"
    )]
    let statement = Statement::from_string(backend, sql);
    statement
}

/// Whether the budget `b` applies to the new reservation.
macro_rules! applies {
    () => {
        "(b.scope = 'everything' \
         OR b.scope = 'caller' AND b.scope_id = NEW.caller_id \
         OR b.scope = 'skill' AND b.scope_id = NEW.skill_id \
         OR b.scope = 'channel' AND b.scope_id = NEW.channel_id)"
    };
}

/// What the new reservation holds of the budget `b`.
macro_rules! amount {
    () => {
        "CASE b.unit WHEN 'tokens' THEN NEW.tokens ELSE NEW.cost_micros END"
    };
}

/// What the closed reservation has used of the budget `b`.
macro_rules! actual {
    () => {
        "coalesce(CASE b.unit WHEN 'tokens' THEN NEW.actual_tokens \
         ELSE NEW.actual_cost_micros END, 0)"
    };
}

/// The start of the month of the new reservation.
macro_rules! month {
    (sqlite) => {
        "CAST(strftime('%s', (NEW.reserved_at + b.period_micros) / 1000000, 'unixepoch', \
         'start of month') AS bigint) * 1000000 - b.period_micros"
    };
    (postgres) => {
        "CAST(date_part('epoch', date_trunc('month', timestamp 'epoch' \
         + (NEW.reserved_at + b.period_micros) * interval '1 microsecond')) AS bigint) * 1000000 \
         - b.period_micros"
    };
}

/// The start of the slot of the budget `b` that counts the new reservation: a day, a month, or at
/// least a 64th of the window.
macro_rules! slot {
    ($backend:ident) => {
        concat!(
            "CASE b.period ",
            "WHEN 'window' THEN NEW.reserved_at - NEW.reserved_at % ((b.period_micros + 63) / 64) ",
            "WHEN 'day' THEN ",
            "NEW.reserved_at - (NEW.reserved_at + b.period_micros) % 86400000000 ELSE ",
            month!($backend),
            " END"
        )
    };
}

/// The first slot of the budget `b` that still counts. A slot leaves a window once all of it has.
macro_rules! first_slot {
    ($backend:ident) => {
        concat!(
            "CASE b.period WHEN 'window' THEN ",
            "NEW.reserved_at - b.period_micros - (b.period_micros + 63) / 64 + 1 ELSE ",
            slot!($backend),
            " END"
        )
    };
}

/// Whether the budget `b` has too little left. A reservation without an amount in its unit needs a
/// budget that isn't used up.
macro_rules! is_exceeded {
    ($backend:ident, $max:literal) => {
        concat!(
            "b.amount_limit < ",
            $max,
            "(",
            amount!(),
            ", 1) + (SELECT coalesce(sum(u.used + u.reserved), 0) ",
            "FROM runtrail_budget_usage AS u ",
            "WHERE u.budget = b.name AND u.slot_start >= ",
            first_slot!($backend),
            ")"
        )
    };
}

/// Whether a budget that is replaced counts something else from now on.
macro_rules! counts_anew {
    () => {
        "OLD.unit <> NEW.unit OR OLD.scope <> NEW.scope OR OLD.scope_id <> NEW.scope_id \
         OR OLD.period <> NEW.period OR OLD.period_micros <> NEW.period_micros"
    };
}

/// Forgets what a budget has counted.
macro_rules! forget_budget {
    () => {
        "DELETE FROM runtrail_budget_charges WHERE budget = OLD.name; \
         DELETE FROM runtrail_budget_usage WHERE budget = OLD.name; "
    };
}

const SQLITE_UP: &[&str] = &[
    concat!(
        "CREATE TRIGGER IF NOT EXISTS runtrail_check_reservation ",
        "BEFORE INSERT ON runtrail_budget_reservations BEGIN ",
        "SELECT RAISE(IGNORE) WHERE EXISTS ",
        "(SELECT 1 FROM runtrail_budget_reservations AS r WHERE r.id = NEW.id) ",
        "OR EXISTS (SELECT 1 FROM runtrail_budgets AS b WHERE ",
        applies!(),
        " AND ",
        is_exceeded!(sqlite, "max"),
        "); ",
        "INSERT INTO runtrail_budget_charges (reservation_id, budget, slot_start, amount) ",
        "SELECT NEW.id, b.name, ",
        slot!(sqlite),
        ", ",
        amount!(),
        " FROM runtrail_budgets AS b WHERE ",
        applies!(),
        "; ",
        "INSERT INTO runtrail_budget_usage (budget, slot_start, used, reserved) ",
        "SELECT c.budget, c.slot_start, 0, c.amount FROM runtrail_budget_charges AS c ",
        "WHERE c.reservation_id = NEW.id ON CONFLICT (budget, slot_start) ",
        "DO UPDATE SET reserved = runtrail_budget_usage.reserved + excluded.reserved; ",
        // Until a day after its end, a reservation with a slightly earlier time may need a slot.
        "DELETE FROM runtrail_budget_usage WHERE (budget, slot_start) IN ",
        "(SELECT u.budget, u.slot_start FROM runtrail_budgets AS b ",
        "JOIN runtrail_budget_usage AS u ON u.budget = b.name AND u.slot_start < ",
        first_slot!(sqlite),
        " - 86400000000 WHERE ",
        applies!(),
        "); ",
        "END"
    ),
    concat!(
        "CREATE TRIGGER IF NOT EXISTS runtrail_close_reservation ",
        "AFTER UPDATE OF closed_at, actual_tokens, actual_cost_micros ",
        "ON runtrail_budget_reservations BEGIN ",
        "UPDATE runtrail_budget_usage SET reserved = reserved - c.amount, used = used + ",
        actual!(),
        " FROM runtrail_budget_charges AS c JOIN runtrail_budgets AS b ON b.name = c.budget ",
        "WHERE c.reservation_id = NEW.id AND runtrail_budget_usage.budget = c.budget ",
        "AND runtrail_budget_usage.slot_start = c.slot_start; ",
        "DELETE FROM runtrail_budget_charges ",
        "WHERE reservation_id = NEW.id AND NEW.actual_tokens IS NOT NULL; ",
        // A reservation that a sweep has released can still be settled.
        "UPDATE runtrail_budget_charges SET amount = 0 WHERE reservation_id = NEW.id; END"
    ),
    concat!(
        "CREATE TRIGGER IF NOT EXISTS runtrail_delete_reservation ",
        "AFTER DELETE ON runtrail_budget_reservations BEGIN ",
        "UPDATE runtrail_budget_usage SET reserved = reserved - c.amount ",
        "FROM runtrail_budget_charges AS c ",
        "WHERE c.reservation_id = OLD.id AND runtrail_budget_usage.budget = c.budget ",
        "AND runtrail_budget_usage.slot_start = c.slot_start; ",
        "DELETE FROM runtrail_budget_charges WHERE reservation_id = OLD.id; END"
    ),
    concat!(
        "CREATE TRIGGER IF NOT EXISTS runtrail_replace_budget AFTER UPDATE ON runtrail_budgets ",
        "WHEN ",
        counts_anew!(),
        " BEGIN ",
        forget_budget!(),
        "END"
    ),
    concat!(
        "CREATE TRIGGER IF NOT EXISTS runtrail_delete_budget AFTER DELETE ON runtrail_budgets ",
        "BEGIN ",
        forget_budget!(),
        "END"
    ),
];

const SQLITE_DOWN: &[&str] = &[
    "DROP TRIGGER IF EXISTS runtrail_check_reservation",
    "DROP TRIGGER IF EXISTS runtrail_close_reservation",
    "DROP TRIGGER IF EXISTS runtrail_delete_reservation",
    "DROP TRIGGER IF EXISTS runtrail_replace_budget",
    "DROP TRIGGER IF EXISTS runtrail_delete_budget",
];

const POSTGRES_UP: &[&str] = &[
    // Locks the budgets in the order of their names, and then reads their usage with a new
    // snapshot. The lock is an update, so that a transaction with an older snapshot fails instead
    // of reading outdated sums. It happens before the row is inserted: triggers that run afterwards
    // would see all rows of a statement at once. Whoever inserts a slot holds the lock.
    concat!(
        "CREATE OR REPLACE FUNCTION runtrail_check_reservation() RETURNS trigger ",
        "LANGUAGE plpgsql SECURITY DEFINER AS $$ ",
        "DECLARE candidate text; locked text[] := '{}'; charge record; BEGIN ",
        "FOR candidate IN SELECT b.name FROM runtrail_budgets AS b WHERE ",
        applies!(),
        " ORDER BY b.name LOOP ",
        "UPDATE runtrail_budgets AS b SET amount_limit = b.amount_limit ",
        "WHERE b.name = candidate AND ",
        applies!(),
        "; CONTINUE WHEN NOT FOUND; locked := locked || candidate; ",
        "IF EXISTS (SELECT FROM runtrail_budgets AS b WHERE b.name = candidate AND ",
        is_exceeded!(postgres, "greatest"),
        ") THEN RETURN NULL; END IF; END LOOP; ",
        "IF EXISTS (SELECT FROM runtrail_budget_reservations AS r WHERE r.id = NEW.id) ",
        "THEN RETURN NULL; END IF; ",
        "FOR charge IN SELECT b.name AS budget, ",
        amount!(),
        " AS amount, ",
        slot!(postgres),
        " AS slot_start, ",
        first_slot!(postgres),
        " AS first_slot FROM runtrail_budgets AS b ",
        "WHERE b.name = ANY (locked) ORDER BY b.name LOOP ",
        "INSERT INTO runtrail_budget_charges (reservation_id, budget, slot_start, amount) ",
        "VALUES (NEW.id, charge.budget, charge.slot_start, charge.amount); ",
        "UPDATE runtrail_budget_usage AS u SET reserved = u.reserved + charge.amount ",
        "WHERE u.budget = charge.budget AND u.slot_start = charge.slot_start; ",
        "CONTINUE WHEN FOUND; ",
        "INSERT INTO runtrail_budget_usage (budget, slot_start, used, reserved) ",
        "VALUES (charge.budget, charge.slot_start, 0, charge.amount); ",
        "DELETE FROM runtrail_budget_usage AS u WHERE u.budget = charge.budget ",
        "AND u.slot_start < charge.first_slot - 86400000000; END LOOP; ",
        "RETURN NEW; END $$"
    ),
    // Skips charges that another transaction has deleted with their budget.
    concat!(
        "CREATE OR REPLACE FUNCTION runtrail_close_reservation() RETURNS trigger ",
        "LANGUAGE plpgsql SECURITY DEFINER AS $$ DECLARE charge record; BEGIN ",
        "FOR charge IN SELECT c.budget, c.slot_start, c.amount, ",
        "CASE WHEN TG_OP = 'UPDATE' THEN ",
        actual!(),
        " ELSE 0 END AS used FROM runtrail_budget_charges AS c ",
        "JOIN runtrail_budgets AS b ON b.name = c.budget ",
        "WHERE c.reservation_id = OLD.id ORDER BY c.budget FOR UPDATE OF c LOOP ",
        "UPDATE runtrail_budget_usage AS u ",
        "SET reserved = u.reserved - charge.amount, used = u.used + charge.used ",
        "WHERE u.budget = charge.budget AND u.slot_start = charge.slot_start; END LOOP; ",
        // A reservation that a sweep has released can still be settled.
        "IF TG_OP = 'UPDATE' AND NEW.actual_tokens IS NULL THEN ",
        "UPDATE runtrail_budget_charges SET amount = 0 WHERE reservation_id = OLD.id; ",
        "ELSE DELETE FROM runtrail_budget_charges WHERE reservation_id = OLD.id; END IF; ",
        "RETURN NULL; END $$"
    ),
    concat!(
        "CREATE OR REPLACE FUNCTION runtrail_forget_budget() RETURNS trigger ",
        "LANGUAGE plpgsql SECURITY DEFINER AS $$ BEGIN ",
        forget_budget!(),
        "RETURN NULL; END $$"
    ),
    // Clients may have another search path, without this schema. A role that may reserve needs no
    // right to change the budgets, and a trigger no right to execute its function.
    "DO $$ DECLARE name text; BEGIN FOREACH name IN ARRAY ARRAY['runtrail_check_reservation', \
     'runtrail_close_reservation', 'runtrail_forget_budget'] LOOP \
     EXECUTE format('ALTER FUNCTION %I() SET search_path = %I, pg_temp', name, current_schema()); \
     EXECUTE format('REVOKE ALL ON FUNCTION %I() FROM PUBLIC', name); END LOOP; END $$",
    "DROP TRIGGER IF EXISTS runtrail_check_reservation ON runtrail_budget_reservations",
    "CREATE TRIGGER runtrail_check_reservation BEFORE INSERT ON runtrail_budget_reservations \
     FOR EACH ROW EXECUTE PROCEDURE runtrail_check_reservation()",
    "DROP TRIGGER IF EXISTS runtrail_close_reservation ON runtrail_budget_reservations",
    "CREATE TRIGGER runtrail_close_reservation \
     AFTER UPDATE OF closed_at, actual_tokens, actual_cost_micros \
     ON runtrail_budget_reservations FOR EACH ROW EXECUTE PROCEDURE runtrail_close_reservation()",
    "DROP TRIGGER IF EXISTS runtrail_delete_reservation ON runtrail_budget_reservations",
    "CREATE TRIGGER runtrail_delete_reservation AFTER DELETE ON runtrail_budget_reservations \
     FOR EACH ROW EXECUTE PROCEDURE runtrail_close_reservation()",
    "DROP TRIGGER IF EXISTS runtrail_replace_budget ON runtrail_budgets",
    concat!(
        "CREATE TRIGGER runtrail_replace_budget ",
        "AFTER UPDATE OF unit, scope, scope_id, period, period_micros ON runtrail_budgets ",
        "FOR EACH ROW WHEN (",
        counts_anew!(),
        ") EXECUTE PROCEDURE runtrail_forget_budget()"
    ),
    "DROP TRIGGER IF EXISTS runtrail_delete_budget ON runtrail_budgets",
    "CREATE TRIGGER runtrail_delete_budget AFTER DELETE ON runtrail_budgets \
     FOR EACH ROW EXECUTE PROCEDURE runtrail_forget_budget()",
];

const POSTGRES_DOWN: &[&str] = &[
    "DROP TRIGGER IF EXISTS runtrail_check_reservation ON runtrail_budget_reservations",
    "DROP TRIGGER IF EXISTS runtrail_close_reservation ON runtrail_budget_reservations",
    "DROP TRIGGER IF EXISTS runtrail_delete_reservation ON runtrail_budget_reservations",
    "DROP TRIGGER IF EXISTS runtrail_replace_budget ON runtrail_budgets",
    "DROP TRIGGER IF EXISTS runtrail_delete_budget ON runtrail_budgets",
    "DROP FUNCTION IF EXISTS runtrail_check_reservation()",
    "DROP FUNCTION IF EXISTS runtrail_close_reservation()",
    "DROP FUNCTION IF EXISTS runtrail_forget_budget()",
];

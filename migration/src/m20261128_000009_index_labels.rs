//! The table that serves as the index of labels. Triggers derive its rows from the labels of the
//! runs, so a statement that writes a run writes them too.

use sea_orm::sea_query::{ColumnDef, Index, Table};
use sea_orm::{DbBackend, DeriveIden, Statement};

use crate::schema_migration::{Change, SchemaMigration, identifier};

const TABLE: &str = "runtrail_run_labels";
const BY_KEY: &str = "runtrail_run_labels_by_key";

pub(crate) const MIGRATION: SchemaMigration = SchemaMigration {
    name: "runtrail_m20261128_000009_index_labels@0.1.0",
    change: Change::Table {
        name: TABLE,
        columns: &["key", "value", "run_started_at", "run_id"],
    },
    up,
    down,
};

#[derive(DeriveIden)]
enum RuntrailRunLabels {
    Table,
    Key,
    Value,
    RunStartedAt,
    RunId,
}

fn up(backend: DbBackend) -> Vec<Statement> {
    let mut table = Table::create()
        .if_not_exists()
        .table(RuntrailRunLabels::Table)
        .col(identifier(backend, RuntrailRunLabels::Key).not_null())
        .col(identifier(backend, RuntrailRunLabels::Value).not_null())
        .col(
            ColumnDef::new(RuntrailRunLabels::RunStartedAt)
                .big_integer()
                .not_null(),
        )
        .col(identifier(backend, RuntrailRunLabels::RunId).not_null())
        // Lists of the runs with a label, in the order of their start.
        .primary_key(
            Index::create()
                .col(RuntrailRunLabels::Key)
                .col(RuntrailRunLabels::Value)
                .col(RuntrailRunLabels::RunStartedAt)
                .col(RuntrailRunLabels::RunId),
        )
        .take();
    if backend == DbBackend::Sqlite {
        // Without a second copy of the rows.
        table.extra("WITHOUT ROWID");
    }
    // Lists of the runs that have a key, whatever its value.
    let by_key = Index::create()
        .if_not_exists()
        .name(BY_KEY)
        .table(TABLE)
        .col(RuntrailRunLabels::Key)
        .col(RuntrailRunLabels::RunStartedAt)
        .col(RuntrailRunLabels::RunId)
        .take();
    let tables = [backend.build(&table), backend.build(&by_key)];
    let triggers = match backend {
        // Creating a trigger waits for concurrent writers and excludes later ones until the end of
        // the transaction, so the statements after it miss no run.
        DbBackend::Postgres => POSTGRES_UP,
        _ => SQLITE_UP,
    };
    let triggers = triggers.iter().map(|sql| raw(backend, sql));
    tables.into_iter().chain(triggers).collect()
}

fn down(backend: DbBackend) -> Vec<Statement> {
    let triggers = match backend {
        DbBackend::Postgres => POSTGRES_DOWN,
        _ => SQLITE_DOWN,
    };
    let table = backend.build(Table::drop().if_exists().table(RuntrailRunLabels::Table));
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

/// Selects the labels of a run (`OLD` or `NEW`). Skips values that aren't texts; selects nothing if
/// the column isn't JSON.
macro_rules! sqlite_labels {
    ($run:literal) => {
        concat!(
            "SELECT key, value, ",
            $run,
            ".started_at, ",
            $run,
            ".id ",
            "FROM json_each(CASE WHEN json_valid(",
            $run,
            ".labels) THEN ",
            $run,
            ".labels END) ",
            "WHERE type = 'text' AND typeof(key) = 'text'"
        )
    };
}

macro_rules! sqlite_insert {
    ($run:literal) => {
        concat!(
            "INSERT OR IGNORE INTO runtrail_run_labels (key, value, run_started_at, run_id) ",
            sqlite_labels!($run)
        )
    };
}

macro_rules! sqlite_delete {
    () => {
        concat!(
            "DELETE FROM runtrail_run_labels WHERE (key, value, run_started_at, run_id) IN (",
            sqlite_labels!("OLD"),
            ")"
        )
    };
}

const SQLITE_UP: &[&str] = &[
    concat!(
        "CREATE TRIGGER IF NOT EXISTS runtrail_insert_labels AFTER INSERT ON skill_runs ",
        "WHEN NEW.labels IS NOT NULL BEGIN ",
        sqlite_insert!("NEW"),
        "; END"
    ),
    concat!(
        "CREATE TRIGGER IF NOT EXISTS runtrail_update_labels ",
        "AFTER UPDATE OF id, started_at, labels ON skill_runs ",
        "WHEN OLD.labels IS NOT NULL OR NEW.labels IS NOT NULL BEGIN ",
        sqlite_delete!(),
        "; ",
        sqlite_insert!("NEW"),
        "; END"
    ),
    concat!(
        "CREATE TRIGGER IF NOT EXISTS runtrail_delete_labels AFTER DELETE ON skill_runs ",
        "WHEN OLD.labels IS NOT NULL BEGIN ",
        sqlite_delete!(),
        "; END"
    ),
    // The triggers may have been missing for a while.
    "DELETE FROM runtrail_run_labels",
    concat!(
        "INSERT OR IGNORE INTO runtrail_run_labels (key, value, run_started_at, run_id) ",
        "SELECT label.key, label.value, run.started_at, run.id FROM skill_runs AS run, ",
        "json_each(CASE WHEN json_valid(run.labels) THEN run.labels END) AS label ",
        "WHERE run.labels IS NOT NULL AND label.type = 'text' AND typeof(label.key) = 'text'"
    ),
];

const SQLITE_DOWN: &[&str] = &[
    "DROP TRIGGER IF EXISTS runtrail_insert_labels",
    "DROP TRIGGER IF EXISTS runtrail_update_labels",
    "DROP TRIGGER IF EXISTS runtrail_delete_labels",
];

macro_rules! postgres_labels {
    ($run:literal) => {
        concat!(
            "SELECT key, value #>> '{}' AS value FROM jsonb_each(runtrail_parse_labels(",
            $run,
            ".labels)) WHERE jsonb_typeof(value) = 'string'"
        )
    };
}

const POSTGRES_UP: &[&str] = &[
    // Without the exception, a run with a damaged value could be neither deleted nor repaired.
    "CREATE OR REPLACE FUNCTION runtrail_parse_labels(labels text) RETURNS jsonb \
     LANGUAGE plpgsql IMMUTABLE AS $$ DECLARE parsed jsonb; BEGIN parsed := labels::jsonb; \
     IF jsonb_typeof(parsed) = 'object' THEN RETURN parsed; END IF; RETURN NULL; \
     EXCEPTION WHEN others THEN RETURN NULL; END $$",
    // PostgreSQL may have planned the function while the table was empty. A delete in a loop uses
    // the index even then.
    concat!(
        "CREATE OR REPLACE FUNCTION runtrail_index_labels() RETURNS trigger LANGUAGE plpgsql ",
        "SECURITY DEFINER AS $$ DECLARE old_label record; BEGIN IF TG_OP <> 'INSERT' THEN FOR old_label IN ",
        postgres_labels!("OLD"),
        " LOOP DELETE FROM runtrail_run_labels AS stored WHERE stored.key = old_label.key ",
        "AND stored.value = old_label.value AND stored.run_started_at = OLD.started_at ",
        "AND stored.run_id = OLD.id; END LOOP; END IF; IF TG_OP <> 'DELETE' THEN ",
        "INSERT INTO runtrail_run_labels (key, value, run_started_at, run_id) ",
        "SELECT label.key, label.value, NEW.started_at, NEW.id FROM (",
        postgres_labels!("NEW"),
        ") AS label ON CONFLICT DO NOTHING; END IF; RETURN NULL; END $$"
    ),
    // Clients may have another search path, without this schema.
    "DO $$ BEGIN EXECUTE format('ALTER FUNCTION runtrail_index_labels() SET search_path = %I, \
     pg_temp', current_schema()); END $$",
    // It runs with the rights of its owner: an older instance may have none on the new table. A
    // trigger needs no right to execute it.
    "REVOKE ALL ON FUNCTION runtrail_index_labels() FROM PUBLIC",
    "DROP TRIGGER IF EXISTS runtrail_insert_labels ON skill_runs",
    "CREATE TRIGGER runtrail_insert_labels AFTER INSERT ON skill_runs FOR EACH ROW \
     WHEN (NEW.labels IS NOT NULL) EXECUTE PROCEDURE runtrail_index_labels()",
    "DROP TRIGGER IF EXISTS runtrail_update_labels ON skill_runs",
    "CREATE TRIGGER runtrail_update_labels AFTER UPDATE OF id, started_at, labels ON skill_runs \
     FOR EACH ROW WHEN (OLD.labels IS NOT NULL OR NEW.labels IS NOT NULL) \
     EXECUTE PROCEDURE runtrail_index_labels()",
    "DROP TRIGGER IF EXISTS runtrail_delete_labels ON skill_runs",
    "CREATE TRIGGER runtrail_delete_labels AFTER DELETE ON skill_runs FOR EACH ROW \
     WHEN (OLD.labels IS NOT NULL) EXECUTE PROCEDURE runtrail_index_labels()",
    // The triggers may have been missing for a while.
    "DELETE FROM runtrail_run_labels",
    "INSERT INTO runtrail_run_labels (key, value, run_started_at, run_id) \
     SELECT label.key, label.value #>> '{}', run.started_at, run.id FROM skill_runs AS run, \
     jsonb_each(runtrail_parse_labels(run.labels)) AS label \
     WHERE run.labels IS NOT NULL AND jsonb_typeof(label.value) = 'string' \
     ON CONFLICT DO NOTHING",
];

const POSTGRES_DOWN: &[&str] = &[
    "DROP TRIGGER IF EXISTS runtrail_insert_labels ON skill_runs",
    "DROP TRIGGER IF EXISTS runtrail_update_labels ON skill_runs",
    "DROP TRIGGER IF EXISTS runtrail_delete_labels ON skill_runs",
    "DROP FUNCTION IF EXISTS runtrail_index_labels()",
    "DROP FUNCTION IF EXISTS runtrail_parse_labels(text)",
];

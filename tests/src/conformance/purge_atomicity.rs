//! A purge deletes a run with all its events, or leaves both.

use std::sync::Mutex;

use runtrail_audit::{ErrorKind, Retention, Storage};
use runtrail_migration::Migrator;
use runtrail_store::AuditStore;
use sea_orm::{ConnectOptions, Database};

use crate::fixture::*;

/// The events of each run.
const EVENTS: u64 = 25;

/// Stores finished runs with their events.
async fn record(store: &AuditStore, ids: impl IntoIterator<Item = impl AsRef<str>>) {
    for id in ids {
        let id = id.as_ref();
        store.start_run(&finished_at(id, 1)).await.unwrap();
        for sequence in 0..EVENTS {
            store.append_log(&event(id, sequence)).await.unwrap();
        }
    }
}

async fn assert_whole(cx: &Cx<'_, AuditStore>, id: &str) {
    assert_eq!(cx.store.get_run(id).await.unwrap(), finished_at(id, 1));
    let events = cx.store.list_logs_by_run(id).await.unwrap();
    assert_eq!(events.len() as u64, EVENTS, "events of {id}");
}

/// Purges all runs, and expects exactly these to be skipped for this reason.
async fn assert_skipped(cx: &Cx<'_, AuditStore>, purged: u64, skipped: &[&str], reason: &str) {
    let seen = Mutex::new(Vec::new());
    let (reports, _guard) = Reports::capture();
    let summary = cx
        .store
        .purge_in_batches(at(2), &|batch| seen.lock().unwrap().extend(batch.skipped))
        .await
        .unwrap();
    assert_eq!(
        (summary.runs, summary.skipped),
        (purged, skipped.len() as u64)
    );
    let seen = seen.into_inner().unwrap();
    let ids: Vec<_> = seen.iter().map(|run| run.run_id.as_str()).collect();
    assert_eq!(ids, skipped);
    for run in &seen {
        assert!(run.reason.to_lowercase().contains(reason), "{run:?}");
        let report = format!("id=\"{}\"", run.run_id);
        assert!(reports.text().contains(&report), "{}", reports.text());
    }
}

cases_of_the_store! {
    async fn a_purge_reports_each_batch(cx) {
        for number in 0..250 {
            cx.store
                .start_run(&finished_at(&format!("run-{number}"), 1))
                .await
                .unwrap();
        }
        let batches = Mutex::new(Vec::new());
        let purged = cx
            .store
            .purge_in_batches(at(2), &|batch| batches.lock().unwrap().push(batch.runs))
            .await
            .unwrap();
        assert_eq!((purged.runs, purged.skipped), (250, 0));
        assert_eq!(batches.into_inner().unwrap(), [100, 100, 50]);
    }

    async fn a_run_that_a_hosts_table_references_stays_with_all_its_events(cx) {
        for action in [
            "",
            "ON DELETE NO ACTION",
            "ON DELETE RESTRICT",
            "DEFERRABLE INITIALLY DEFERRED",
        ] {
            cx.sql(&format!(
                "CREATE TABLE tickets (run_id TEXT REFERENCES skill_runs (id) {action})"
            ))
            .await;
            record(cx.store, (0..120).map(|number| format!("{number:03}"))).await;
            cx.sql("INSERT INTO tickets VALUES ('007'), ('110')").await;
            assert_skipped(cx, 118, &["007", "110"], "foreign key").await;
            assert_whole(cx, "007").await;
            assert_whole(cx, "110").await;
            assert_eq!(
                count(cx.db, "skill_run_logs").await as u64,
                2 * EVENTS,
                "{action}"
            );

            cx.sql("DROP TABLE tickets").await;
            assert_eq!(cx.store.purge_older_than(at(2)).await.unwrap(), 2);
            assert_eq!(count(cx.db, "skill_run_logs").await, 0);
        }
    }

    async fn a_purge_applies_the_on_delete_action_of_a_hosts_reference(cx) {
        for (action, left) in [("CASCADE", 0), ("SET NULL", 1), ("SET DEFAULT", 1)] {
            cx.sql(&format!(
                "CREATE TABLE tickets (run_id TEXT REFERENCES skill_runs (id) ON DELETE {action})"
            ))
            .await;
            record(cx.store, ["r"]).await;
            cx.sql("INSERT INTO tickets VALUES ('r')").await;
            assert_skipped(cx, 1, &[], "").await;
            assert_eq!(count(cx.db, "tickets").await, left, "{action}");
            assert_eq!(count(cx.db, "skill_run_logs").await, 0);
            cx.sql("DROP TABLE tickets").await;
        }
    }

    async fn a_run_that_a_hosts_trigger_protects_stays_with_all_its_events(cx) {
        record(cx.store, ["a", "b", "c"]).await;
        match cx.backend() {
            Backend::Sqlite => {
                cx.sql(
                    "CREATE TRIGGER protect BEFORE DELETE ON skill_runs WHEN old.id = 'b' \
                                       BEGIN SELECT RAISE(ABORT, 'protected'); END",
                )
                .await
            }
            Backend::Postgres => {
                cx.sql("CREATE FUNCTION protect() RETURNS trigger LANGUAGE plpgsql AS \
                        $$ BEGIN IF old.id = 'b' THEN RAISE 'protected'; END IF; RETURN old; \
                        END $$").await;
                cx.sql(
                    "CREATE TRIGGER protect BEFORE DELETE ON skill_runs FOR EACH ROW EXECUTE \
                    FUNCTION protect()",
                )
                .await;
            }
        }
        assert_skipped(cx, 2, &["b"], "protected").await;
        assert_whole(cx, "b").await;
    }

    async fn a_run_that_a_trigger_keeps_silently_is_reported(cx) {
        record(cx.store, ["a", "b", "c"]).await;
        match cx.backend() {
            Backend::Sqlite => {
                cx.sql(
                    "CREATE TRIGGER keep BEFORE DELETE ON skill_runs WHEN old.id = 'b' \
                                       BEGIN SELECT RAISE(IGNORE); END",
                )
                .await
            }
            Backend::Postgres => {
                cx.sql(
                    "CREATE FUNCTION keep() RETURNS trigger LANGUAGE plpgsql AS \
                        $$ BEGIN IF old.id = 'b' THEN RETURN NULL; END IF; RETURN old; END $$",
                )
                .await;
                cx.sql(
                    "CREATE TRIGGER keep BEFORE DELETE ON skill_runs FOR EACH ROW EXECUTE \
                    FUNCTION keep()",
                )
                .await;
            }
        }
        assert_skipped(cx, 2, &["b"], "trigger").await;
        assert_whole(cx, "b").await;
    }

    async fn damaged_runs_are_purged_like_others(cx) {
        record(cx.store, ["a", "b", "c"]).await;
        cx.sql("UPDATE skill_runs SET inputs = '{', tool_calls = -1 WHERE id = 'a'")
            .await;
        cx.sql("UPDATE skill_run_logs SET payload = '{' WHERE run_id = 'b'")
            .await;
        assert_skipped(cx, 3, &[], "").await;
        assert_eq!(count(cx.db, "skill_run_logs").await, 0);
    }

    async fn a_run_with_very_many_events_is_deleted_with_all_of_them(cx) {
        record(cx.store, ["a", "large", "z"]).await;
        let series = match cx.backend() {
            Backend::Sqlite => {
                "WITH RECURSIVE n(value) AS (SELECT 100 UNION ALL SELECT value + 1 FROM n WHERE \
                value < 12000)"
            }
            Backend::Postgres => "WITH n(value) AS (SELECT generate_series(100, 12000))",
        };
        cx.sql(&format!(
            "{series} INSERT INTO skill_run_logs (run_id, sequence, created_at, event_type, payload) \
            SELECT 'large', value, 0, 'x', '1' FROM n"
        ))
        .await;
        cx.sql("CREATE TABLE tickets (run_id TEXT REFERENCES skill_runs (id))")
            .await;
        cx.sql("INSERT INTO tickets VALUES ('large')").await;
        assert_skipped(cx, 2, &["large"], "foreign key").await;
        assert_eq!(count(cx.db, "skill_run_logs").await, 11_901 + EVENTS as i64);
        cx.sql("DELETE FROM tickets").await;
        assert_skipped(cx, 1, &[], "").await;
        assert_eq!(count(cx.db, "skill_run_logs").await, 0);
    }
}

/// More than a batch of runs with unreadable ids is due first, and one more such run is due last.
#[test]
fn unreadable_runs_do_not_prevent_the_purge_of_others() {
    run_on_own_store(Backend::Sqlite, async |cx| {
        record(cx.store, (0..3).map(|number| format!("r-{number}"))).await;
        let columns = "skill_id, caller_id, channel_id, inputs, started_at, finished_at, status, \
                       output, error, tool_calls, runtime_seconds, total_input_tokens, \
                       total_output_tokens, total_thinking_tokens";
        let micros = at(0).timestamp_micros();
        for (number, finished) in [(150, micros), (1, at(1).timestamp_micros())] {
            cx.sql(&format!(
                "WITH RECURSIVE n(value) AS (SELECT 1 UNION ALL SELECT value + 1 FROM n \
                 WHERE value < {number}) \
                 INSERT INTO skill_runs (id, {columns}) \
                 SELECT CAST(X'FFFE' AS TEXT) || (value + {number}), \
                 's', '', '', '{{}}', 0, {finished}, 'ok', '', '', 0, 0, 0, 0, 0 FROM n"
            ))
            .await;
        }
        let skipped = ["?"; 151];
        assert_skipped(cx, 3, &skipped, "id can't be read").await;
        assert_eq!(count(cx.db, "skill_runs").await, 151);
        // A purge that skips every run is no error.
        assert_eq!(cx.store.purge_older_than(at(2)).await.unwrap(), 0);
    });
}

/// A partial restore of a dump leaves such tables.
#[test]
fn a_history_without_its_foreign_key_is_not_purged() {
    run_on_own_store(Backend::Postgres, async |cx| {
        record(cx.store, ["r"]).await;
        cx.sql("ALTER TABLE skill_run_logs DROP CONSTRAINT runtrail_skill_run_logs_run")
            .await;
        let err = assert_kind(
            cx.store.purge_older_than(at(2)).await,
            ErrorKind::SchemaIncomplete,
        );
        assert!(err.to_string().contains("foreign key"), "{err}");
        assert_whole(cx, "r").await;
        Migrator::new().up(cx.db, None).await.unwrap();
        assert_eq!(cx.store.purge_older_than(at(2)).await.unwrap(), 1);
        assert_eq!(count(cx.db, "skill_run_logs").await, 0);
    });
}

/// A host may have switched foreign keys off on its own connection. Then no foreign key protects a
/// run.
#[test]
fn a_purge_with_foreign_keys_off_leaves_no_event_behind() {
    on_database(Backend::Sqlite, async |database| {
        let own = database.store().await;
        let mut options = ConnectOptions::new(database.url());
        options.map_sqlx_sqlite_opts(|sqlite| sqlite.foreign_keys(false));
        let host = AuditStore::new(Database::connect(options).await.unwrap());
        record(&own, (0..120).map(|number| number.to_string())).await;
        own.start_run(&running("running")).await.unwrap();
        own.append_log(&event("running", 0)).await.unwrap();

        assert_eq!(host.purge_older_than(at(2)).await.unwrap(), 120);
        let db = database.connection().await;
        assert_eq!(count(&db, "skill_runs").await, 1);
        assert_eq!(count(&db, "skill_run_logs").await, 1);
    });
}

/// In a host's transaction the refusal is an error, since PostgreSQL has aborted the transaction.
#[test]
fn a_run_that_cannot_be_purged_in_a_hosts_transaction_is_an_error() {
    use sea_orm::TransactionTrait;

    run_on_own_store(Backend::Postgres, async |cx| {
        record(cx.store, ["r"]).await;
        cx.sql("CREATE TABLE tickets (run_id TEXT REFERENCES skill_runs (id))")
            .await;
        cx.sql("INSERT INTO tickets VALUES ('r')").await;
        let txn = cx.db.begin().await.unwrap();
        let refused = cx.store.on(&txn).purge_older_than(at(2)).await;
        assert_kind(refused, ErrorKind::Backend);
        txn.rollback().await.unwrap();
        assert_whole(cx, "r").await;
    });
}

use std::collections::BTreeSet;

use runtrail_audit::{Error, Page, RunFilter, Storage};

use super::sql_client::run_sql;
use crate::fixture::*;

/// Returns an SQL value that makes a column unreadable, if the database accepts one: SQLite accepts
/// any type anywhere.
fn damaging_value(backend: Backend, column: &str) -> Option<&'static str> {
    let is_time = ["started_at", "finished_at", "created_at"].contains(&column);
    let is_number = column.ends_with("_tokens")
        || column.ends_with("_micros")
        || ["sequence", "tool_calls", "runtime_seconds"].contains(&column);
    match backend {
        Backend::Sqlite => Some("X'FF00FF'"),
        Backend::Postgres if is_time => Some("9223372036854775807"),
        Backend::Postgres if is_number => Some("-1"),
        Backend::Postgres if ["inputs", "payload"].contains(&column) => Some("'{\"cut off'"),
        Backend::Postgres if column == "labels" => Some("'{\"key\": 1}'"),
        // Every text that PostgreSQL can store is valid.
        Backend::Postgres => None,
    }
}

fn columns(database: &TestDatabase, table: &str) -> Vec<String> {
    let query = match database.backend() {
        Backend::Sqlite => format!("SELECT name FROM pragma_table_info('{table}')"),
        Backend::Postgres => format!(
            "SELECT column_name FROM information_schema.columns WHERE table_name = '{table}'"
        ),
    };
    run_sql(&database.url(), &query)
}

#[track_caller]
fn assert_reported(reports: &Reports, column: &str) {
    let text = reports.text();
    let report = format!("column=\"{column}\"");
    assert!(
        text.contains("WARN") && text.contains(&report),
        "{column}: {text}"
    );
}

on_each_backend! {
    async fn a_run_that_is_damaged_in_any_column_hides_no_other_and_is_reported(database) {
        let url = database.url();
        let store = database.store().await;
        let mut damaged = BTreeSet::new();
        for column in columns(database, "skill_runs") {
            let Some(value) = damaging_value(database.backend(), &column) else {
                continue;
            };
            for (number, id) in ["first", "damaged", "last"].into_iter().enumerate() {
                store
                    .start_run(&finished_at(id, number as i64))
                    .await
                    .unwrap();
            }
            run_sql(
                &url,
                &format!("UPDATE skill_runs SET {column} = {value} WHERE id = 'damaged'"),
            );

            let (reports, guard) = Reports::capture();
            let listed = store
                .list_runs_filtered(&RunFilter::new(), Page::ALL)
                .await
                .unwrap();
            drop(guard);
            assert_eq!(ids(&listed), ["last", "first"], "{column}");
            assert_reported(&reports, &column);
            if column != "id" {
                let err = store.get_run("damaged").await.unwrap_err();
                assert!(
                    matches!(err, Error::Corrupt { column: named, .. } if named == column),
                    "{err:?}"
                );
            }
            run_sql(&url, "DELETE FROM skill_runs");
            damaged.insert(column);
        }
        let expected = match database.backend() {
            Backend::Sqlite => 18,
            // Numbers, times and JSON.
            Backend::Postgres => 9,
        };
        assert_eq!(damaged.len(), expected, "{damaged:?}");
    }

    async fn an_event_that_is_damaged_in_any_column_hides_no_other_and_is_reported(database) {
        let url = database.url();
        let store = database.store().await;
        store.start_run(&running("r")).await.unwrap();
        let mut damaged = BTreeSet::new();
        for column in columns(database, "skill_run_logs") {
            let value = damaging_value(database.backend(), &column);
            // A damaged `run_id` makes it an event of another run.
            let Some(value) = value.filter(|_| column != "run_id") else {
                continue;
            };
            for sequence in 0..3 {
                store.append_log(&event("r", sequence)).await.unwrap();
            }
            run_sql(
                &url,
                &format!("UPDATE skill_run_logs SET {column} = {value} WHERE sequence = 1"),
            );

            let (reports, guard) = Reports::capture();
            let listed = store.list_logs_by_run("r").await.unwrap();
            drop(guard);
            let sequences: Vec<_> = listed.iter().map(|event| event.sequence).collect();
            assert_eq!(sequences, [0, 2], "{column}");
            assert_reported(&reports, &column);
            run_sql(&url, "DELETE FROM skill_run_logs");
            damaged.insert(column);
        }
        let expected = match database.backend() {
            Backend::Sqlite => 13,
            // Numbers, times and JSON.
            Backend::Postgres => 10,
        };
        assert_eq!(damaged.len(), expected, "{damaged:?}");
    }
}

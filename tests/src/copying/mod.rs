//! Copying a history, from each kind of database to each.

use std::sync::Mutex;

use runtrail_audit::{BulkStorage, SkillRunLog, Storage};
use runtrail_copy::{CopySummary, Difference, DifferenceKind, HistoryCopy, Notice, RowKey};
use runtrail_store::AuditStore;
use serde_json::json;

use crate::fixture::*;

/// Runs a case from each kind of database to each.
macro_rules! from_each_to_each {
    ($($(#[$meta:meta])* async fn $name:ident($from:ident, $to:ident) $body:block)*) => {
        $(
            $(#[$meta])*
            async fn $name($from: &TestDatabase, $to: &TestDatabase) $body
        )*

        from_each_to_each! { @ sqlite_to_postgres Sqlite Postgres $($name)* }
        from_each_to_each! { @ postgres_to_sqlite Postgres Sqlite $($name)* }
        from_each_to_each! { @ sqlite_to_sqlite Sqlite Sqlite $($name)* }
        from_each_to_each! { @ postgres_to_postgres Postgres Postgres $($name)* }
    };
    (@ $module:ident $from:ident $to:ident $($name:ident)*) => {
        mod $module {
            use crate::fixture::*;

            $(
                #[test]
                fn $name() {
                    on_databases([Backend::$from, Backend::$to], async |[from, to]| {
                        super::$name(from, to).await;
                    });
                }
            )*
        }
    };
}

/// By the library.
mod histories;

/// By the command.
mod command;

/// The host under `examples/`, which moves.
mod example;

/// From a database of the legacy store.
mod legacy;

/// A copy, with what it tells.
async fn copied(copy: HistoryCopy) -> (CopySummary, Vec<Difference>) {
    copied_while(copy, |_| {}).await
}

/// The same while something is done about what else it tells.
async fn copied_while(
    copy: HistoryCopy,
    then: impl Fn(&Notice) + Sync,
) -> (CopySummary, Vec<Difference>) {
    let told = Mutex::new(Vec::new());
    let observer = |notice| {
        then(&notice);
        if let Notice::Difference(difference) = notice {
            told.lock().unwrap().push(difference);
        }
    };
    let summary = copy.run(&observer).await.unwrap();
    (summary, told.into_inner().unwrap())
}

/// Writes to a history as another program does, and waits for it.
fn meanwhile(database: &TestDatabase, write: impl AsyncFnOnce(AuditStore) + Send) {
    let url = database.url();
    let write = || {
        runtime().block_on(async {
            let store = AuditStore::connect(url).await.unwrap();
            write(store.clone()).await;
            store.close().await.unwrap();
        });
    };
    std::thread::scope(|scope| scope.spawn(write).join().unwrap());
}

fn run(id: &str) -> RowKey {
    RowKey::Run { id: id.into() }
}

fn event_of(run_id: &str, sequence: i64) -> RowKey {
    RowKey::Event {
        run_id: run_id.into(),
        sequence,
    }
}

fn difference(row: RowKey, kind: DifferenceKind) -> Difference {
    Difference { row, kind }
}

/// More than a page of each.
async fn fill(store: &AuditStore) {
    for number in 0..1_100 {
        let id = format!("r-{number}");
        let run = match number % 3 {
            0 => running(&id),
            1 => child(&id, "r-1"),
            _ => with(finished_at(&id, number as i64), |run| {
                run.runtime_seconds = [0.1, 1e300, 5e-324, 123_456_789.123_456_79][number % 4];
                run.output = "\u{10FFFF} \u{7f} \\u0000 '".into();
            }),
        };
        store.start_run(&run).await.unwrap();
    }
    let payloads = [
        json!("\0 \\u0000 🙂"),
        json!({"z": 1, "a": [1.0, null, u64::MAX]}),
        json!("x".repeat((1 << 20) - 2)),
    ];
    let events: Vec<SkillRunLog> = (0..3_000)
        .map(|number| {
            with(
                event(
                    &format!("r-{}", if number < 1_500 { 7 } else { number % 11 }),
                    number as u64,
                ),
                |event| {
                    event.payload = payloads[if number % 500 == 0 { 2 } else { number % 2 }].clone()
                },
            )
        })
        .collect();
    store.append_logs(&events).await.unwrap();
}

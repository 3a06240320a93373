//! Copies of a history between all pairs of backends.

use std::sync::Mutex;
use std::time::Duration;

use runtrail_audit::{BulkStorage, SkillRunLog, Storage, Usage};
use runtrail_copy::{CopySummary, Difference, DifferenceKind, HistoryCopy, Notice, RowKey};
use runtrail_store::AuditStore;
use serde_json::json;

use crate::fixture::*;

/// Runs a case for each pair of backends.
macro_rules! on_each_pair {
    ($($(#[$meta:meta])* async fn $name:ident($from:ident, $to:ident) $body:block)*) => {
        $(
            $(#[$meta])*
            async fn $name($from: &TestDatabase, $to: &TestDatabase) $body
        )*

        on_each_pair! { @ sqlite_to_postgres Sqlite Postgres $($name)* }
        on_each_pair! { @ postgres_to_sqlite Postgres Sqlite $($name)* }
        on_each_pair! { @ sqlite_to_sqlite Sqlite Sqlite $($name)* }
        on_each_pair! { @ postgres_to_postgres Postgres Postgres $($name)* }
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

/// Copies with the library.
mod histories;

/// Copies with the command.
mod command;

/// The host under `examples/` moves to another database.
mod example;

/// Copies from a database of the legacy store.
mod legacy;

/// Runs a copy, and returns its differences.
async fn run_copy(copy: HistoryCopy) -> (CopySummary, Vec<Difference>) {
    run_copy_with(copy, |_| {}).await
}

/// Runs a copy, and calls `then` for each notice.
async fn run_copy_with(
    copy: HistoryCopy,
    then: impl Fn(&Notice) + Sync,
) -> (CopySummary, Vec<Difference>) {
    let differences = Mutex::new(Vec::new());
    let observer = |notice| {
        then(&notice);
        if let Notice::Difference(difference) = notice {
            differences.lock().unwrap().push(difference);
        }
    };
    let summary = copy.run(&observer).await.unwrap();
    (summary, differences.into_inner().unwrap())
}

/// Writes to a history from another thread and runtime, as another program would, and waits for it.
fn write_from_another_program(database: &TestDatabase, write: impl AsyncFnOnce(AuditStore) + Send) {
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

fn run_key(id: &str) -> RowKey {
    RowKey::Run { id: id.into() }
}

fn event_key(run_id: &str, sequence: i64) -> RowKey {
    RowKey::Event {
        run_id: run_id.into(),
        sequence,
    }
}

fn difference(row: RowKey, kind: DifferenceKind) -> Difference {
    Difference { row, kind }
}

/// Writes more than a page of runs and of events.
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
                    event.payload =
                        payloads[if number % 500 == 0 { 2 } else { number % 2 }].clone();
                    event.usage = (number.is_multiple_of(3)).then(|| {
                        Usage::new()
                            .model(format!("model-{}", number % 5))
                            .input_tokens(number as u64)
                    });
                    event.duration = (number.is_multiple_of(4)).then_some(Duration::from_millis(3));
                },
            )
        })
        .collect();
    store.append_logs(&events).await.unwrap();
}

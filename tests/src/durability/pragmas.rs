use std::time::Duration;

use futures_util::future::join_all;
use runtrail_db::{Cost, DatabaseOptions, Durability, Executor, Plan, Pool, closing_deadline};
use runtrail_store::AuditStore;
use sea_orm::sqlx::{self, Row};
use sea_orm::{DatabaseConnection, DbBackend, Statement};

use crate::fixture::*;

/// Reads a pragma on this many pooled connections, all checked out at once.
async fn pragma(db: &DatabaseConnection, connections: usize, name: &'static str) -> Vec<String> {
    let pool = db.get_sqlite_connection_pool();
    let mut acquired = Vec::new();
    for _ in 0..connections {
        acquired.push(pool.acquire().await.unwrap());
    }
    let mut values = Vec::new();
    for connection in &mut acquired {
        let query = sqlx::AssertSqlSafe(format!("PRAGMA {name}"));
        let row = sqlx::query(query)
            .fetch_one(&mut **connection)
            .await
            .unwrap();
        values.push(
            row.try_get::<i64, _>(0)
                .map_or_else(|_| row.get(0), |value| value.to_string()),
        );
    }
    values
}

/// Reads a pragma on the connections that only read, by several queries at once.
async fn pragma_of_readers(readers: &Pool, name: &str) -> Vec<String> {
    let query = format!("SELECT * FROM pragma_{name}");
    let read = async |_| {
        let statement = Statement::from_string(DbBackend::Sqlite, &query);
        let rows = readers
            .rows(statement, Cost::Long, Plan::ByValues)
            .await
            .unwrap();
        let number = rows[0].get::<i64>(0).map(|value| value.to_string());
        number.or_else(|_| rows[0].get(0)).unwrap()
    };
    join_all((0..3).map(read)).await
}

/// Checks `of_all` on every connection, and `of_writer` only on the connection that writes.
async fn assert_settings(
    options: &DatabaseOptions,
    of_all: &[(&'static str, &str)],
    of_writer: &[(&'static str, &str)],
) {
    let writer = options.open().await.unwrap();
    let readers = options.open_readers().await.unwrap().unwrap();
    for (name, value) in of_all {
        assert_eq!(
            pragma_of_readers(&readers, name).await,
            [*value; 3],
            "{name}"
        );
    }
    for (name, value) in of_all.iter().chain(of_writer) {
        assert_eq!(pragma(&writer, 1, name).await, [*value], "{name}");
    }
    readers.close(closing_deadline(None)).await.unwrap();
    writer.close().await.unwrap();
}

#[test]
fn every_connection_has_the_settings() {
    on_database(Backend::Sqlite, async |database| {
        let of_all = [
            ("journal_mode", "wal"),
            ("synchronous", "2"),
            ("auto_vacuum", "2"),
        ];
        let of_writer = [("busy_timeout", "10000"), ("foreign_keys", "1")];
        assert_settings(&DatabaseOptions::new(database.url()), &of_all, &of_writer).await;
    });
}

#[test]
fn the_settings_can_be_chosen() {
    on_database(Backend::Sqlite, async |database| {
        let options = DatabaseOptions::new(database.url())
            .durability(Durability::Normal)
            .busy_timeout(Duration::from_secs(3));
        let of_all = [("synchronous", "1"), ("journal_mode", "wal")];
        assert_settings(&options, &of_all, &[("busy_timeout", "3000")]).await;
    });
}

#[test]
fn reading_connections_cannot_write() {
    on_database(Backend::Sqlite, async |database| {
        let options = DatabaseOptions::new(database.url());
        let writer = options.open().await.unwrap();
        let readers = options.open_readers().await.unwrap().unwrap();
        assert_eq!(pragma(&writer, 1, "query_only").await, ["0"]);
        assert_eq!(pragma_of_readers(&readers, "query_only").await, ["1"; 3]);
    });
}

#[test]
fn a_file_created_by_the_command_can_shrink() {
    on_database(Backend::Sqlite, async |database| {
        assert!(
            migration_command(&database.url())
                .status()
                .unwrap()
                .success()
        );
        let db = database.connection().await;
        assert_eq!(pragma(&db, 1, "auto_vacuum").await, ["2"]);
        assert_eq!(pragma(&db, 1, "journal_mode").await, ["wal"]);
    });
}

#[test]
fn all_connections_of_a_store_share_its_in_memory_database() {
    use runtrail_audit::Storage;

    on_database(Backend::Sqlite, async |_| {
        let one = AuditStore::connect("sqlite::memory:").await.unwrap();
        let other = AuditStore::connect("sqlite::memory:").await.unwrap();
        for store in [&one, &other] {
            store.initialize().await.unwrap();
            let start = async |number: i32| {
                store
                    .start_run(&running(&number.to_string()))
                    .await
                    .unwrap();
                store.get_run(&number.to_string()).await.unwrap();
            };
            futures_util::future::join_all((0..20).map(start)).await;
            assert_eq!(
                store.list_runs_by_skill("skill", None).await.unwrap().len(),
                20
            );
        }
    });
}

#[test]
fn the_bundled_sqlite_has_the_wal_reset_fix() {
    on_database(Backend::Sqlite, async |database| {
        let db = database.connection().await;
        let version = fetch::<String>(&db, "SELECT sqlite_version()")
            .await
            .remove(0);
        let parts: Vec<u32> = version
            .split('.')
            .map(|part| part.parse().unwrap())
            .collect();
        assert!(parts >= vec![3, 51, 3], "{version}");
    });
}

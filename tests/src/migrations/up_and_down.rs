use runtrail_audit::Storage;
use runtrail_migration::{MIGRATION_TABLE, Migrator, NAME_PREFIX, SchemaState};
use runtrail_store::AuditStore;

use crate::fixture::*;

fn names() -> Vec<String> {
    let migrations = runtrail_migration::migrations();
    migrations
        .iter()
        .map(|migration| migration.name().to_owned())
        .collect()
}

#[test]
fn every_migration_has_our_prefix() {
    assert!(names().iter().all(|name| name.starts_with(NAME_PREFIX)));
}

#[test]
fn migrations_are_sorted_by_name() {
    assert!(names().is_sorted());
}

on_each_backend! {
    async fn migrations_can_be_applied_rolled_back_and_applied_again(database) {
        let db = database.connection().await;
        let migrator = Migrator::new();
        for _ in 0..2 {
            assert_eq!(migrator.state(&db).await.unwrap(), SchemaState::Missing);
            assert_eq!(migrator.up(&db, None).await.unwrap(), names());
            assert_eq!(migrator.state(&db).await.unwrap(), SchemaState::Current);
            assert!(migrator.up(&db, None).await.unwrap().is_empty());

            let store = AuditStore::new(db.clone());
            store.start_run(&running("r")).await.unwrap();
            store.append_log(&event("r", 0)).await.unwrap();

            let down: Vec<String> = names().into_iter().rev().collect();
            let migrator = migrator.clone().deleting_rows();
            assert_eq!(migrator.down(&db, 99).await.unwrap(), down);
            assert!(migrator.down(&db, 99).await.unwrap().is_empty());
        }
    }

    async fn migrations_can_be_applied_and_rolled_back_one_by_one(database) {
        let db = database.connection().await;
        let migrator = Migrator::new();
        for (number, name) in names().into_iter().enumerate() {
            assert_eq!(migrator.up(&db, Some(1)).await.unwrap(), [name]);
            let applied = migrator.status(&db).await.unwrap();
            assert_eq!(
                applied.iter().filter(|status| status.is_applied).count(),
                number + 1
            );
        }
        for name in names().into_iter().rev() {
            assert_eq!(migrator.down(&db, 1).await.unwrap(), [name]);
        }
        assert_eq!(migrator.state(&db).await.unwrap(), SchemaState::Missing);
        assert_eq!(count(&db, MIGRATION_TABLE).await, 0);
    }

    async fn a_history_is_not_deleted_by_rolling_back(database) {
        let db = database.connection().await;
        let migrator = Migrator::new();
        migrator.up(&db, None).await.unwrap();
        let store = AuditStore::new(db.clone());
        store.start_run(&running("r")).await.unwrap();
        let err = migrator.down(&db, 99).await.unwrap_err().to_string();
        assert!(err.contains("skill_runs has rows"), "{err}");
        // Nothing has changed: even the empty table of events still exists.
        assert_eq!(migrator.state(&db).await.unwrap(), SchemaState::Current);
        store.append_log(&event("r", 0)).await.unwrap();
        let all_but_the_first = names().len() as u32 - 1;
        let err = migrator.down(&db, all_but_the_first).await;
        let err = err.unwrap_err().to_string();
        assert!(err.contains("skill_run_logs has rows"), "{err}");
        assert_eq!(store.list_logs_by_run("r").await.unwrap().len(), 1);
    }

    async fn zero_steps_change_nothing(database) {
        let db = database.connection().await;
        assert!(Migrator::new().up(&db, Some(0)).await.unwrap().is_empty());
        assert_eq!(
            Migrator::new().state(&db).await.unwrap(),
            SchemaState::Missing
        );
    }

    async fn a_migration_that_fails_leaves_nothing_behind(database) {
        let db = database.connection().await;
        // Something else has a name that a migration needs. It is none of our tables, so the schema
        // isn't foreign, but a statement fails: on SQLite in the middle of the first migration, on
        // PostgreSQL in the second.
        let obstacle = match database.backend() {
            Backend::Sqlite => "CREATE TABLE runtrail_skill_runs_by_finish (x integer)",
            Backend::Postgres => "CREATE TYPE skill_run_logs AS ENUM ('x')",
        };
        execute(&db, obstacle).await;
        let migrator = Migrator::new();
        assert!(migrator.up(&db, None).await.is_err());
        assert_eq!(migrator.state(&db).await.unwrap(), SchemaState::Missing);

        let removal = match database.backend() {
            Backend::Sqlite => "DROP TABLE runtrail_skill_runs_by_finish",
            Backend::Postgres => "DROP TYPE skill_run_logs",
        };
        execute(&db, removal).await;
        assert_eq!(migrator.up(&db, None).await.unwrap(), names());
    }

    async fn a_migration_continues_when_its_future_is_dropped(database) {
        let db = database.connection().await;
        let migrator = Migrator::new();
        let started = std::time::Instant::now();
        while migrator.state(&db).await.unwrap() != SchemaState::Current {
            assert!(
                started.elapsed().as_secs() < 30,
                "the migration never completed"
            );
            let up = migrator.up(&db, None);
            let _ = tokio::time::timeout(std::time::Duration::from_micros(300), up).await;
        }
        AuditStore::new(db).start_run(&running("r")).await.unwrap();
    }

    async fn tables_and_indexes_have_the_documented_names(database) {
        let db = database.connection().await;
        Migrator::new().up(&db, None).await.unwrap();
        let query = match database.backend() {
            Backend::Sqlite => {
                "SELECT name FROM sqlite_master WHERE name NOT LIKE 'sqlite_autoindex_%'"
            }
            Backend::Postgres => {
                "SELECT relname::text FROM pg_class JOIN pg_namespace n ON n.oid = relnamespace \
                WHERE nspname = 'public' AND relname NOT LIKE '%_pkey'"
            }
        };
        let found: Vec<String> = fetch(&db, query).await;
        assert!(found.len() > 5);
        for name in found {
            assert!(
                name == "skill_runs" || name == "skill_run_logs" || name.starts_with("runtrail_"),
                "{name}"
            );
        }
        assert_eq!(
            count(&db, "runtrail_migrations").await,
            names().len() as i64
        );
    }
}

use runtrail_audit::Storage;
use runtrail_entity::{skill_run, skill_run_log};
use runtrail_migration::Migrator;
use runtrail_store::AuditStore;
use sea_orm::{ConnectionTrait, DatabaseConnection, Schema};
use sea_orm_migration::MigratorTrait;

use super::golden::dump;
use crate::fixture::*;

struct Composed;

impl MigratorTrait for Composed {
    fn migrations() -> Vec<Box<dyn sea_orm_migration::MigrationTrait>> {
        runtrail_migration::migrations()
    }
}

/// Creates the tables from the entities, as a host without migrations does.
async fn create_from_entities(db: &DatabaseConnection) {
    let schema = Schema::new(db.get_database_backend());
    let mut runs = schema.create_table_from_entity(skill_run::Entity);
    db.execute(runs.table(skill_run::Entity)).await.unwrap();
    let mut events = schema.create_table_from_entity(skill_run_log::Entity);
    db.execute(events.table(skill_run_log::Entity))
        .await
        .unwrap();
}

/// Runs SeaORM's schema sync, as a host does at each start.
async fn sync(db: &DatabaseConnection) {
    let builder = db
        .get_schema_builder()
        .register(skill_run::Entity)
        .register(skill_run_log::Entity);
    builder.sync(db).await.unwrap();
}

/// Checks a run and its event, that ids sort by bytes, and that a deleted run's event is deleted
/// too.
async fn assert_behaves(database: &TestDatabase, db: &DatabaseConnection) {
    let store = AuditStore::new(db.clone());
    for id in ["a", "B", "c"] {
        store.start_run(&finished_at(id, 1)).await.unwrap();
        store.append_log(&event(id, 0)).await.unwrap();
    }
    let listed = store.list_runs_by_skill("skill", None).await.unwrap();
    assert_eq!(ids(&listed), ["c", "a", "B"]);
    execute(db, "DELETE FROM skill_runs WHERE id = 'a'").await;
    assert_eq!(count(db, "skill_run_logs").await, 2);

    let indexes = match database.backend() {
        Backend::Sqlite => {
            "SELECT COUNT(*) FROM pragma_index_list('skill_runs') WHERE name LIKE 'runtrail%'"
        }
        Backend::Postgres => {
            "SELECT COUNT(*) FROM pg_indexes WHERE indexname LIKE 'runtrail%' AND tablename = \
            'skill_runs'"
        }
    };
    assert_eq!(fetch::<i64>(db, indexes).await, [9]);
}

/// Creates both tables, with this foreign key from an event to its run.
async fn create_events(database: &TestDatabase, key: &str) {
    let db = database.connection().await;
    create_from_entities(&db).await;
    execute(&db, "DROP TABLE skill_run_logs").await;
    let columns = format!(
        "run_id text NOT NULL {key}, sequence bigint NOT NULL, created_at bigint NOT NULL, \
         event_type text NOT NULL, payload text NOT NULL, PRIMARY KEY (run_id, sequence)"
    );
    execute(&db, &format!("CREATE TABLE skill_run_logs ({columns})")).await;
    db.close().await.unwrap();
}

async fn assert_cascade_is_added_or_refused(database: &TestDatabase) {
    let db = database.connection().await;
    let store = AuditStore::connect(database.url()).await.unwrap();
    match database.backend() {
        Backend::Sqlite => {
            let names_it = |message: String| {
                assert!(
                    message.contains("skill_run_logs") && message.contains("ON DELETE CASCADE"),
                    "{message}"
                );
            };
            names_it(store.initialize().await.unwrap_err().to_string());
            names_it(Composed::up(&db, None).await.unwrap_err().to_string());
        }
        // Only PostgreSQL can add a foreign key to a table.
        Backend::Postgres => {
            store.initialize().await.unwrap();
            assert_behaves(database, &db).await;
        }
    }
}

on_each_backend! {
    async fn tables_created_from_the_entities_are_completed_by_initialize(database) {
        let db = database.connection().await;
        create_from_entities(&db).await;
        let store = AuditStore::connect(database.url()).await.unwrap();
        // A store refuses the incomplete tables.
        assert_kind(
            store.start_run(&running("r")).await,
            runtrail_audit::ErrorKind::SchemaOutdated,
        );
        store.initialize().await.unwrap();
        assert_behaves(database, &db).await;
    }

    async fn tables_created_by_schema_sync_are_completed_by_a_composed_host(database) {
        let db = database.connection().await;
        sync(&db).await;
        Composed::up(&db, None).await.unwrap();
        assert_behaves(database, &db).await;
        // A later start of that host changes nothing.
        let completed = dump(database.backend(), &db).await;
        sync(&db).await;
        assert_eq!(dump(database.backend(), &db).await, completed);
    }

    async fn schema_sync_does_not_change_our_tables(database) {
        let db = database.connection().await;
        Migrator::new().up(&db, None).await.unwrap();
        let ours = dump(database.backend(), &db).await;
        sync(&db).await;
        assert_eq!(dump(database.backend(), &db).await, ours);
    }

    async fn a_missing_foreign_key_of_events_is_added_or_refused(database) {
        create_events(database, "").await;
        assert_cascade_is_added_or_refused(database).await;
    }

    async fn a_foreign_key_without_cascade_is_corrected_or_refused(database) {
        create_events(database, "REFERENCES skill_runs (id)").await;
        assert_cascade_is_added_or_refused(database).await;
    }

    async fn a_table_without_our_primary_key_is_refused_naming_the_table(database) {
        let db = database.connection().await;
        let columns = "id text, skill_id text, caller_id text, channel_id text, \
            parent_run_id text, started_at bigint, finished_at bigint, status text, \
            tool_calls bigint, runtime_seconds double precision, total_input_tokens bigint, \
            total_output_tokens bigint, total_thinking_tokens bigint, inputs text, output text, \
            error text";
        execute(&db, &format!("CREATE TABLE skill_runs ({columns})")).await;
        let store = AuditStore::connect(database.url()).await.unwrap();
        let err = store.initialize().await.unwrap_err().to_string();
        assert!(
            err.contains("skill_runs") && err.contains("primary key"),
            "{err}"
        );
        let err = Composed::up(&db, None).await.unwrap_err().to_string();
        assert!(
            err.contains("skill_runs") && err.contains("primary key"),
            "{err}"
        );
    }
}

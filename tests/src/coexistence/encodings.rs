use runtrail_audit::Storage;
use runtrail_migration::Migrator;
use runtrail_store::AuditStore;
use sea_orm_migration::MigratorTrait;

use crate::fixture::*;

struct Composed;

impl MigratorTrait for Composed {
    fn migrations() -> Vec<Box<dyn sea_orm_migration::MigrationTrait>> {
        runtrail_migration::migrations()
    }
}

#[test]
fn a_database_that_cannot_store_every_character_is_refused_naming_its_encoding() {
    for encoding in ["LATIN1", "EUC_JP"] {
        on_database(Backend::Postgres, async |database| {
            database.recreate_with_encoding(encoding).await;
            let db = database.connection().await;
            let names_it = |message: &str| assert!(message.contains(encoding), "{message}");

            names_it(&Migrator::new().up(&db, None).await.unwrap_err().to_string());
            names_it(&Composed::up(&db, None).await.unwrap_err().to_string());
            let store = AuditStore::connect(database.url()).await.unwrap();
            for refused in [
                store.initialize().await,
                store.verify_schema().await,
                store.start_run(&running("r")).await,
            ] {
                names_it(&refused.unwrap_err().to_string());
            }
            let output = migration_command(&database.url())
                .arg("up")
                .output()
                .unwrap();
            assert!(!output.status.success());
            names_it(&printed(&output));

            let tables = "SELECT tablename::text FROM pg_tables WHERE schemaname = 'public' AND \
                tablename LIKE '%run%'";
            assert!(fetch::<String>(&db, tables).await.is_empty());
            store.close().await.unwrap();
            db.close().await.unwrap();
        });
    }
}

#[test]
fn a_database_without_an_encoding_stores_every_character() {
    on_database(Backend::Postgres, async |database| {
        database.recreate_with_encoding("SQL_ASCII").await;
        let store = database.store().await;
        let run = with(finished_at("é 日本語 😀", 1), |run| {
            run.output = "é 日本語 😀".into()
        });
        store.start_run(&run).await.unwrap();
        assert_eq!(store.get_run(&run.id).await.unwrap(), run);
        store.close().await.unwrap();
    });
}

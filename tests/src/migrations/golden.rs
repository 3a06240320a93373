use runtrail_migration::Migrator;
use sea_orm::DatabaseConnection;

use crate::fixture::*;

/// The schema as SQLite stores it.
const SQLITE: &str =
    "SELECT sql || ';' FROM sqlite_master WHERE sql IS NOT NULL ORDER BY tbl_name, type DESC, name";

/// Columns, indexes, constraints, triggers and functions as PostgreSQL reports them.
const POSTGRES: &str = "
    SELECT line FROM (
        SELECT table_name::text AS at, 1 AS part, ordinal_position::text AS name,
               format('%s.%s %s%s%s', table_name, column_name, data_type,
                      CASE is_nullable WHEN 'NO' THEN ' NOT NULL' ELSE '' END,
                      ' COLLATE ' || collation_name) AS line,
               ordinal_position AS place
          FROM information_schema.columns WHERE table_schema = 'public'
        UNION ALL
        SELECT tablename, 2, indexname, indexdef, 0 FROM pg_indexes WHERE schemaname = 'public'
        UNION ALL
        SELECT conrelid::regclass::text, 3, conname,
               format('%s: %s %s', conrelid::regclass, conname, pg_get_constraintdef(oid)), 0
          FROM pg_constraint WHERE contype IN ('p', 'f', 'u', 'c') \
           AND connamespace = 'public'::regnamespace
        UNION ALL
        SELECT tgrelid::regclass::text, 4, tgname, pg_get_triggerdef(oid), 0
          FROM pg_trigger WHERE NOT tgisinternal
        UNION ALL
        SELECT '', 5, proname, pg_get_functiondef(oid), 0
          FROM pg_proc WHERE pronamespace = 'public'::regnamespace
    ) AS lines ORDER BY at, part, place, name";

pub(super) async fn dump(backend: Backend, db: &DatabaseConnection) -> String {
    let query = match backend {
        Backend::Sqlite => SQLITE,
        Backend::Postgres => POSTGRES,
    };
    fetch::<String>(db, query).await.join("\n") + "\n"
}

on_each_backend! {
    /// After an intended change: `RUNTRAIL_UPDATE_GOLDEN=1 cargo xtask test golden`.
    async fn the_schema_matches_the_golden_file(database) {
        let db = database.connection().await;
        Migrator::new().up(&db, None).await.unwrap();
        let schema = dump(database.backend(), &db).await;
        assert_golden("schema", database.backend(), &schema);
    }

    async fn rolling_back_and_migrating_again_gives_the_same_schema(database) {
        let db = database.connection().await;
        Migrator::new().up(&db, None).await.unwrap();
        let first = dump(database.backend(), &db).await;
        Migrator::new().down(&db, 99).await.unwrap();
        Migrator::new().up(&db, None).await.unwrap();
        assert_eq!(dump(database.backend(), &db).await, first);
    }

    async fn the_script_gives_the_same_schema(database) {
        let db = database.connection().await;
        Migrator::new().up(&db, None).await.unwrap();
        let migrated = dump(database.backend(), &db).await;

        Migrator::new().down(&db, 99).await.unwrap();
        execute(&db, "DROP TABLE runtrail_migrations").await;
        execute(
            &db,
            &runtrail_migration::script(sea_orm::ConnectionTrait::get_database_backend(&db), None),
        )
        .await;
        assert_eq!(dump(database.backend(), &db).await, migrated);
        assert!(Migrator::new().up(&db, None).await.unwrap().is_empty());
    }
}

use runtrail_audit::Storage;
use runtrail_entity::{skill_run, skill_run_log};
use runtrail_migration::SchemaName;
use runtrail_store::AuditStore;
use sea_orm::sea_query::Table;
use sea_orm::{ColumnTrait, ConnectionTrait, EntityTrait, QueryFilter, QueryOrder};

use crate::fixture::*;

/// A host's table that references runs.
mod order {
    use sea_orm::entity::prelude::*;

    #[sea_orm::model]
    #[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
    #[sea_orm(table_name = "orders")]
    pub(super) struct Model {
        #[sea_orm(primary_key, auto_increment = false)]
        pub id: i32,
        #[sea_orm(column_type = "Text")]
        pub run_id: String,
        #[sea_orm(belongs_to, from = "run_id", to = "id")]
        pub run: BelongsTo<runtrail_entity::skill_run::Entity>,
    }

    impl ActiveModelBehavior for ActiveModel {}
}

on_each_backend! {
    async fn a_run_is_read_with_its_events(database) {
        let db = database.connection().await;
        let store = AuditStore::new(db.clone());
        store.initialize().await.unwrap();
        for id in ["a", "b"] {
            store.start_run(&running(id)).await.unwrap();
            store.append_log(&event(id, 0)).await.unwrap();
            store.append_log(&event(id, 1)).await.unwrap();
        }
        let runs = skill_run::Entity::find()
            .order_by_asc(skill_run::COLUMN.id)
            .find_with_related(skill_run_log::Entity)
            .all(&db)
            .await
            .unwrap();
        let shape: Vec<_> = runs
            .iter()
            .map(|(run, events)| (run.id.as_str(), events.len()))
            .collect();
        assert_eq!(shape, [("a", 2), ("b", 2)]);
        assert_eq!(runs[0].0.started_at, at(0).timestamp_micros());
        assert_eq!(runs[0].1[1].payload, r#"{"text":"hello"}"#);
    }

    async fn a_hosts_table_can_be_joined_with_runs(database) {
        let db = database.connection().await;
        let store = AuditStore::new(db.clone());
        store.initialize().await.unwrap();
        store.start_run(&running("r")).await.unwrap();
        let mut orders =
            sea_orm::Schema::new(db.get_database_backend()).create_table_from_entity(order::Entity);
        // The host creates its own table.
        db.execute(orders.table(order::Entity)).await.unwrap();
        execute(&db, "INSERT INTO orders VALUES (7, 'r')").await;

        let found = order::Entity::find()
            .find_also_related(skill_run::Entity)
            .filter(skill_run::Column::SkillId.eq("skill"))
            .all(&db)
            .await
            .unwrap();
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].1.as_ref().unwrap().id, "r");
        db.execute(Table::drop().table(order::Entity))
            .await
            .unwrap();
    }
}

/// The entities name no schema: the connection's search path determines it.
#[test]
fn the_entities_find_the_tables_of_a_schema_on_the_search_path() {
    on_database(Backend::Postgres, async |database| {
        let db = database.connection().await;
        execute(&db, "CREATE SCHEMA audit").await;
        execute(
            &db,
            "CREATE TABLE orders (id integer PRIMARY KEY, run_id text NOT NULL)",
        )
        .await;
        let store = AuditStore::new(db.clone()).in_schema(SchemaName::new("audit").unwrap());
        store.initialize().await.unwrap();
        store.start_run(&running("r")).await.unwrap();
        store.append_log(&event("r", 0)).await.unwrap();
        execute(&db, "INSERT INTO orders VALUES (7, 'r')").await;
        assert!(skill_run::Entity::find().all(&db).await.is_err());

        // As the documentation of the entities says.
        let mut options = sea_orm::ConnectOptions::new(database.url());
        options.set_schema_search_path("public,audit");
        let host = sea_orm::Database::connect(options).await.unwrap();
        let found = order::Entity::find()
            .find_also_related(skill_run::Entity)
            .all(&host)
            .await
            .unwrap();
        assert_eq!(found[0].1.as_ref().unwrap().id, "r");
        let events = skill_run_log::Entity::find().all(&host).await.unwrap();
        assert_eq!(events.len(), 1);
        // A store on that connection finds them too.
        let store = AuditStore::new(host);
        store.initialize().await.unwrap();
        assert_eq!(store.get_run("r").await.unwrap(), running("r"));
    });
}

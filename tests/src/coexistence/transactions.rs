use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;
use runtrail_audit::{ErrorKind, Storage};
use runtrail_store::AuditStore;
use sea_orm::{
    ConnectionTrait, DatabaseConnection, DbBackend, DbErr, ExecResult, QueryResult, Statement,
    TransactionTrait,
};

use crate::fixture::*;

async fn initialized(db: &DatabaseConnection) -> AuditStore {
    let store = AuditStore::new(db.clone());
    store.initialize().await.unwrap();
    execute(db, "CREATE TABLE host_things (id integer)").await;
    store
}

/// A host's own type of connection.
struct Counting<'a> {
    inner: &'a DatabaseConnection,
    statements: AtomicUsize,
}

#[async_trait]
impl ConnectionTrait for Counting<'_> {
    fn get_database_backend(&self) -> DbBackend {
        self.inner.get_database_backend()
    }

    async fn execute_raw(&self, statement: Statement) -> Result<ExecResult, DbErr> {
        self.statements.fetch_add(1, Ordering::Relaxed);
        self.inner.execute_raw(statement).await
    }

    async fn execute_unprepared(&self, sql: &str) -> Result<ExecResult, DbErr> {
        self.statements.fetch_add(1, Ordering::Relaxed);
        self.inner.execute_unprepared(sql).await
    }

    async fn query_one_raw(&self, statement: Statement) -> Result<Option<QueryResult>, DbErr> {
        self.statements.fetch_add(1, Ordering::Relaxed);
        self.inner.query_one_raw(statement).await
    }

    async fn query_all_raw(&self, statement: Statement) -> Result<Vec<QueryResult>, DbErr> {
        self.statements.fetch_add(1, Ordering::Relaxed);
        self.inner.query_all_raw(statement).await
    }
}

/// The foreign key would refuse the event as well, but that would abort the host's transaction.
#[test]
fn an_event_waits_for_the_deletion_of_its_run_and_leaves_the_transaction_usable() {
    on_database(Backend::Postgres, async |database| {
        let db = database.connection().await;
        let store = initialized(&db).await;
        store.start_run(&finished_at("r", 1)).await.unwrap();
        let deleting = db.begin().await.unwrap();
        assert_eq!(
            store.on(&deleting).purge_older_than(at(2)).await.unwrap(),
            1
        );

        let appending = db.begin().await.unwrap();
        let commit = async {
            tokio::time::sleep(std::time::Duration::from_millis(200)).await;
            deleting.commit().await.unwrap();
        };
        let event = event("r", 0);
        let on_txn = store.on(&appending);
        let (appended, ()) = futures_util::future::join(on_txn.append_log(&event), commit).await;
        assert_kind(appended, ErrorKind::NotFound);
        on_txn.start_run(&running("other")).await.unwrap();
        appending.commit().await.unwrap();
        assert_eq!(store.get_run("other").await.unwrap(), running("other"));
    });
}

on_each_backend! {
    async fn writes_in_a_transaction_are_stored_by_its_commit(database) {
        let db = database.connection().await;
        let store = initialized(&db).await;
        let txn = db.begin().await.unwrap();
        execute(&txn, "INSERT INTO host_things VALUES (1)").await;
        store.on(&txn).start_run(&running("r")).await.unwrap();
        store.on(&txn).append_log(&event("r", 0)).await.unwrap();
        store.on(&txn).finish_run("r", &stats()).await.unwrap();
        assert_eq!(store.on(&txn).get_run("r").await.unwrap().stats(), stats());
        txn.commit().await.unwrap();

        assert_eq!(store.get_run("r").await.unwrap().stats(), stats());
        assert_eq!(store.list_logs_by_run("r").await.unwrap().len(), 1);
        assert_eq!(count(&db, "host_things").await, 1);
    }

    async fn writes_in_a_transaction_are_undone_by_its_rollback(database) {
        let db = database.connection().await;
        let store = initialized(&db).await;
        store.start_run(&finished_at("old", 1)).await.unwrap();
        let txn = db.begin().await.unwrap();
        store.on(&txn).start_run(&running("r")).await.unwrap();
        assert_eq!(store.on(&txn).purge_older_than(at(2)).await.unwrap(), 1);
        txn.rollback().await.unwrap();

        assert_kind(store.get_run("r").await, ErrorKind::NotFound);
        assert_eq!(store.get_run("old").await.unwrap(), finished_at("old", 1));
    }

    async fn writes_in_a_transaction_are_invisible_before_its_commit(database) {
        let db = database.connection().await;
        let store = initialized(&db).await;
        let other = AuditStore::connect(database.url()).await.unwrap();
        let txn = db.begin().await.unwrap();
        store.on(&txn).start_run(&running("r")).await.unwrap();
        // Readers don't wait on SQLite either: `connect` has switched the file to the write-ahead
        // log.
        assert_kind(other.get_run("r").await, ErrorKind::NotFound);
        txn.commit().await.unwrap();
        assert_eq!(other.get_run("r").await.unwrap(), running("r"));
    }

    async fn refused_calls_leave_a_transaction_usable(database) {
        let db = database.connection().await;
        let store = initialized(&db).await;
        store.start_run(&finished_at("done", 1)).await.unwrap();
        store.append_log(&event("done", 0)).await.unwrap();

        let txn = db.begin().await.unwrap();
        let on_txn = store.on(&txn);
        assert_kind(
            on_txn.append_log(&event("unknown", 0)).await,
            ErrorKind::NotFound,
        );
        assert_kind(
            on_txn.finish_run("unknown", &stats()).await,
            ErrorKind::NotFound,
        );
        assert_kind(
            on_txn.finish_run("done", &stats()).await,
            ErrorKind::RunFinished,
        );
        assert_kind(
            on_txn.start_run(&running("done")).await,
            ErrorKind::RunFinished,
        );
        let other = with(event("done", 0), |event| event.event_type = "other".into());
        assert_kind(on_txn.append_log(&other).await, ErrorKind::Conflict);
        on_txn.start_run(&running("r")).await.unwrap();
        txn.commit().await.unwrap();
        assert_eq!(store.get_run("r").await.unwrap(), running("r"));
    }

    async fn cancelled_calls_leave_a_hosts_transaction_intact(database) {
        let db = database.connection().await;
        let store = initialized(&db).await;
        for round in 0..20_u32 {
            let txn = db.begin().await.unwrap();
            execute(&txn, "INSERT INTO host_things VALUES (1)").await;
            {
                let on_txn = store.on(&txn);
                let run = running(&round.to_string());
                poll_some(on_txn.start_run(&run), round).await;
                on_txn.start_run(&run).await.unwrap();
            }
            txn.commit().await.unwrap();
        }
        assert_eq!(count(&db, "host_things").await, 20);
        assert_eq!(count(&db, "skill_runs").await, 20);
    }

    async fn any_type_of_host_connection_can_be_used(database) {
        let db = database.connection().await;
        let store = initialized(&db).await;
        let counting = Counting {
            inner: &db,
            statements: AtomicUsize::new(0),
        };
        store.on(&counting).start_run(&running("r")).await.unwrap();
        assert_eq!(
            store.on(&counting).get_run("r").await.unwrap(),
            running("r")
        );
        assert_eq!(counting.statements.load(Ordering::Relaxed), 2);
    }

    async fn every_kind_of_store_returns_the_same_results(database) {
        let db = database.connection().await;
        let over_host = AuditStore::new(db.clone());
        over_host.initialize().await.unwrap();
        let own = AuditStore::connect(database.url()).await.unwrap();
        let borrowed = over_host.on(&db);
        let stores: [&dyn Storage; 3] = [&own, &over_host, &borrowed];

        for (number, store) in stores.iter().enumerate() {
            let id = number.to_string();
            store.start_run(&running(&id)).await.unwrap();
            store.append_log(&event(&id, 0)).await.unwrap();
            store.finish_run(&id, &stats()).await.unwrap();
        }
        for store in stores {
            for other in ["0", "1", "2"] {
                store.finish_run(other, &stats()).await.unwrap();
                store.append_log(&event(other, 0)).await.unwrap();
                store.start_run(&running(other)).await.unwrap();
                assert_kind(
                    store.finish_run(other, &finished_at("x", 1).stats()).await,
                    ErrorKind::RunFinished,
                );
                assert_kind(
                    store.start_run(&running_at(other, 9)).await,
                    ErrorKind::RunFinished,
                );
                let event = with(event(other, 0), |event| event.event_type = "other".into());
                assert_kind(store.append_log(&event).await, ErrorKind::Conflict);
            }
            assert_kind(
                store.append_log(&event("unknown", 0)).await,
                ErrorKind::NotFound,
            );
            assert_kind(store.get_run("unknown").await, ErrorKind::NotFound);
            assert_invalid(store.start_run(&running("")).await, "id");
            assert_eq!(
                store.list_runs_by_skill("skill", None).await.unwrap().len(),
                3
            );
        }
    }
}

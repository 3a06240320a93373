use std::pin::Pin;

use sea_orm::sea_query::{Func, Query};
use sea_orm::{
    ConnectionTrait, DatabaseConnection, DatabaseTransaction, DbErr, IsolationLevel,
    SqliteTransactionMode, TransactionOptions, TransactionTrait,
};

use crate::catalog::is_postgres;
use crate::{Error, Result};

/// The key of PostgreSQL's advisory lock: "runtrail" in ASCII.
const LOCK_KEY: i64 = i64::from_be_bytes(*b"runtrail");

/// The future of the work in a transaction.
pub type InTransaction<'t, T, E = DbErr> = Pin<Box<dyn Future<Output = Result<T, E>> + Send + 't>>;

/// Runs a host's own migrator in one transaction, under the lock of [`Migrator`](crate::Migrator).
///
/// SeaORM's migrator acquires no lock: if several processes start at the same time on an empty
/// database, one succeeds and the others fail. Under the lock they run one after the other, and all
/// succeed.
///
/// The migrations run in the transaction, so all of them are applied or none is. A migration that
/// can't run in a transaction (`CREATE INDEX CONCURRENTLY`) can't run here. Once started, `migrate`
/// runs to completion even if the future is dropped.
///
#[cfg_attr(feature = "sea-orm-migration", doc = "```no_run")]
#[cfg_attr(not(feature = "sea-orm-migration"), doc = "```ignore")]
/// # use sea_orm::{DatabaseConnection, DbErr};
/// # use sea_orm_migration::prelude::*;
/// # struct HostMigrator;
/// # impl MigratorTrait for HostMigrator {
/// #     fn migrations() -> Vec<Box<dyn MigrationTrait>> { runtrail_migration::migrations() }
/// # }
/// # async fn example(db: DatabaseConnection) -> Result<(), runtrail_migration::Error> {
/// runtrail_migration::locked(&db, |txn| Box::pin(HostMigrator::up(txn, None))).await?;
/// # Ok(())
/// # }
/// ```
///
/// # Errors
///
/// Those of `migrate`; [`Error::Database`]; [`Error::Interrupted`]. After an error, nothing has
/// changed.
pub async fn locked<T: Send + 'static>(
    db: &DatabaseConnection,
    migrate: impl for<'t> FnOnce(&'t DatabaseTransaction) -> InTransaction<'t, T> + Send + 'static,
) -> Result<T> {
    in_locked_transaction(db, migrate).await
}

/// Does work in one transaction, under the lock. The transaction runs in a separate task, since a
/// cancelled `BEGIN` would leave the connection in a transaction, and later writes on it would be
/// lost.
pub(crate) async fn in_locked_transaction<T, E>(
    db: &DatabaseConnection,
    work: impl for<'t> FnOnce(&'t DatabaseTransaction) -> InTransaction<'t, T, E> + Send + 'static,
) -> Result<T>
where
    T: Send + 'static,
    E: Send + 'static,
    Error: From<E>,
{
    let db = db.clone();
    let task = async move {
        let outcome = run(&db, work).await;
        #[cfg(feature = "sqlite")]
        if outcome.is_err() {
            close_broken_connections(&db).await;
        }
        outcome
    };
    tokio::spawn(task).await.map_err(|_| Error::Interrupted)?
}

async fn run<T, E>(
    db: &DatabaseConnection,
    work: impl for<'t> FnOnce(&'t DatabaseTransaction) -> InTransaction<'t, T, E> + Send,
) -> Result<T>
where
    Error: From<E>,
{
    #[expect(clippy::disallowed_methods, reason = "this task can't be cancelled")]
    let txn = db
        .begin_with_options(TransactionOptions {
            // Locks at BEGIN: SQLite may refuse a later upgrade from a read lock to a write lock
            // without waiting.
            sqlite_transaction_mode: Some(SqliteTransactionMode::Immediate),
            // A migrator that waited for the lock sees the previous migrator's changes, whatever
            // the server's default isolation level is.
            isolation_level: is_postgres(db).then_some(IsolationLevel::ReadCommitted),
            ..TransactionOptions::default()
        })
        .await?;
    if is_postgres(&txn) {
        let lock = Func::cust("pg_advisory_xact_lock").arg(LOCK_KEY);
        txn.query_all(&Query::select().expr(lock).take()).await?;
    }
    let result = work(&txn).await?;
    txn.commit().await?;
    Ok(result)
}

/// Closes connections on which the driver still considers a failed transaction open.
///
/// If a commit fails or the disk is full, SQLite ends the transaction and the driver doesn't
/// notice. The driver would begin the next transaction on that connection as a savepoint. Once that
/// savepoint is dropped, later writes on the connection would be acknowledged and lost.
#[cfg(feature = "sqlite")]
async fn close_broken_connections(db: &DatabaseConnection) {
    use sea_orm::DbBackend;
    use sea_orm::sqlx::Connection;
    use std::time::Duration;

    if db.get_database_backend() != DbBackend::Sqlite {
        return;
    }
    let pool = db.get_sqlite_connection_pool();
    let mut healthy = Vec::new();
    // The broken connection is about to return to the pool; connections that stay checked out
    // aren't affected.
    while healthy.len() < pool.size() as usize {
        let acquired = tokio::time::timeout(Duration::from_secs(1), pool.acquire()).await;
        let Ok(Ok(mut connection)) = acquired else {
            return;
        };
        // The rollback of the dropped transaction runs before the ping.
        let answers = connection.ping().await.is_ok();
        if answers && !connection.is_in_transaction() {
            healthy.push(connection);
        } else {
            // Even if closing fails, the connection doesn't return to the pool.
            let _ = connection.close().await;
        }
    }
}

use sea_orm::ConnectOptions as PoolOptions;

/// Makes a pool close every connection that comes back inside of an open transaction.
///
/// SeaORM over sqlx leaves such connections behind where a `begin()` is cancelled (by a timeout, a `select!`, a client
/// that hangs up), or where a full disk has ended a transaction on SQLite. Whatever is written next on such a
/// connection is acknowledged, and lost when it is closed. A host that gives its own pool to a store, or has any other
/// reason to keep what it writes, calls this before it connects:
///
/// ```
/// # async fn example() -> Result<(), sea_orm::DbErr> {
/// let mut options = sea_orm::ConnectOptions::new("sqlite://app.db?mode=rwc");
/// runtrail_db::discard_open_transactions(&mut options);
/// let db = sea_orm::Database::connect(options).await?;
/// # Ok(())
/// # }
/// ```
///
/// It costs a statement each time a connection comes back, on PostgreSQL a round trip. A database in memory
/// (`sqlite::memory:`) is gone with a connection that is thrown away.
///
/// It takes the place of what the options had for `map_sqlx_sqlite_pool_opts` and `map_sqlx_postgres_pool_opts`.
pub fn discard_open_transactions(options: &mut PoolOptions) -> &mut PoolOptions {
    #[cfg(feature = "sqlite")]
    options.map_sqlx_sqlite_pool_opts(|pool| {
        pool.after_release(|connection, _| {
            Box::pin(async move {
                use sea_orm::sqlx::{Executor, raw_sql};
                // It succeeds where there is a transaction, and nowhere else. The driver doesn't know that it has
                // ended now, so the connection is of no use any more.
                Ok(connection.execute(raw_sql("ROLLBACK")).await.is_err())
            })
        })
    });
    #[cfg(feature = "postgres")]
    options.map_sqlx_postgres_pool_opts(|pool| {
        pool.after_release(|connection, _| {
            Box::pin(async move {
                use sea_orm::sqlx::{Executor, Row, raw_sql};
                // The first is when the transaction began. Not a prepared statement: preparing it begins one.
                let query = raw_sql("SELECT now() = statement_timestamp()");
                connection.fetch_one(query).await?.try_get(0)
            })
        })
    });
    options
}

use sea_orm::ConnectOptions as PoolOptions;

/// Makes a pool close every connection that is returned inside an open transaction.
///
/// With SeaORM over sqlx, this happens if a `begin()` is cancelled (by a timeout, a `select!`, or a
/// client that disconnects), or if a full disk has ended a transaction on SQLite. Later writes on
/// such a connection are acknowledged, and lost when it is closed. A host that passes its own pool
/// to a store, or that must not lose writes of its own, calls this function before it connects:
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
/// It costs one statement per returned connection, which is a round trip on PostgreSQL. A database
/// in memory (`sqlite::memory:`) is lost with a discarded connection.
///
/// It replaces the callbacks of `map_sqlx_sqlite_pool_opts` and `map_sqlx_postgres_pool_opts`.
pub fn discard_open_transactions(options: &mut PoolOptions) -> &mut PoolOptions {
    #[cfg(feature = "sqlite")]
    options.map_sqlx_sqlite_pool_opts(|pool| {
        pool.after_release(|connection, _| {
            Box::pin(async move {
                use sea_orm::sqlx::{Executor, raw_sql};
                // Succeeds only inside a transaction. The driver doesn't notice that the
                // transaction has ended, so the connection can't be reused.
                Ok(connection.execute(raw_sql("ROLLBACK")).await.is_err())
            })
        })
    });
    #[cfg(feature = "postgres")]
    options.map_sqlx_postgres_pool_opts(|pool| {
        pool.after_release(|connection, _| {
            Box::pin(async move {
                use sea_orm::sqlx::{Executor, Row, raw_sql};
                // now() is the start time of the transaction. The query isn't prepared, since
                // preparing it would begin a transaction.
                let query = raw_sql("SELECT now() = statement_timestamp()");
                connection.fetch_one(query).await?.try_get(0)
            })
        })
    });
    options
}

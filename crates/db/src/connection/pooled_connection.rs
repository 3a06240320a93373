use std::fmt;
#[cfg(feature = "postgres")]
use std::sync::atomic::AtomicU64;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use async_trait::async_trait;
#[cfg(feature = "postgres")]
use sea_orm::sqlx::Connection as _;
use sea_orm::sqlx::pool::PoolConnection;
use sea_orm::sqlx::{self, AssertSqlSafe};
use sea_orm::{
    ConnAcquireErr, ConnectionTrait, DatabaseConnection, DbBackend, DbErr, ExecResult, QueryResult,
    RuntimeErr, SqlxError, Statement, Values,
};
use sea_query_sqlx::SqlxValues;
use tokio::sync::Mutex;

#[cfg(feature = "postgres")]
use super::simple_protocol;
use super::{Cost, Executor, Plan, Pool, rows_of_driver};
use crate::{Row, backend};

/// A connection that is checked out of its pool for many statements, since a checkout costs as much
/// as some statements.
pub struct PooledConnection {
    connection: Inner,
    #[cfg_attr(
        not(feature = "postgres"),
        expect(dead_code, reason = "SQLite always prepares")
    )]
    has_prepared_statements: bool,
    has_failed: AtomicBool,
    since: Instant,
    #[cfg(feature = "postgres")]
    plan_age: PlanAge,
}

/// Measures the age of prepared statements' plans by the rows written since they were made.
///
/// PostgreSQL keeps a plan that it made while a table had few rows. Such a plan scans the whole
/// table until the automatic ANALYZE, which may start a minute late.
#[cfg(feature = "postgres")]
struct PlanAge {
    written: AtomicU64,
    /// The number of written rows at which the plans are renewed.
    renew_at: AtomicU64,
}

#[cfg(feature = "postgres")]
impl PlanAge {
    /// With fewer rows, no plan is slow.
    const FEW_ROWS: u64 = 1_000;

    fn new() -> Self {
        Self {
            written: AtomicU64::new(0),
            renew_at: AtomicU64::new(Self::FEW_ROWS),
        }
    }

    /// Renews the plans each time the number of rows written on this connection has doubled.
    async fn renew_plans(&self, connection: &mut sqlx::PgConnection) -> Result<(), SqlxError> {
        let written = self.written.load(Ordering::Relaxed);
        if written >= self.renew_at.load(Ordering::Relaxed) {
            connection.clear_cached_statements().await?;
            self.renew_at.store(2 * written, Ordering::Relaxed);
        }
        Ok(())
    }

    fn add_written(&self, rows: u64) {
        self.written.fetch_add(rows, Ordering::Relaxed);
    }
}

/// How long a connection is used before it returns to the pool, which limits the lifetime of its
/// connections.
const MAX_CHECKOUT: Duration = Duration::from_secs(300);

enum Inner {
    #[cfg(feature = "sqlite")]
    Sqlite(Mutex<PoolConnection<sqlx::Sqlite>>),
    #[cfg(feature = "postgres")]
    Postgres(Mutex<PoolConnection<sqlx::Postgres>>),
}

impl PooledConnection {
    /// Checks out a connection.
    pub async fn acquire(db: &DatabaseConnection) -> Result<Self, DbErr> {
        Ok(Self {
            connection: Inner::acquire(db).await?,
            has_prepared_statements: true,
            has_failed: AtomicBool::new(false),
            since: Instant::now(),
            #[cfg(feature = "postgres")]
            plan_age: PlanAge::new(),
        })
    }

    /// Sets whether statements are prepared from now on; SQLite always prepares them.
    pub fn prepares_statements(self, has_prepared_statements: bool) -> Self {
        Self {
            has_prepared_statements,
            ..self
        }
    }

    /// Returns whether any statement has failed on this connection.
    pub fn has_failed(&self) -> bool {
        self.has_failed.load(Ordering::Relaxed)
    }

    /// Returns whether the connection should return to its pool.
    pub fn is_old(&self) -> bool {
        self.since.elapsed() > MAX_CHECKOUT
    }

    /// Discards the connection after a failure, or with a statement in progress.
    ///
    /// On PostgreSQL it is closed: its server may be gone, or may have become a standby. On SQLite
    /// it returns to the pool: it can't be broken, and closing it could lose a database in memory.
    pub fn discard(self) {
        if backend::has_schemas(self.backend()) {
            self.detach();
        }
    }

    /// Removes the connection from its pool and closes it, without a termination message, since the
    /// server may be gone.
    pub fn detach(self) {
        match self.connection {
            #[cfg(feature = "sqlite")]
            Inner::Sqlite(connection) => drop(connection.into_inner().detach()),
            #[cfg(feature = "postgres")]
            Inner::Postgres(connection) => drop(connection.into_inner().detach()),
        }
    }

    /// Renews the plans of prepared statements if enough rows have been written since they were made.
    async fn renew_plans(&self) -> Result<(), DbErr> {
        let renewed = match &self.connection {
            #[cfg(feature = "sqlite")]
            Inner::Sqlite(_) => Ok(()),
            #[cfg(feature = "postgres")]
            Inner::Postgres(connection) => match self.has_prepared_statements {
                true => {
                    let connection = &mut **connection.lock().await;
                    self.plan_age.renew_plans(connection).await
                }
                false => Ok(()),
            },
        };
        self.note_failure(renewed.map_err(|err| DbErr::Exec(runtime_error(err))))
    }

    fn note_failure<T>(&self, result: Result<T, DbErr>) -> Result<T, DbErr> {
        if result.is_err() {
            self.has_failed.store(true, Ordering::Relaxed);
        }
        result
    }
}

impl Inner {
    async fn acquire(db: &DatabaseConnection) -> Result<Self, DbErr> {
        #[cfg(feature = "postgres")]
        if let Some(pool) = backend::postgres_pool(db) {
            let connection = pool.acquire().await.map_err(acquire_error)?;
            return Ok(Self::Postgres(Mutex::new(connection)));
        }
        #[cfg(feature = "sqlite")]
        if let Some(pool) = backend::sqlite_pool(db) {
            let connection = pool.acquire().await.map_err(acquire_error)?;
            return Ok(Self::Sqlite(Mutex::new(connection)));
        }
        Err(DbErr::BackendNotSupported {
            db: "a connection of another kind",
            ctx: "checking out a connection",
        })
    }
}

/// Returns a statement with its values, to be prepared once per connection.
fn query<DB>(statement: Statement) -> sqlx::query::Query<'static, DB, SqlxValues>
where
    DB: sqlx::Database,
    SqlxValues: sqlx::IntoArguments<DB>,
{
    let values = statement.values.unwrap_or_else(|| Values(Vec::new()));
    sqlx::query_with(AssertSqlSafe(statement.sql), SqlxValues(values))
}

#[async_trait]
impl Executor for PooledConnection {
    fn backend(&self) -> DbBackend {
        match self.connection {
            #[cfg(feature = "sqlite")]
            Inner::Sqlite(_) => DbBackend::Sqlite,
            #[cfg(feature = "postgres")]
            Inner::Postgres(_) => DbBackend::Postgres,
        }
    }

    /// Returns `None`: the owner of the connection decides what is retried.
    fn pool(&self) -> Option<&Pool> {
        None
    }

    async fn rows(&self, query: Statement, _cost: Cost, _plan: Plan) -> Result<Vec<Row>, DbErr> {
        self.query_all_raw(query).await.map(rows_of_driver)
    }

    async fn changes(&self, statement: Statement) -> Result<u64, DbErr> {
        let result = self.execute_raw(statement).await?;
        Ok(result.rows_affected())
    }

    async fn changes_of_parts(
        &self,
        statement: Statement,
        parts: usize,
    ) -> Result<Vec<u64>, DbErr> {
        self.renew_plans().await?;
        let rows = self.rows(statement, Cost::Short, Plan::ByValues).await?;
        let changes = super::changes_of_parts(&rows, parts)?;
        #[cfg(feature = "postgres")]
        self.plan_age.add_written(changes.iter().sum());
        Ok(changes)
    }
}

#[async_trait]
impl ConnectionTrait for PooledConnection {
    fn get_database_backend(&self) -> DbBackend {
        self.backend()
    }

    async fn execute_raw(&self, statement: Statement) -> Result<ExecResult, DbErr> {
        let result = match &self.connection {
            #[cfg(feature = "sqlite")]
            Inner::Sqlite(connection) => {
                let mut connection = connection.lock().await;
                let result = query(statement).execute(&mut **connection).await;
                result.map(Into::into)
            }
            #[cfg(feature = "postgres")]
            Inner::Postgres(connection) => {
                let connection = &mut **connection.lock().await;
                let result = match self.has_prepared_statements {
                    true => match self.plan_age.renew_plans(connection).await {
                        Ok(()) => query(statement).execute(connection).await,
                        Err(err) => Err(err),
                    },
                    false => simple_protocol::query(&statement).execute(connection).await,
                };
                if let Ok(result) = &result {
                    self.plan_age.add_written(result.rows_affected());
                }
                result.map(Into::into)
            }
        };
        self.note_failure(result.map_err(|err| DbErr::Exec(runtime_error(err))))
    }

    #[expect(clippy::disallowed_methods, reason = "forwarding, not calling")]
    async fn execute_unprepared(&self, sql: &str) -> Result<ExecResult, DbErr> {
        self.execute_raw(Statement::from_string(self.get_database_backend(), sql))
            .await
    }

    async fn query_one_raw(&self, statement: Statement) -> Result<Option<QueryResult>, DbErr> {
        Ok(self.query_all_raw(statement).await?.into_iter().next())
    }

    async fn query_all_raw(&self, statement: Statement) -> Result<Vec<QueryResult>, DbErr> {
        let rows = match &self.connection {
            #[cfg(feature = "sqlite")]
            Inner::Sqlite(connection) => {
                let mut connection = connection.lock().await;
                let rows = query(statement).fetch_all(&mut **connection).await;
                rows.map(query_results)
            }
            #[cfg(feature = "postgres")]
            Inner::Postgres(connection) => {
                let connection = &mut **connection.lock().await;
                let rows = match self.has_prepared_statements {
                    true => query(statement).fetch_all(connection).await,
                    false => {
                        simple_protocol::query(&statement)
                            .fetch_all(connection)
                            .await
                    }
                };
                rows.map(query_results)
            }
        };
        self.note_failure(rows.map_err(|err| DbErr::Query(runtime_error(err))))
    }
}

pub(super) fn query_results(rows: Vec<impl Into<QueryResult>>) -> Vec<QueryResult> {
    rows.into_iter().map(Into::into).collect()
}

fn acquire_error(err: SqlxError) -> DbErr {
    match err {
        SqlxError::PoolTimedOut => DbErr::ConnectionAcquire(ConnAcquireErr::Timeout),
        SqlxError::PoolClosed => DbErr::ConnectionAcquire(ConnAcquireErr::ConnectionClosed),
        err => DbErr::Conn(runtime_error(err)),
    }
}

pub(super) fn runtime_error(err: SqlxError) -> RuntimeErr {
    RuntimeErr::SqlxError(err.into())
}

impl fmt::Debug for PooledConnection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PooledConnection").finish_non_exhaustive()
    }
}

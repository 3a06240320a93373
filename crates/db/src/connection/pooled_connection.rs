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
use super::{Connection, Pool};
use crate::backend;

/// One connection of a pool, checked out for many statements: to take it from the pool and give it back costs as much as some
/// of them.
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
    plans: Plans,
}

/// How old the plans of prepared statements are, in rows that were written since.
///
/// PostgreSQL keeps a plan that it has made while there were few rows, and would read whole tables by it until it looks at
/// their sizes by itself, which may take it a minute.
#[cfg(feature = "postgres")]
struct Plans {
    written: AtomicU64,
    /// After how many rows they are made anew.
    last_until: AtomicU64,
}

#[cfg(feature = "postgres")]
impl Plans {
    /// Fewer rows than any plan is bad for.
    const FEW: u64 = 1_000;

    fn new() -> Self {
        Self {
            written: AtomicU64::new(0),
            last_until: AtomicU64::new(Self::FEW),
        }
    }

    /// Has them made anew each time that twice as much has been written on this connection.
    async fn renew(&self, connection: &mut sqlx::PgConnection) -> Result<(), SqlxError> {
        let written = self.written.load(Ordering::Relaxed);
        if written >= self.last_until.load(Ordering::Relaxed) {
            connection.clear_cached_statements().await?;
            self.last_until.store(2 * written, Ordering::Relaxed);
        }
        Ok(())
    }

    fn have_written(&self, rows: u64) {
        self.written.fetch_add(rows, Ordering::Relaxed);
    }
}

/// How long one is used without the pool seeing it, which has limits of its own to how old they get.
const OLD: Duration = Duration::from_secs(300);

enum Inner {
    #[cfg(feature = "sqlite")]
    Sqlite(Mutex<PoolConnection<sqlx::Sqlite>>),
    #[cfg(feature = "postgres")]
    Postgres(Mutex<PoolConnection<sqlx::Postgres>>),
}

impl PooledConnection {
    /// Checks one out.
    pub async fn acquire(db: &DatabaseConnection) -> Result<Self, DbErr> {
        Ok(Self {
            connection: Inner::acquire(db).await?,
            has_prepared_statements: true,
            has_failed: AtomicBool::new(false),
            since: Instant::now(),
            #[cfg(feature = "postgres")]
            plans: Plans::new(),
        })
    }

    /// Whether statements are prepared on it from here on; SQLite always does.
    pub fn prepares_statements(self, has_prepared_statements: bool) -> Self {
        Self {
            has_prepared_statements,
            ..self
        }
    }

    /// Whether any statement has failed on it.
    pub fn has_failed(&self) -> bool {
        self.has_failed.load(Ordering::Relaxed)
    }

    /// Whether its pool should see it again.
    pub fn is_old(&self) -> bool {
        self.since.elapsed() > OLD
    }

    /// Gives it up after a failure, or with a statement under way.
    ///
    /// To PostgreSQL it is closed: there may be no server behind it any more, or one that has become a standby. One to
    /// SQLite goes back: nothing can be wrong with it, and a database in memory would be gone.
    pub fn discard(self) {
        if backend::has_schemas(&self) {
            self.detach();
        }
    }

    /// Takes it out of its pool and closes it, without a farewell, which nobody may be there to take.
    pub fn detach(self) {
        match self.connection {
            #[cfg(feature = "sqlite")]
            Inner::Sqlite(connection) => drop(connection.into_inner().detach()),
            #[cfg(feature = "postgres")]
            Inner::Postgres(connection) => drop(connection.into_inner().detach()),
        }
    }

    fn remember<T>(&self, result: Result<T, DbErr>) -> Result<T, DbErr> {
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
            ctx: "keeping a connection",
        })
    }
}

/// A statement with its values, prepared once for each connection.
fn query<DB>(statement: Statement) -> sqlx::query::Query<'static, DB, SqlxValues>
where
    DB: sqlx::Database,
    SqlxValues: sqlx::IntoArguments<DB>,
{
    let values = statement.values.unwrap_or_else(|| Values(Vec::new()));
    sqlx::query_with(AssertSqlSafe(statement.sql), SqlxValues(values))
}

impl Connection for PooledConnection {
    /// None: whoever holds it decides what is tried again.
    fn pool(&self) -> Option<&Pool> {
        None
    }
}

#[async_trait]
impl ConnectionTrait for PooledConnection {
    fn get_database_backend(&self) -> DbBackend {
        match self.connection {
            #[cfg(feature = "sqlite")]
            Inner::Sqlite(_) => DbBackend::Sqlite,
            #[cfg(feature = "postgres")]
            Inner::Postgres(_) => DbBackend::Postgres,
        }
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
                    true => match self.plans.renew(connection).await {
                        Ok(()) => query(statement).execute(connection).await,
                        Err(err) => Err(err),
                    },
                    false => simple_protocol::query(&statement).execute(connection).await,
                };
                if let Ok(result) = &result {
                    self.plans.have_written(result.rows_affected());
                }
                result.map(Into::into)
            }
        };
        self.remember(result.map_err(|err| DbErr::Exec(runtime(err))))
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
                rows.map(results)
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
                rows.map(results)
            }
        };
        self.remember(rows.map_err(|err| DbErr::Query(runtime(err))))
    }
}

pub(super) fn results(rows: Vec<impl Into<QueryResult>>) -> Vec<QueryResult> {
    rows.into_iter().map(Into::into).collect()
}

fn acquire_error(err: SqlxError) -> DbErr {
    match err {
        SqlxError::PoolTimedOut => DbErr::ConnectionAcquire(ConnAcquireErr::Timeout),
        SqlxError::PoolClosed => DbErr::ConnectionAcquire(ConnAcquireErr::ConnectionClosed),
        err => DbErr::Conn(runtime(err)),
    }
}

pub(super) fn runtime(err: SqlxError) -> RuntimeErr {
    RuntimeErr::SqlxError(err.into())
}

impl fmt::Debug for PooledConnection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PooledConnection").finish_non_exhaustive()
    }
}

use sea_orm::sea_query::{Expr, ExprTrait, Func, IntoIden, Query};
use sea_orm::{
    ConnectionTrait, DatabaseConnection, DatabaseTransaction, DbErr, DynIden, IsolationLevel,
    SqliteTransactionMode, TransactionOptions, TransactionTrait,
};
use sea_orm_migration::{MigrationTrait, MigratorTrait};

use crate::schema_state::{is_postgres, recorded_in, strings};
use crate::{Error, MIGRATIONS, Result, SchemaName, SchemaState};

/// The table that says which migrations were applied: our own, never a host's `seaql_migrations`.
pub const MIGRATION_TABLE: &str = "runtrail_migrations";

/// The key of PostgreSQL's advisory lock: "runtrail" in ASCII.
const LOCK_KEY: i64 = i64::from_be_bytes(*b"runtrail");

/// One migration and whether it was applied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MigrationStatus {
    /// The name of the migration.
    pub name: String,
    /// Whether it was applied.
    pub is_applied: bool,
}

/// Migrates Runtrail's own tables: all in one transaction, which holds a lock against every other migrator.
///
/// There is no `fresh`: nothing here drops a table that isn't ours.
#[derive(Clone, Debug, Default)]
pub struct Migrator {
    schema: Option<SchemaName>,
}

impl Migrator {
    /// Migrates where the connection's own queries would look for the tables.
    pub fn new() -> Self {
        Self::default()
    }

    /// Migrates in this schema of a PostgreSQL database, which must exist; ignored on SQLite.
    pub fn in_schema(schema: SchemaName) -> Self {
        Self {
            schema: Some(schema),
        }
    }

    /// Where the database stands. Reads only; works in a transaction too.
    ///
    /// # Errors
    ///
    /// [`Error::Database`].
    pub async fn state(&self, db: &impl ConnectionTrait) -> Result<SchemaState> {
        Ok(SchemaState::inspect(db, self.schema_on(db)).await?)
    }

    /// Every migration with whether it was applied. Reads only.
    ///
    /// # Errors
    ///
    /// [`Error::Database`], and [`Error::Unfit`] when the database is too new or not ours.
    pub async fn status(&self, db: &impl ConnectionTrait) -> Result<Vec<MigrationStatus>> {
        let pending = match self.state(db).await? {
            SchemaState::Current => Vec::new(),
            SchemaState::Outdated { pending } => pending,
            SchemaState::Missing => names(MIGRATIONS.iter()),
            unfit => return Err(Error::Unfit(unfit)),
        };
        Ok(MIGRATIONS
            .iter()
            .map(|migration| MigrationStatus {
                name: migration.name.to_owned(),
                is_applied: !pending.iter().any(|name| name == migration.name),
            })
            .collect())
    }

    /// Applies pending migrations, all or the next `steps`, and returns their names.
    ///
    /// Once begun, it goes on to its end even when the future is dropped.
    /// What a host's migrator has already applied is taken over into our own table.
    ///
    /// # Errors
    ///
    /// [`Error::Unfit`], [`Error::NoSuchSchema`], [`Error::Database`], [`Error::Interrupted`]; then nothing has
    /// changed.
    pub async fn up(&self, db: &DatabaseConnection, steps: Option<u32>) -> Result<Vec<String>> {
        self.run(db, Direction::Up(steps)).await
    }

    /// Rolls back the last `steps` migrations and returns their names. **This deletes the history.**
    ///
    /// Once begun, it goes on to its end even when the future is dropped.
    ///
    /// # Errors
    ///
    /// Those of [`up`](Self::up).
    pub async fn down(&self, db: &DatabaseConnection, steps: u32) -> Result<Vec<String>> {
        self.run(db, Direction::Down(steps)).await
    }

    /// A task of its own, since a cancelled `BEGIN` would leave its connection in a transaction that swallows
    /// whatever is written on it next.
    async fn run(&self, db: &DatabaseConnection, direction: Direction) -> Result<Vec<String>> {
        let (migrator, db) = (self.clone(), db.clone());
        tokio::spawn(async move { migrator.run_locked(&db, direction).await })
            .await
            .map_err(|_| Error::Interrupted)?
    }

    async fn run_locked(
        &self,
        db: &DatabaseConnection,
        direction: Direction,
    ) -> Result<Vec<String>> {
        let changed = self.run_in_transaction(db, direction).await;
        #[cfg(feature = "sqlite")]
        if changed.is_err() {
            discard_connections_in_doubt(db).await;
        }
        changed
    }

    async fn run_in_transaction(
        &self,
        db: &DatabaseConnection,
        direction: Direction,
    ) -> Result<Vec<String>> {
        #[expect(clippy::disallowed_methods, reason = "nobody can cancel this task")]
        let txn = db
            .begin_with_options(TransactionOptions {
                // Taken at once: a read lock that wants to become a write lock is refused without waiting.
                sqlite_transaction_mode: Some(SqliteTransactionMode::Immediate),
                // So that who has waited for the lock sees what its last holder did, whatever the default is.
                isolation_level: is_postgres(db).then_some(IsolationLevel::ReadCommitted),
                ..TransactionOptions::default()
            })
            .await?;
        self.lock(&txn).await?;

        let state = self.state(&txn).await?;
        if let SchemaState::Foreign { .. } | SchemaState::TooNew { .. } = state {
            return Err(Error::Unfit(state));
        }
        let changed = match direction {
            Direction::Up(steps) => up(&txn, &state, steps).await?,
            Direction::Down(steps) => down(&txn, steps).await?,
        };
        txn.commit().await?;
        Ok(changed)
    }

    async fn lock(&self, txn: &DatabaseTransaction) -> Result<()> {
        if !is_postgres(txn) {
            return Ok(());
        }
        let lock = Func::cust("pg_advisory_xact_lock").arg(LOCK_KEY);
        txn.query_all(&Query::select().expr(lock).take()).await?;

        let schema = match &self.schema {
            Some(schema) => Some(existing(txn, schema).await?),
            None => schema_of_our_tables(txn).await?,
        };
        if let Some(schema) = schema {
            // Until the end of this transaction only, so that a pooler between us and the server sees nothing.
            let set = Func::cust("set_config")
                .arg("search_path")
                .arg(schema)
                .arg(true);
            txn.query_all(&Query::select().expr(set).take()).await?;
        }
        Ok(())
    }

    fn schema_on(&self, db: &impl ConnectionTrait) -> Option<&SchemaName> {
        self.schema.as_ref().filter(|_| is_postgres(db))
    }
}

/// Closes what connections still count a transaction as open, after one has failed.
///
/// A commit that the disk refuses, or a full disk, makes SQLite end the transaction by itself; the driver doesn't
/// notice. The next transaction on that connection would be a savepoint of none, and once it is dropped, whatever is
/// written there would be acknowledged and lost.
#[cfg(feature = "sqlite")]
async fn discard_connections_in_doubt(db: &DatabaseConnection) {
    use sea_orm::DbBackend;
    use sea_orm::sqlx::Connection;
    use std::time::Duration;

    if db.get_database_backend() != DbBackend::Sqlite {
        return;
    }
    let pool = db.get_sqlite_connection_pool();
    let mut sound = Vec::new();
    // The one in doubt is on its way back to the pool; others may be in use for long, and are not in doubt.
    while sound.len() < pool.size() as usize {
        let acquired = tokio::time::timeout(Duration::from_secs(1), pool.acquire()).await;
        let Ok(Ok(mut connection)) = acquired else {
            return;
        };
        // The rollback of the dropped transaction comes before the answer.
        let answers = connection.ping().await.is_ok();
        if answers && !connection.is_in_transaction() {
            sound.push(connection);
        } else {
            // Whatever closing it says, it doesn't go back to the pool.
            let _ = connection.close().await;
        }
    }
}

/// The schema in which the connection's own queries find our tables, quoted where it has to be.
///
/// They look in every schema of the search path, while tables are created in its first: without this, a role with a
/// schema of its own would get a second, empty history there.
async fn schema_of_our_tables(txn: &DatabaseTransaction) -> Result<Option<String>> {
    for migration in MIGRATIONS {
        let table = Func::cust("to_regclass").arg(migration.table);
        let schema = Expr::col("relnamespace")
            .cast_as("regnamespace")
            .cast_as("text");
        let query = Query::select()
            .expr(schema)
            .from(("pg_catalog", "pg_class"))
            .and_where(Expr::col("oid").eq(table))
            .take();
        if let Some(schema) = strings(txn, &query).await?.pop() {
            return Ok(Some(schema));
        }
    }
    Ok(None)
}

async fn existing(txn: &DatabaseTransaction, schema: &SchemaName) -> Result<String> {
    let query = Query::select()
        .expr(Expr::col("nspname").cast_as("text"))
        .from(("pg_catalog", "pg_namespace"))
        .and_where(Expr::col("nspname").eq(schema.as_str()))
        .take();
    let found = strings(txn, &query).await?.pop();
    found.ok_or_else(|| Error::NoSuchSchema {
        schema: schema.clone(),
    })
}

#[derive(Clone, Copy)]
enum Direction {
    Up(Option<u32>),
    Down(u32),
}

async fn up(
    txn: &DatabaseTransaction,
    state: &SchemaState,
    steps: Option<u32>,
) -> Result<Vec<String>> {
    let mut recorded = recorded_in(txn, None, MIGRATION_TABLE).await?;
    let gone: Vec<String> = match state {
        SchemaState::Missing => std::mem::take(&mut recorded),
        SchemaState::Outdated { pending } => recorded
            .extract_if(.., |name| pending.contains(name))
            .collect(),
        _ => Vec::new(),
    };
    forget(txn, gone).await?;

    let pending = MIGRATIONS
        .iter()
        .filter(|migration| !recorded.iter().any(|name| name == migration.name));
    let pending = match steps {
        Some(steps) => names(pending.take(steps as usize)),
        None => names(pending),
    };
    // Even `CREATE TABLE IF NOT EXISTS` needs the right to create tables.
    if !pending.is_empty() {
        Recorder::up(txn, steps).await?;
    }
    Ok(pending)
}

async fn down(txn: &DatabaseTransaction, steps: u32) -> Result<Vec<String>> {
    let recorded = recorded_in(txn, None, MIGRATION_TABLE).await?;
    let applied: Vec<String> = recorded.into_iter().rev().take(steps as usize).collect();
    if !applied.is_empty() {
        Recorder::down(txn, Some(steps)).await?;
    }
    Ok(applied)
}

/// Drops the records of migrations whose tables somebody else has dropped, say a host's migrator going down.
async fn forget(txn: &DatabaseTransaction, gone: Vec<String>) -> Result<(), DbErr> {
    if !gone.is_empty() {
        let delete = Query::delete()
            .from_table(MIGRATION_TABLE)
            .and_where(Expr::col("version").is_in(gone))
            .take();
        txn.execute(&delete).await?;
    }
    Ok(())
}

fn names<'a>(
    migrations: impl Iterator<Item = &'a crate::schema_migration::SchemaMigration>,
) -> Vec<String> {
    migrations
        .map(|migration| migration.name.to_owned())
        .collect()
}

/// SeaORM's migrator over our migrations and our table.
///
/// Not public: used bare it takes no lock, and it knows `fresh`, which drops every table of the database.
struct Recorder;

impl MigratorTrait for Recorder {
    fn migrations() -> Vec<Box<dyn MigrationTrait>> {
        crate::migrations()
    }

    fn migration_table_name() -> DynIden {
        MIGRATION_TABLE.into_iden()
    }
}

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use runtrail_db::DriverErrorKind;
use sea_orm::sea_query::{Expr, ExprTrait, Func, Query};
use sea_orm::{ConnectionTrait, DatabaseConnection, DatabaseTransaction, DbErr};

use crate::catalog::{is_postgres, strings};
use crate::lock::in_locked_transaction;
use crate::records::{self, MIGRATION_TABLE};
use crate::schema_migration::{Rows, SchemaMigration};
use crate::schema_state::{PartCheck, recorded, recorded_in, unknown_to};
use crate::shape::Shape;
use crate::{Error, LATER_MIGRATIONS, MIGRATIONS, Result, SchemaName, SchemaState};

/// One migration and whether it was applied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MigrationEntry {
    /// The name of the migration.
    pub name: String,
    /// Whether it was applied.
    pub is_applied: bool,
}

/// Migrates Runtrail's own tables in one transaction, under a lock that excludes every other
/// migrator.
///
/// There is no `fresh`: no method drops a table that isn't ours.
#[derive(Clone, Debug)]
#[must_use]
pub struct Migrator {
    schema: Option<SchemaName>,
    rows: Rows,
    migrations: &'static [SchemaMigration],
}

impl Default for Migrator {
    fn default() -> Self {
        Self {
            schema: None,
            rows: Rows::default(),
            migrations: MIGRATIONS,
        }
    }
}

impl Migrator {
    /// Migrates the schema in which the connection's own queries would find the tables.
    pub fn new() -> Self {
        Self::default()
    }

    /// Migrates this schema of a PostgreSQL database, which must exist; ignored on SQLite.
    pub fn in_schema(schema: SchemaName) -> Self {
        Self {
            schema: Some(schema),
            ..Self::default()
        }
    }

    /// Creates the migrator of a fictitious later, compatible version, for tests of rolling
    /// updates.
    #[doc(hidden)]
    pub fn of_later_version() -> Self {
        Self {
            migrations: &LATER_MIGRATIONS,
            ..Self::default()
        }
    }

    /// Lets [`down`](Self::down) drop tables that have rows. **This deletes the history.**
    pub fn deleting_rows(mut self) -> Self {
        self.rows = Rows::Delete;
        self
    }

    /// Returns the state of the schema according to the recorded migrations. Only reads; also works
    /// in a transaction.
    ///
    /// # Errors
    ///
    /// [`Error::Database`].
    pub async fn state(&self, db: &impl ConnectionTrait) -> Result<SchemaState> {
        Ok(SchemaState::inspect(db, self.schema_on(db), self.migrations, PartCheck::Skip).await?)
    }

    /// Like [`state`](Self::state), but also checks the keys, indexes and collations of the tables:
    /// a table that has lost one is [`Outdated`](SchemaState::Outdated) if [`up`](Self::up) adds it
    /// again, else [`Incomplete`](SchemaState::Incomplete).
    ///
    /// # Errors
    ///
    /// [`Error::Database`].
    pub async fn full_state(&self, db: &impl ConnectionTrait) -> Result<SchemaState> {
        Ok(SchemaState::inspect(db, self.schema_on(db), self.migrations, PartCheck::Run).await?)
    }

    /// Fails if events would outlive their runs because their table has lost its foreign key. Only
    /// reads.
    ///
    /// # Errors
    ///
    /// [`Error::Unfit`] with [`Incomplete`](SchemaState::Incomplete); [`Error::Database`].
    pub async fn verify_cascade(&self, db: &impl ConnectionTrait) -> Result<()> {
        match Shape::without_cascade(db, self.schema_on(db)).await? {
            Some(incomplete) => Err(Error::Unfit(incomplete)),
            None => Ok(()),
        }
    }

    /// Fails if row-level security may hide rows from this role. Only reads.
    ///
    /// # Errors
    ///
    /// [`Error::RowSecurity`]; [`Error::Database`].
    pub async fn verify_visibility(&self, db: &impl ConnectionTrait) -> Result<()> {
        match Shape::with_hidden_rows(db, self.schema_on(db)).await? {
            Some(table) => Err(Error::RowSecurity { table }),
            None => Ok(()),
        }
    }

    /// Returns every migration and whether it was applied. Only reads.
    ///
    /// # Errors
    ///
    /// [`Error::Database`], and [`Error::Unfit`] when the database is too new or not ours.
    pub async fn status(&self, db: &impl ConnectionTrait) -> Result<Vec<MigrationEntry>> {
        // Retries, since another process may be migrating the SQLite file.
        let inspect = || self.full_state(db);
        let state = DriverErrorKind::retry_while_busy(TRIES, PAUSE / 10, inspect).await?;
        let pending = match state {
            SchemaState::Current => Vec::new(),
            SchemaState::Outdated { pending } => pending,
            SchemaState::Missing => names(self.migrations.iter()),
            unfit => return Err(Error::Unfit(unfit)),
        };
        Ok(self
            .migrations
            .iter()
            .map(|migration| MigrationEntry {
                name: migration.name.to_owned(),
                is_applied: !pending.iter().any(|name| name == migration.name),
            })
            .collect())
    }

    /// Applies pending migrations, all or the next `steps`, and returns their names.
    ///
    /// It works on a live database. On PostgreSQL it tries up to 30 times, and waits for a table's
    /// lock for only two seconds each time, so that statements that queue behind it can proceed in
    /// between. A try that has started runs to completion even if the future is dropped. Migrations
    /// that a host's migrator has applied are also recorded in our own table.
    ///
    /// # Errors
    ///
    /// [`Error::Unfit`], [`Error::NoSuchSchema`], [`Error::Database`], [`Error::Interrupted`]; then
    /// nothing has changed.
    pub async fn up(&self, db: &DatabaseConnection, steps: Option<u32>) -> Result<Vec<String>> {
        self.run(db, Direction::Up(steps)).await
    }

    /// Rolls back the last `steps` migrations and returns their names.
    ///
    /// This drops their tables, which must be empty unless [`deleting_rows`](Self::deleting_rows)
    /// is set. It fails if the schema has migrations that this version doesn't know. A try that has
    /// started runs to completion even if the future is dropped.
    ///
    /// # Errors
    ///
    /// [`Error::NotEmpty`], and those of [`up`](Self::up); then nothing has changed.
    pub async fn down(&self, db: &DatabaseConnection, steps: u32) -> Result<Vec<String>> {
        self.run(db, Direction::Down(steps)).await
    }

    async fn run(&self, db: &DatabaseConnection, direction: Direction) -> Result<Vec<String>> {
        let tries = match is_postgres(db) {
            true => TRIES,
            false => TRIES_ON_SQLITE,
        };
        let migrate = || {
            let migrator = self.clone();
            in_locked_transaction(db, move |txn| {
                Box::pin(async move { migrator.run_in(txn, direction).await })
            })
        };
        DriverErrorKind::retry_while_busy(tries, PAUSE, migrate).await
    }

    async fn run_in(&self, txn: &DatabaseTransaction, direction: Direction) -> Result<Vec<String>> {
        self.enter_schema(txn).await?;
        if is_postgres(txn) {
            set_for_transaction(txn, "lock_timeout", LOCK_TIMEOUT).await?;
        }
        let state = self.full_state(txn).await?;
        match direction {
            Direction::Up(steps) => self.up_in(txn, state, steps).await,
            Direction::Down(steps) => self.down_in(txn, state, steps).await,
        }
    }

    async fn up_in(
        &self,
        txn: &DatabaseTransaction,
        state: SchemaState,
        steps: Option<u32>,
    ) -> Result<Vec<String>> {
        let mut recorded = recorded_in(txn, None, MIGRATION_TABLE).await?;
        // Another program, such as a host's migrator, may have dropped tables or parts of them.
        let obsolete: Vec<String> = match state {
            SchemaState::Current => Vec::new(),
            SchemaState::Missing => std::mem::take(&mut recorded),
            SchemaState::Outdated { pending } => recorded
                .extract_if(.., |name| pending.contains(name))
                .collect(),
            unfit => return Err(Error::Unfit(unfit)),
        };
        delete_records(txn, obsolete).await?;

        let steps = steps.map_or(usize::MAX, |steps| steps as usize);
        let pending: Vec<&SchemaMigration> = self
            .migrations
            .iter()
            .filter(|migration| !recorded.iter().any(|name| name == migration.name))
            .take(steps)
            .collect();
        // `CREATE TABLE IF NOT EXISTS` needs the privilege to create tables even if the table
        // exists.
        if !pending.is_empty() {
            txn.execute(&records::create_table()).await?;
        }
        for migration in &pending {
            migration.apply(txn).await?;
            txn.execute(&records::insert(migration.name, now())).await?;
        }
        Ok(names(pending.into_iter()))
    }

    async fn down_in(
        &self,
        txn: &DatabaseTransaction,
        state: SchemaState,
        steps: u32,
    ) -> Result<Vec<String>> {
        if let SchemaState::Foreign { .. } | SchemaState::TooNew { .. } = state {
            return Err(Error::Unfit(state));
        }
        // Newer migrations depend on those that would be rolled back.
        let unknown = unknown_to(self.migrations, &recorded(txn, None).await?);
        if !unknown.is_empty() {
            return Err(Error::Unfit(SchemaState::TooNew { unknown }));
        }
        let recorded = recorded_in(txn, None, MIGRATION_TABLE).await?;
        let applied: Vec<&SchemaMigration> = self
            .migrations
            .iter()
            .rev()
            .filter(|migration| recorded.iter().any(|name| name == migration.name))
            .take(steps as usize)
            .collect();
        for migration in &applied {
            migration.revert(txn, self.rows).await?;
            delete_records(txn, vec![migration.name.to_owned()]).await?;
        }
        Ok(names(applied.into_iter()))
    }

    /// Sets the schema for the transaction, since the statements of migrations name none.
    async fn enter_schema(&self, txn: &DatabaseTransaction) -> Result<()> {
        if !is_postgres(txn) {
            return Ok(());
        }
        let schema = match &self.schema {
            Some(schema) => Some(existing_schema(txn, schema).await?),
            None => schema_of_our_tables(txn).await?,
        };
        if let Some(schema) = schema {
            set_for_transaction(txn, "search_path", &schema).await?;
        }
        Ok(())
    }

    fn schema_on(&self, db: &impl ConnectionTrait) -> Option<&SchemaName> {
        self.schema.as_ref().filter(|_| is_postgres(db))
    }
}

/// How long a migration waits for a lock on a table. Other statements on the table queue behind it.
const LOCK_TIMEOUT: &str = "2s";

/// How often a migration is tried while others lock its tables.
const TRIES: u32 = 30;
/// Each try waits for the busy timeout.
const TRIES_ON_SQLITE: u32 = 3;
const PAUSE: Duration = Duration::from_secs(1);

/// Changes a setting for this transaction only, so it doesn't leak to other clients of a pooler.
async fn set_for_transaction(
    txn: &DatabaseTransaction,
    setting: &str,
    value: &str,
) -> Result<(), DbErr> {
    let set = Func::cust("set_config").arg(setting).arg(value).arg(true);
    txn.query_all(&Query::select().expr(set).take()).await?;
    Ok(())
}

/// Returns the schema in which the connection's own queries find our tables, quoted if necessary.
///
/// Queries look in every schema of the search path, but tables are created in the first. Without
/// this function, a role with a schema of its own would get a second, empty history there.
async fn schema_of_our_tables(txn: &DatabaseTransaction) -> Result<Option<String>> {
    for migration in MIGRATIONS {
        let table = Func::cust("to_regclass").arg(migration.change.table());
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

/// Returns the schema's name, or an error if the schema doesn't exist.
async fn existing_schema(txn: &DatabaseTransaction, schema: &SchemaName) -> Result<String> {
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

/// Returns the seconds since the epoch, as SeaORM's migrator records them. No decision depends on
/// them, so they need no `Clock`.
fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| since.as_secs() as i64)
}

/// Deletes the records of these migrations.
async fn delete_records(txn: &DatabaseTransaction, names: Vec<String>) -> Result<(), DbErr> {
    if !names.is_empty() {
        txn.execute(&records::delete(names)).await?;
    }
    Ok(())
}

fn names<'a>(migrations: impl Iterator<Item = &'a SchemaMigration>) -> Vec<String> {
    migrations
        .map(|migration| migration.name.to_owned())
        .collect()
}

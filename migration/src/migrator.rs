use std::time::{Duration, SystemTime, UNIX_EPOCH};

use runtrail_db::DriverErrorKind;
use sea_orm::sea_query::{Expr, ExprTrait, Func, Query};
use sea_orm::{ConnectionTrait, DatabaseConnection, DatabaseTransaction, DbErr};

use crate::catalog::{is_postgres, strings};
use crate::lock::in_locked_transaction;
use crate::records::{self, MIGRATION_TABLE};
use crate::schema_migration::{Rows, SchemaMigration};
use crate::schema_state::{Parts, recorded, recorded_in, unknown_to};
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

/// Migrates Runtrail's own tables: all in one transaction, which holds a lock against every other migrator.
///
/// There is no `fresh`: nothing here drops a table that isn't ours.
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
    /// Migrates where the connection's own queries would look for the tables.
    pub fn new() -> Self {
        Self::default()
    }

    /// Migrates in this schema of a PostgreSQL database, which must exist; ignored on SQLite.
    pub fn in_schema(schema: SchemaName) -> Self {
        Self {
            schema: Some(schema),
            ..Self::default()
        }
    }

    /// The migrator of a later version with changes that this one can live with: for tests of rolling updates.
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

    /// Where the database stands, by the records of its migrations. Reads only; works in a transaction too.
    ///
    /// # Errors
    ///
    /// [`Error::Database`].
    pub async fn state(&self, db: &impl ConnectionTrait) -> Result<SchemaState> {
        Ok(SchemaState::inspect(db, self.schema_on(db), self.migrations, Parts::Recorded).await?)
    }

    /// Like [`state`](Self::state), but also checks the keys, indexes and collations of the tables: a table that has
    /// lost one is [`Outdated`](SchemaState::Outdated) if [`up`](Self::up) adds it again, else
    /// [`Incomplete`](SchemaState::Incomplete).
    ///
    /// # Errors
    ///
    /// [`Error::Database`].
    pub async fn full_state(&self, db: &impl ConnectionTrait) -> Result<SchemaState> {
        Ok(SchemaState::inspect(db, self.schema_on(db), self.migrations, Parts::Checked).await?)
    }

    /// Fails if an event would outlive its run: its table has lost the foreign key. Reads only.
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

    /// Every migration with whether it was applied. Reads only.
    ///
    /// # Errors
    ///
    /// [`Error::Database`], and [`Error::Unfit`] when the database is too new or not ours.
    pub async fn status(&self, db: &impl ConnectionTrait) -> Result<Vec<MigrationEntry>> {
        // Another process may be migrating a SQLite file.
        let look = || self.full_state(db);
        let state = DriverErrorKind::retry_while_busy(TRIES, PAUSE / 10, look).await?;
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
    /// It works on a live database: on PostgreSQL it waits for the lock on a table for two seconds at a time, and up to
    /// 30 times, so that other statements don't queue up behind it.
    /// A try that has begun goes on to its end even when the future is dropped.
    /// What a host's migrator has already applied is taken over into our own table.
    ///
    /// # Errors
    ///
    /// [`Error::Unfit`], [`Error::NoSuchSchema`], [`Error::Database`], [`Error::Interrupted`]; then nothing has
    /// changed.
    pub async fn up(&self, db: &DatabaseConnection, steps: Option<u32>) -> Result<Vec<String>> {
        self.run(db, Direction::Up(steps)).await
    }

    /// Rolls back the last `steps` migrations and returns their names.
    ///
    /// That drops their tables, which must be empty unless [`deleting_rows`](Self::deleting_rows) is set. It fails on a
    /// schema with newer migrations than this version knows.
    /// A try that has begun continues to its end even when the future is dropped.
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
        let gone: Vec<String> = match state {
            SchemaState::Current => Vec::new(),
            SchemaState::Missing => std::mem::take(&mut recorded),
            SchemaState::Outdated { pending } => recorded
                .extract_if(.., |name| pending.contains(name))
                .collect(),
            unfit => return Err(Error::Unfit(unfit)),
        };
        forget(txn, gone).await?;

        let steps = steps.map_or(usize::MAX, |steps| steps as usize);
        let pending: Vec<&SchemaMigration> = self
            .migrations
            .iter()
            .filter(|migration| !recorded.iter().any(|name| name == migration.name))
            .take(steps)
            .collect();
        // Even `CREATE TABLE IF NOT EXISTS` needs the right to create tables.
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
        // What newer migrations have made depends on what is rolled back here.
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
            forget(txn, vec![migration.name.to_owned()]).await?;
        }
        Ok(names(applied.into_iter()))
    }

    /// Sets the schema of the transaction, since the statements of migrations name none.
    async fn enter_schema(&self, txn: &DatabaseTransaction) -> Result<()> {
        if !is_postgres(txn) {
            return Ok(());
        }
        let schema = match &self.schema {
            Some(schema) => Some(existing(txn, schema).await?),
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

/// How long a migration waits for a lock on a table. While it waits, everybody else waits behind it.
const LOCK_TIMEOUT: &str = "2s";

/// How often a migration is tried on a table that others use.
const TRIES: u32 = 30;
/// Each of them waits for the driver's own timeout.
const TRIES_ON_SQLITE: u32 = 3;
const PAUSE: Duration = Duration::from_secs(1);

/// Changes a setting until the end of this transaction only, so that a pooler between us and the server sees nothing.
async fn set_for_transaction(
    txn: &DatabaseTransaction,
    setting: &str,
    value: &str,
) -> Result<(), DbErr> {
    let set = Func::cust("set_config").arg(setting).arg(value).arg(true);
    txn.query_all(&Query::select().expr(set).take()).await?;
    Ok(())
}

/// The schema in which the connection's own queries find our tables, quoted where it has to be.
///
/// They look in every schema of the search path, while tables are created in its first: without this, a role with a
/// schema of its own would get a second, empty history there.
async fn schema_of_our_tables(txn: &DatabaseTransaction) -> Result<Option<String>> {
    for migration in MIGRATIONS {
        let table = Func::cust("to_regclass").arg(migration.makes.table());
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

/// Seconds since the epoch, as SeaORM's migrator records them. No decision depends on them, so they need no `Clock`.
fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| since.as_secs() as i64)
}

/// Drops the records of migrations whose tables, or parts of them, somebody else has dropped: a host's migrator going
/// down, say.
async fn forget(txn: &DatabaseTransaction, gone: Vec<String>) -> Result<(), DbErr> {
    if !gone.is_empty() {
        txn.execute(&records::delete(gone)).await?;
    }
    Ok(())
}

fn names<'a>(migrations: impl Iterator<Item = &'a SchemaMigration>) -> Vec<String> {
    migrations
        .map(|migration| migration.name.to_owned())
        .collect()
}

use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use sea_orm::{DbBackend, DbErr, Statement};

use super::error;
use super::file::SqliteFile;
use super::statement_log::StatementLog;
use super::statements::Statements;
use crate::{Cost, Executor, Plan, Pool, Row};

/// A connection that writes a SQLite file, for the thread that owns it.
///
/// Its futures never wait; instead, they block the thread while SQLite works.
pub struct FileConnection {
    statements: Mutex<Statements>,
    logs_statements: bool,
}

impl FileConnection {
    pub(super) fn open(file: &SqliteFile) -> rusqlite::Result<Self> {
        Ok(Self {
            statements: Mutex::new(Statements::new(file.open()?)),
            logs_statements: file.logs_statements,
        })
    }

    /// Begins a transaction, and acquires the lock for writing.
    ///
    /// # Errors
    ///
    /// SQLite's own failures, also if another process keeps the lock.
    pub fn begin(&self) -> Result<(), DbErr> {
        self.control("BEGIN IMMEDIATE")
    }

    /// Commits the transaction. If this fails, the transaction may still be open.
    ///
    /// # Errors
    ///
    /// SQLite's own failures.
    pub fn commit(&self) -> Result<(), DbErr> {
        self.control("COMMIT")
    }

    /// Rolls the transaction back, if it is still open.
    ///
    /// # Errors
    ///
    /// SQLite's own failures. The transaction may then still be open, so the connection must not be
    /// used again.
    pub fn rollback(&self) -> Result<(), DbErr> {
        match self.is_in_transaction() {
            true => self.control("ROLLBACK"),
            false => Ok(()),
        }
    }

    /// Returns whether a transaction is open. SQLite rolls a transaction back on its own after some
    /// failures, such as a full disk.
    pub fn is_in_transaction(&self) -> bool {
        !self.statements().connection().is_autocommit()
    }

    fn control(&self, sql: &str) -> Result<(), DbErr> {
        let _log = self.logs_statements.then(|| StatementLog::new(sql));
        let statements = self.statements();
        let mut prepared = statements
            .connection()
            .prepare_cached(sql)
            .map_err(error::database)?;
        prepared.execute([]).map(drop).map_err(error::database)
    }

    fn statements(&self) -> MutexGuard<'_, Statements> {
        self.statements
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl Executor for FileConnection {
    fn backend(&self) -> DbBackend {
        DbBackend::Sqlite
    }

    fn pool(&self) -> Option<&Pool> {
        None
    }

    async fn rows(&self, query: Statement, _cost: Cost, plan: Plan) -> Result<Vec<Row>, DbErr> {
        let mut log = self.logs_statements.then(|| StatementLog::new(&query.sql));
        let rows = self
            .statements()
            .fetch(&query, plan)
            .map_err(error::database)?;
        if let Some(log) = &mut log {
            log.set_rows(rows.len());
        }
        Ok(rows)
    }

    async fn changes(&self, statement: Statement) -> Result<u64, DbErr> {
        let _log = self
            .logs_statements
            .then(|| StatementLog::new(&statement.sql));
        let changes = self.statements().execute(&statement);
        changes.map_err(error::database)
    }
}

impl fmt::Debug for FileConnection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FileConnection").finish_non_exhaustive()
    }
}

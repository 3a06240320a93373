//! Statements whose text is built only once.

use std::sync::OnceLock;

use runtrail_audit::Result;
use sea_orm::{DbBackend, Statement, StatementBuilder, Value, Values};

use crate::Plan;

/// What a [`Session`](crate::Session) executes: a statement of the query builder, or a
/// [`ShapedStatement`].
pub trait Executable: Sync {
    /// Returns the text for this kind of database, and the values.
    fn statement(&self, backend: DbBackend) -> Statement;

    /// Returns whether the best plan depends on the values.
    fn plan(&self) -> Plan {
        Plan::ByValues
    }
}

impl<T: StatementBuilder> Executable for T {
    fn statement(&self, backend: DbBackend) -> Statement {
        self.build(&backend)
    }
}

/// The text of a statement that differs between calls only in its values.
///
/// Building the text of a short query takes about as long as SQLite needs to execute it.
#[derive(Debug, Default)]
pub struct Shape {
    text: Text,
    /// The text with a lock timeout.
    text_with_lock_timeout: Text,
}

type Text = OnceLock<(DbBackend, String)>;

impl Shape {
    /// Returns the statement with these values, in the order of its placeholders. `build` returns
    /// the same statement, and is called only if the text isn't known yet.
    pub(crate) fn statement<B: StatementBuilder>(
        &self,
        backend: DbBackend,
        has_lock_timeout: bool,
        values: impl IntoIterator<Item = Value>,
        build: impl FnOnce() -> Result<B>,
    ) -> Result<ShapedStatement> {
        let text = match has_lock_timeout {
            true => &self.text_with_lock_timeout,
            false => &self.text,
        };
        let values = Values(values.into_iter().collect());
        let known = text.get().filter(|(built_for, _)| *built_for == backend);
        let sql = match known {
            Some((_, sql)) if !cfg!(debug_assertions) => sql.clone(),
            // Debug builds build it every time, to check the stored text.
            _ => {
                let built = build()?.build(&backend);
                debug_assert_eq!(built.values.as_ref(), Some(&values), "{}", built.sql);
                let (built_for, sql) = text.get_or_init(|| (backend, built.sql.clone()));
                debug_assert!(
                    *built_for != backend || *sql == built.sql,
                    "{sql}\n{}",
                    built.sql
                );
                known.map_or(built.sql, |(_, sql)| sql.clone())
            }
        };
        Ok(ShapedStatement(Statement {
            sql,
            values: Some(values),
            db_backend: backend,
        }))
    }
}

/// A statement from a [`Shape`].
#[derive(Debug)]
pub struct ShapedStatement(Statement);

impl Executable for ShapedStatement {
    fn statement(&self, _backend: DbBackend) -> Statement {
        self.0.clone()
    }

    fn plan(&self) -> Plan {
        Plan::Fixed
    }
}

/// A query and whether its best plan depends on its values.
#[derive(Debug)]
pub struct Planned<Q>(pub Q, pub Plan);

impl<Q: StatementBuilder> Executable for Planned<Q> {
    fn statement(&self, backend: DbBackend) -> Statement {
        self.0.build(&backend)
    }

    fn plan(&self) -> Plan {
        self.1
    }
}

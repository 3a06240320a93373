use sea_orm::sea_query::{ColumnDef, Expr, Query};
use sea_orm::{ConnectionTrait, DbBackend, Iden, Statement};

use crate::shape::{Completeness, Shape};
use crate::{Error, Result, SchemaState, catalog, schema_state};

/// A migration as data: what it makes, and the statements that make and unmake it.
///
/// Every statement can be repeated (`IF NOT EXISTS`), since a database may be migrated by a host's migrator
/// first and by ours later, or the other way round.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SchemaMigration {
    pub(crate) name: &'static str,
    /// The table that it makes.
    pub(crate) table: &'static str,
    /// The columns that tell this table from a host's table with the same name.
    pub(crate) columns: &'static [&'static str],
    pub(crate) up: fn(DbBackend) -> Vec<Statement>,
    pub(crate) down: fn(DbBackend) -> Vec<Statement>,
}

impl SchemaMigration {
    /// Creates the table, or completes one that was created from the entities.
    pub(crate) async fn apply(&self, db: &impl ConnectionTrait) -> Result<()> {
        self.refuse_unfit(db).await?;
        execute(db, self.up).await?;
        match Shape::of(self.table) {
            Some(shape) => shape.complete(db).await,
            None => Ok(()),
        }
    }

    /// Drops the table; by default only if it is empty.
    pub(crate) async fn revert(&self, db: &impl ConnectionTrait, rows: Rows) -> Result<()> {
        // Otherwise `DROP` could drop a host's table of the same name.
        if let Some(foreign) = schema_state::foreign_table(db, None, self).await? {
            return Err(Error::Unfit(foreign.into()));
        }
        if rows == Rows::Refuse && self.has_rows(db).await? {
            return Err(Error::NotEmpty { table: self.table });
        }
        execute(db, self.down).await
    }

    /// `IF NOT EXISTS` would accept a host's table of the same name.
    async fn refuse_unfit(&self, db: &impl ConnectionTrait) -> Result<()> {
        if let Some(encoding) = catalog::unsupported_encoding(db).await? {
            return Err(Error::Unfit(SchemaState::UnsupportedEncoding { encoding }));
        }
        if let Some(foreign) = schema_state::foreign_table(db, None, self).await? {
            return Err(Error::Unfit(foreign.into()));
        }
        if let Some(shape) = Shape::of(self.table)
            && self.is_there(db).await?
            && let Completeness::Unfit(state) = shape.completeness(db, None).await?
        {
            return Err(Error::Unfit(state));
        }
        Ok(())
    }

    async fn is_there(&self, db: &impl ConnectionTrait) -> Result<bool> {
        Ok(!catalog::columns(db, None, self.table).await?.is_empty())
    }

    async fn has_rows(&self, db: &impl ConnectionTrait) -> Result<bool> {
        if !self.is_there(db).await? {
            return Ok(false);
        }
        if catalog::is_postgres(db) {
            // Otherwise DROP would delete rows that were written after the check. SQLite has one writer.
            let lock = format!("LOCK TABLE {} IN ACCESS EXCLUSIVE MODE", self.table);
            #[expect(
                clippy::disallowed_methods,
                reason = "the query builder has no LOCK TABLE"
            )]
            let lock = Statement::from_string(DbBackend::Postgres, lock);
            db.execute_raw(lock).await?;
        }
        let query = Query::select()
            .expr(Expr::val(1))
            .from(self.table)
            .limit(1)
            .take();
        Ok(!db.query_all(&query).await?.is_empty())
    }
}

/// Whether to drop a table that has rows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Rows {
    #[default]
    Refuse,
    Delete,
}

async fn execute(
    db: &impl ConnectionTrait,
    statements: fn(DbBackend) -> Vec<Statement>,
) -> Result<()> {
    for statement in statements(db.get_database_backend()) {
        db.execute_raw(statement).await?;
    }
    Ok(())
}

/// A column of short text that compares by bytes on both backends.
pub(crate) fn identifier(backend: DbBackend, column: impl Iden + 'static) -> ColumnDef {
    let mut definition = ColumnDef::new(column);
    definition.text();
    if backend == DbBackend::Postgres {
        definition.extra(r#"COLLATE "C""#);
    }
    definition
}

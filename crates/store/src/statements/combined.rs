//! Starts, events and finishes in one statement.

use runtrail_audit::Result;
use runtrail_db::Executor;
use runtrail_entity::{skill_run, skill_run_log};
use sea_orm::sea_query::{
    Asterisk, CommonTableExpression, Expr, ExprTrait, IntoColumnRef, Query, ReturningClause,
    SelectStatement, SubQueryStatement, WithClause,
};

use crate::settings::Session;
use crate::statements::finishes::{self, Finish};
use crate::statements::{logs, starts};

/// How many rows of each kind a statement has written.
#[derive(Default)]
pub(crate) struct Written {
    pub(crate) starts: u64,
    pub(crate) events: u64,
    pub(crate) finishes: u64,
}

/// Writes starts, events and finishes of distinct rows with one statement. Rows that it doesn't
/// write are already stored, or can't be written.
///
/// With several kinds, the database must support
/// [combined statements](runtrail_db::backend::combines_statements). No part of the statement sees
/// what the others write, so all writes about a run must be of one kind.
pub(crate) async fn execute(
    db: &Session<'_, impl Executor>,
    starts: &[&skill_run::Model],
    events: &[&skill_run_log::Model],
    finishes: &[&Finish],
) -> Result<Written> {
    let mut written = Written::default();
    match (starts, events, finishes) {
        ([], [], finishes) => {
            written.finishes = db.execute(&finishes::update_many(db, finishes)?).await?;
        }
        ([], events, []) => written.events = db.execute(&logs::insert_many(db, events)?).await?,
        (starts, [], []) => written.starts = db.execute(&starts::insert_many(db, starts)?).await?,
        _ => {
            let mut combined = Combined::default();
            if !starts.is_empty() {
                let mut insert = starts::insert_many(db, starts)?;
                insert.returning(returning((skill_run::Entity, skill_run::Column::Id)));
                combined.add("starts", insert.into(), &mut written.starts);
            }
            if !events.is_empty() {
                let mut insert = logs::insert_many(db, events)?;
                let run_id = (skill_run_log::Entity, skill_run_log::Column::RunId);
                insert.returning(returning(run_id));
                combined.add("events", insert.into(), &mut written.events);
            }
            if !finishes.is_empty() {
                let mut update = finishes::update_many(db, finishes)?;
                update.returning(returning((skill_run::Entity, skill_run::Column::Id)));
                combined.add("finishes", update.into(), &mut written.finishes);
            }
            combined.execute(db).await?;
        }
    }
    Ok(written)
}

/// A query whose parts write; it selects how many rows each has written.
///
/// `RETURNING` only counts rows here. It is safe because the driver reads the result to its end, and
/// so sees an error of the commit.
#[derive(Default)]
struct Combined<'a> {
    parts: WithClause,
    counts: SelectStatement,
    written: Vec<&'a mut u64>,
}

impl<'a> Combined<'a> {
    fn add(&mut self, name: &'static str, statement: SubQueryStatement, written: &'a mut u64) {
        let mut part = CommonTableExpression::new();
        self.parts
            .cte(part.table_name(name).query(statement).to_owned());
        let count = Query::select()
            .expr(Expr::col(Asterisk).count())
            .from(name)
            .take();
        self.counts
            .expr(Expr::SubQuery(None, Box::new(count.into())));
        self.written.push(written);
    }

    async fn execute(self, db: &Session<'_, impl Executor>) -> Result<()> {
        let statement = self.parts.query(self.counts);
        let changes = db.execute_parts(&statement, self.written.len()).await?;
        for (written, changes) in self.written.into_iter().zip(changes) {
            *written = changes;
        }
        Ok(())
    }
}

fn returning(column: impl IntoColumnRef) -> ReturningClause {
    Query::returning().column(column)
}

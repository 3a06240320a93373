//! Starts, events and finishes in one statement.

use runtrail_audit::Result;
use runtrail_db::Executor;
use runtrail_entity::{skill_run, skill_run_log};
use sea_orm::sea_query::{
    CommonTableExpression, Expr, IntoColumnRef, Query, ReturningClause, SelectStatement,
    SubQueryStatement, UnionType, WithClause, WithQuery,
};

use crate::settings::Session;
use crate::statements::finishes::{self, Finish};
use crate::statements::{logs, starts};

/// Writes starts, events and finishes of distinct rows with one statement. Returns the number of
/// rows written; other rows are already stored, or can't be written.
///
/// With several kinds, the database must support
/// [combined statements](runtrail_db::backend::combines_statements). No part of the statement sees
/// what the others write, so all writes about a run must be of one kind.
pub(crate) async fn execute(
    db: &Session<'_, impl Executor>,
    starts: &[&skill_run::Model],
    events: &[&skill_run_log::Model],
    finishes: &[&Finish],
) -> Result<u64> {
    match (starts, events, finishes) {
        ([], [], finishes) => db.execute(&finishes::update_many(db, finishes)?).await,
        ([], events, []) => db.execute(&logs::insert_many(db, events)?).await,
        (starts, [], []) => db.execute(&starts::insert_many(db, starts)?).await,
        _ => {
            let statement = combine(db, starts, events, finishes)?;
            db.execute(&statement).await
        }
    }
}

/// Returns a query whose parts write; it selects a row for each row written.
///
/// `RETURNING` only counts rows here. It is safe because the driver's `execute` reads the result to
/// its end, and so sees an error of the commit.
fn combine(
    db: &Session<'_, impl Executor>,
    starts: &[&skill_run::Model],
    events: &[&skill_run_log::Model],
    finishes: &[&Finish],
) -> Result<WithQuery> {
    let run_id = || returning((skill_run::Entity, skill_run::Column::Id));
    let mut parts: Vec<(&str, SubQueryStatement)> = Vec::new();
    if !starts.is_empty() {
        let insert = starts::insert_many(db, starts)?.returning(run_id()).take();
        parts.push(("starts", insert.into()));
    }
    if !events.is_empty() {
        let run_id = returning((skill_run_log::Entity, skill_run_log::Column::RunId));
        let insert = logs::insert_many(db, events)?.returning(run_id).take();
        parts.push(("events", insert.into()));
    }
    if !finishes.is_empty() {
        let update = finishes::update_many(db, finishes)?
            .returning(run_id())
            .take();
        parts.push(("finishes", update.into()));
    }
    let mut with = WithClause::new();
    let mut written = SelectStatement::new();
    for (index, (name, statement)) in parts.into_iter().enumerate() {
        let mut part = CommonTableExpression::new();
        with.cte(part.table_name(name).query(statement).to_owned());
        let rows = Query::select()
            .expr(Expr::Constant(true.into()))
            .from(name)
            .take();
        if index == 0 {
            written = rows;
        } else {
            written.union(UnionType::All, rows);
        }
    }
    Ok(with.query(written))
}

fn returning(column: impl IntoColumnRef) -> ReturningClause {
    Query::returning().column(column)
}

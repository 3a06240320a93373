//! Looks up runs and their ids.

use runtrail_audit::{Result, RunQuery, RunSummary, rules};
use runtrail_db::{Connection, Plan, Planned, Row};
use runtrail_entity::skill_run::Column;
use sea_orm::IdenStatic;
use sea_orm::sea_query::{Expr, ExprTrait, LikeExpr, Query, SelectStatement, UnionType};

use crate::read::list::{self, clamp};
use crate::read::{filter, labels};
use crate::settings::Session;

pub(crate) async fn ids(
    db: &Session<'_, impl Connection>,
    prefix: &str,
    suffix: &str,
    limit: u64,
) -> Result<Vec<String>> {
    let prefix = rules::identifier("id", prefix)?;
    let suffix = rules::identifier("id", suffix)?;
    let mut query = Query::select()
        .column(Column::Id)
        .from(db.runs())
        .order_by(Column::Id, sea_orm::Order::Asc)
        .limit(clamp(limit))
        .take();
    query.cond_where(filter::has_id_prefix(prefix));
    if !suffix.is_empty() {
        let escaped = suffix.replace('\\', "\\\\");
        let escaped = escaped.replace('%', "\\%").replace('_', "\\_");
        let pattern = LikeExpr::new(format!("%{escaped}")).escape('\\');
        query.and_where(Expr::col(Column::Id).like(pattern));
    }
    let rows = db.fetch(&Planned(query, Plan::Fixed)).await?;
    let shortest = prefix.len() + suffix.len();
    // SQLite's LIKE ignores the case of ASCII letters, so check the suffix again.
    Ok(readable_ids(&rows)
        .filter(|id| id.ends_with(suffix) && id.len() >= shortest)
        .collect())
}

/// Reads those of these runs that match a query.
pub(crate) async fn runs(
    db: &Session<'_, impl Connection>,
    run_ids: &[String],
    query: &RunQuery,
) -> Result<Vec<RunSummary>> {
    for run_id in run_ids {
        rules::identifier("run_id", run_id)?;
    }
    query.labels.iter().try_for_each(labels::check)?;
    if run_ids.is_empty() {
        return Ok(Vec::new());
    }
    list::matching(db, query, run_ids).await
}

/// The number of ids per query. Each id needs two subqueries, and SQLite allows 500 in a union.
const IDS_PER_QUERY: usize = 200;

pub(crate) async fn neighbours(
    db: &Session<'_, impl Connection>,
    ids: &[String],
) -> Result<Vec<String>> {
    let mut neighbours = Vec::with_capacity(2 * ids.len());
    for ids in ids.chunks(IDS_PER_QUERY) {
        let mut queries = ids.iter().flat_map(|id| select_neighbours(db, id));
        let Some(mut query) = queries.next() else {
            continue;
        };
        for other in queries {
            query.union(UnionType::All, other);
        }
        let rows = db.fetch(&Planned(query, Plan::Fixed)).await?;
        neighbours.extend(readable_ids(&rows));
    }
    Ok(neighbours)
}

/// Queries the id before this one, and the id after it.
fn select_neighbours(db: &Session<'_, impl Connection>, id: &str) -> [SelectStatement; 2] {
    let column = || Expr::col(Column::Id);
    let select = |value: Expr, condition: Expr| {
        Query::select()
            .expr_as(value, Column::Id.as_str())
            .from(db.runs())
            .and_where(condition)
            .take()
    };
    [
        select(column().max(), column().lt(id)),
        select(column().min(), column().gt(id)),
    ]
}

/// The ids of these rows. Ids that aren't texts are left out: SQLite can store any value in any
/// column.
fn readable_ids(rows: &[Row]) -> impl Iterator<Item = String> {
    let text = |row: &Row| row.get::<Option<String>>(Column::Id.as_str());
    rows.iter().filter_map(move |row| text(row).ok().flatten())
}

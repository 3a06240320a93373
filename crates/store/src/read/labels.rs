//! Finding runs by their labels.

use runtrail_audit::{Error, LabelFilter, Result, RunQuery, rules};
use runtrail_db::keyset::IndexTable;
use runtrail_db::{Connection, Plan, Planned, backend};
use runtrail_entity::run_label::{COLUMN, Column, Entity};
use runtrail_entity::skill_run;
use sea_orm::sea_query::{
    Asterisk, Expr, ExprTrait, IntoColumnRef, Query, SelectStatement, TableRef,
};
use sea_orm::{Condition, DbBackend};

use crate::error;
use crate::read::MAX_PARTS;
use crate::settings::Session;

/// A label whose runs the index lists in the order of their start.
#[derive(Clone, Debug)]
pub(crate) struct IndexedLabel {
    key: String,
    /// The accepted values; `None` for any value.
    values: Option<Vec<String>>,
}

impl IndexedLabel {
    /// Returns the labels through whose index the runs that match a filter can be read in the order
    /// of their start; none if that is impossible.
    fn of(filter: &LabelFilter) -> Vec<Self> {
        let label = |values| Self {
            key: filter.key().to_owned(),
            values,
        };
        match filter {
            LabelFilter::AnyOf { values, .. } if values.len() <= MAX_PARTS => {
                let values = values.iter().map(|value| vec![value.clone()]);
                values.map(Some).map(label).collect()
            }
            // Reads all runs with the key, and skips those with other values.
            LabelFilter::AnyOf { values, .. } => vec![label(Some(values.clone()))],
            LabelFilter::Exists { .. } => vec![label(None)],
            _ => Vec::new(),
        }
    }

    fn condition(&self, backend: DbBackend) -> Result<Expr> {
        let has_key = COLUMN.key.eq(self.key.as_str());
        Ok(match self.values.as_deref() {
            Some([value]) => has_key.and(COLUMN.value.eq(value.as_str())),
            Some(values) => has_key.and(backend::is_in(
                backend,
                Expr::col((Entity, Column::Value)),
                values,
            )?),
            None => has_key,
        })
    }

    pub(crate) fn index_table(&self, db: &Session<'_, impl Connection>) -> Result<IndexTable> {
        let is_of_run =
            Expr::col((Entity, Column::RunId)).equals((skill_run::Entity, skill_run::Column::Id));
        Ok(IndexTable {
            table: db.run_labels(),
            on: is_of_run.and(self.condition(db.backend())?),
            key: [Column::RunStartedAt, Column::RunId]
                .map(|column| (Entity, column).into_column_ref())
                .to_vec(),
        })
    }

    /// Selects the number of runs with this label, at most [`MANY`].
    fn count(&self, db: &Session<'_, impl Connection>) -> Result<SelectStatement> {
        let condition = Condition::all().add(self.condition(db.backend())?);
        Ok(count_some(db.run_labels(), condition))
    }
}

/// Selects the number of rows that satisfy a condition, at most [`MANY`].
fn count_some(table: TableRef, condition: Condition) -> SelectStatement {
    let some = Query::select()
        .expr(Expr::Constant(1.into()))
        .from(table)
        .cond_where(condition)
        .limit(MANY)
        .take();
    Query::select()
        .expr(Expr::col(Asterisk).count())
        .from_subquery(some, "some_rows")
        .take()
}

/// The start of a run, as the index of labels has it.
pub(crate) fn started_at() -> Expr {
    Expr::col((Entity, Column::RunStartedAt))
}

/// The number of runs from which a label counts as common.
const MANY: u64 = 1_000;

/// Removes from a query the condition on labels that the fewest runs satisfy, and returns its labels.
/// Returns none if no such condition can be read from the index of labels, or if even fewer runs
/// satisfy one of the `others`, which have indexes of their own.
///
/// The indexes know how common each value is. The planner of SQLite doesn't, and would sometimes read
/// all runs of an environment to find those of one session.
pub(crate) async fn take_rarest(
    db: &Session<'_, impl Connection>,
    query: &mut RunQuery,
    others: Vec<Condition>,
) -> Result<Vec<IndexedLabel>> {
    let mut candidates: Vec<(usize, Vec<IndexedLabel>)> = query
        .labels
        .iter()
        .map(IndexedLabel::of)
        .enumerate()
        .filter(|(_, labels)| !labels.is_empty())
        .collect();
    let mut counts = Vec::new();
    for (_, labels) in &candidates {
        let mut sum = Expr::Constant(0_i64.into());
        for label in labels {
            sum = sum.add(subquery(label.count(db)?));
        }
        counts.push(sum);
    }
    if counts.is_empty() {
        return Ok(Vec::new());
    }
    let others = others.into_iter();
    counts.extend(others.map(|condition| subquery(count_some(db.runs(), condition))));
    let rarest = match counts.len() {
        1 => 0,
        _ => lowest(db, counts).await?,
    };
    if rarest >= candidates.len() {
        return Ok(Vec::new());
    }
    let (index, labels) = candidates.swap_remove(rarest);
    query.labels.remove(index);
    Ok(labels)
}

/// Returns the position of the lowest of these counts, the first of several.
async fn lowest(db: &Session<'_, impl Connection>, counts: Vec<Expr>) -> Result<usize> {
    let positions = 0..counts.len();
    let query = Query::select().exprs(counts).take();
    let rows = db.fetch(&Planned(query, Plan::Fixed)).await?;
    let mut lowest = (0, i64::MAX);
    for row in &rows {
        for position in positions.clone() {
            let count = row.get(position).map_err(error::database)?;
            if count < lowest.1 {
                lowest = (position, count);
            }
        }
    }
    Ok(lowest.0)
}

fn subquery(query: SelectStatement) -> Expr {
    Expr::SubQuery(None, Box::new(query.into()))
}

pub(crate) fn check(filter: &LabelFilter) -> Result<()> {
    rules::label_key(filter.key())?;
    if let LabelFilter::AnyOf { values, .. } | LabelFilter::NoneOf { values, .. } = filter {
        for value in values {
            rules::identifier("label", value)?;
        }
    }
    Ok(())
}

/// The value of a run's label with this key, or NULL.
pub(crate) fn value_of_run(db: &Session<'_, impl Connection>, key: &str) -> Expr {
    let of_run = |column, of_run| Expr::col((Entity, column)).equals((skill_run::Entity, of_run));
    // Not a join: PostgreSQL would hash all runs with the label before it reads the first row.
    let value = Query::select()
        .column((Entity, Column::Value))
        .from(db.run_labels())
        .and_where(COLUMN.key.eq(key))
        .and_where(of_run(Column::RunStartedAt, skill_run::Column::StartedAt))
        .and_where(of_run(Column::RunId, skill_run::Column::Id))
        .limit(1)
        .take();
    subquery(value)
}

/// Whether the labels of a run satisfy a filter.
pub(crate) fn condition(
    db: &Session<'_, impl Connection>,
    filter: &LabelFilter,
) -> Result<Condition> {
    let value = || value_of_run(db, filter.key());
    let is_in = |values: &[String]| match values {
        [] => Ok(value().is_in(values)),
        values => backend::is_in(db.backend(), value(), values),
    };
    Ok(match filter {
        LabelFilter::AnyOf { values, .. } => Condition::all().add(is_in(values)?),
        LabelFilter::NoneOf { values, .. } => Condition::any()
            .add(value().is_null())
            .add(is_in(values)?.not()),
        LabelFilter::Exists { .. } => Condition::all().add(value().is_not_null()),
        _ => {
            return Err(Error::invalid(
                "labels",
                "have a condition that this store doesn't support",
            ));
        }
    })
}

//! Finding runs by their labels.

use runtrail_audit::{Error, LabelFilter, Result, RunQuery, rules};
use runtrail_db::keyset::IndexTable;
use runtrail_db::{Connection, Plan, Planned, backend};
use runtrail_entity::run_label::{COLUMN, Column, Entity};
use runtrail_entity::skill_run;
use sea_orm::Condition;
use sea_orm::sea_query::{Asterisk, Expr, ExprTrait, IntoColumnRef, Query, SelectStatement};

use crate::error;
use crate::read::filter::MAX_PARTS;
use crate::settings::Session;

/// A label whose runs the index lists in the order of their start.
#[derive(Clone, Debug)]
pub(crate) struct IndexedLabel {
    key: String,
    /// `None` for any value.
    value: Option<String>,
}

impl IndexedLabel {
    /// Returns the labels through whose index the runs that match a filter can be read in the order
    /// of their start; none if that is impossible.
    fn of(filter: &LabelFilter) -> Vec<Self> {
        let label = |value| Self {
            key: filter.key().to_owned(),
            value,
        };
        match filter {
            LabelFilter::AnyOf { values, .. } if values.len() <= MAX_PARTS => {
                values.iter().cloned().map(Some).map(label).collect()
            }
            LabelFilter::Exists { .. } => vec![label(None)],
            _ => Vec::new(),
        }
    }

    fn condition(&self) -> Expr {
        let has_key = COLUMN.key.eq(self.key.as_str());
        match &self.value {
            Some(value) => has_key.and(COLUMN.value.eq(value.as_str())),
            None => has_key,
        }
    }

    pub(crate) fn index_table(&self, db: &Session<'_, impl Connection>) -> IndexTable {
        let is_of_run =
            Expr::col((Entity, Column::RunId)).equals((skill_run::Entity, skill_run::Column::Id));
        IndexTable {
            table: db.run_labels(),
            on: is_of_run.and(self.condition()),
            key: [Column::RunStartedAt, Column::RunId]
                .map(|column| (Entity, column).into_column_ref())
                .to_vec(),
        }
    }

    /// Selects the number of runs with this label, at most [`MANY`].
    fn count(&self, db: &Session<'_, impl Connection>) -> SelectStatement {
        let some = Query::select()
            .expr(Expr::Constant(1.into()))
            .from(db.run_labels())
            .and_where(self.condition())
            .limit(MANY)
            .take();
        Query::select()
            .expr(Expr::col(Asterisk).count())
            .from_subquery(some, "some_runs")
            .take()
    }
}

/// The start of a run, as the index of labels has it.
pub(crate) fn started_at() -> Expr {
    Expr::col((Entity, Column::RunStartedAt))
}

/// The number of runs from which a label counts as common.
const MANY: u64 = 1_000;

/// Removes from a query the condition that the fewest runs satisfy, and returns its labels. Returns
/// none if no condition can be read from the index.
///
/// The index knows how common each value is. The planner of SQLite doesn't, and would sometimes read
/// all runs of an environment to find those of one session.
pub(crate) async fn take_rarest(
    db: &Session<'_, impl Connection>,
    query: &mut RunQuery,
) -> Result<Vec<IndexedLabel>> {
    let mut candidates: Vec<(usize, Vec<IndexedLabel>)> = query
        .labels
        .iter()
        .map(IndexedLabel::of)
        .enumerate()
        .filter(|(_, labels)| !labels.is_empty())
        .collect();
    if candidates.is_empty() {
        return Ok(Vec::new());
    }
    let rarest = match candidates.len() {
        1 => 0,
        _ => rarest(db, &candidates).await?,
    };
    let (index, labels) = candidates.swap_remove(rarest);
    query.labels.remove(index);
    Ok(labels)
}

/// Returns the position of the candidate that the fewest runs match.
async fn rarest(
    db: &Session<'_, impl Connection>,
    candidates: &[(usize, Vec<IndexedLabel>)],
) -> Result<usize> {
    let counts = candidates.iter().map(|(_, labels)| {
        let counts = labels.iter().map(|label| subquery(label.count(db)));
        counts.fold(Expr::Constant(0_i64.into()), |sum, count| sum.add(count))
    });
    let query = Query::select().exprs(counts).take();
    let rows = db.fetch(&Planned(query, Plan::Fixed)).await?;
    let mut fewest = (0, i64::MAX);
    for row in &rows {
        for position in 0..candidates.len() {
            let count = row.get(position).map_err(error::database)?;
            if count < fewest.1 {
                fewest = (position, count);
            }
        }
    }
    Ok(fewest.0)
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

/// Whether the labels of a run satisfy a filter.
pub(crate) fn condition(
    db: &Session<'_, impl Connection>,
    filter: &LabelFilter,
) -> Result<Condition> {
    let value = || {
        let labels = Expr::col((skill_run::Entity, skill_run::Column::Labels));
        backend::text_in_object(db.backend(), labels, filter.key())
    };
    let is_in = |values: &[String]| match values {
        [] => Ok(value().is_in(values)),
        values => backend::is_in(db.backend(), value(), values),
    };
    Ok(match filter {
        // Found by index rather than by reading all runs.
        LabelFilter::AnyOf { key, values } if values.len() > MAX_PARTS => {
            let runs = Query::select()
                .column(Column::RunId)
                .from(db.run_labels())
                .and_where(COLUMN.key.eq(key.as_str()))
                .and_where(
                    COLUMN
                        .value
                        .in_subquery(backend::unfold(db.backend(), values)?),
                )
                .take();
            Condition::all().add(skill_run::COLUMN.id.in_subquery(runs))
        }
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

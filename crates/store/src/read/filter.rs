//! Translates a filter to an SQL condition. No other file knows the SQL of its parts.

use runtrail_audit::{Bounds, Choice, Error, Parent, Result, RunQuery, RunStatus, rules};
use runtrail_db::keyset::IndexTable;
use runtrail_db::{Connection, Plan, backend};
use runtrail_entity::skill_run::{Column, Entity};
use sea_orm::sea_query::{Expr, ExprTrait, Query};
use sea_orm::{ColumnTrait, Condition, DbBackend, IdenStatic, Order, Value};

use crate::read::MAX_PARTS;
use crate::read::labels::{self, IndexedLabel};
use crate::settings::Session;
use crate::statements::owners;

/// A filter whose runs can be read from one index.
#[derive(Clone, Debug)]
pub(crate) struct Selection {
    pub(crate) query: RunQuery,
    /// The label through whose index the runs are read, if any; the query no longer contains it.
    label: Option<IndexedLabel>,
}

impl Selection {
    pub(crate) fn new(query: RunQuery) -> Self {
        Self { query, label: None }
    }

    pub(crate) fn including_dry_runs(&self) -> Self {
        Self {
            query: self.query.clone().include_dry_run(),
            label: self.label.clone(),
        }
    }

    /// Returns the index of the label, which lists its runs in the order of their start.
    pub(crate) fn index_table(
        &self,
        db: &Session<'_, impl Connection>,
    ) -> Result<Option<IndexTable>> {
        let label = self.label.as_ref();
        label.map(|label| label.index_table(db)).transpose()
    }
}

/// Divides a filter that accepts a few values of a column or label into one filter for each value,
/// which can be read from the index of that column or label. Otherwise returns the filter itself.
///
/// If all the values are rare, reading the runs by their start alone, and skipping those with other
/// values, would take long.
pub(crate) async fn split(
    db: &Session<'_, impl Connection>,
    query: &RunQuery,
) -> Result<Vec<Selection>> {
    // Without repeated values.
    let mut query = query.clone().sorted();
    query.labels.iter().try_for_each(labels::check)?;
    // With a prefix of the id, the primary key is read; for children, the index of the parent.
    if query.id_prefix.is_empty() && !matches!(query.parent, Parent::Run(_)) {
        let others = indexed_conditions(db, &query)?;
        let labels = labels::take_rarest(db, &mut query, others).await?;
        if !labels.is_empty() {
            let selection = |label| Selection {
                query: query.clone(),
                label: Some(label),
            };
            return Ok(labels.into_iter().map(selection).collect());
        }
    }
    let parts = split_by_column(query);
    Ok(parts.into_iter().map(Selection::new).collect())
}

/// Returns the conditions of a filter that can be read from the index of a column.
fn indexed_conditions(
    db: &Session<'_, impl Connection>,
    query: &RunQuery,
) -> Result<Vec<Condition>> {
    if query.labels.is_empty() {
        return Ok(Vec::new());
    }
    let new = || RunQuery::new().include_dry_run();
    let mut parts = Vec::new();
    let mut part = |choose: &dyn Fn(&mut RunQuery)| {
        let mut part = new();
        choose(&mut part);
        parts.push(part);
    };
    if is_required(&query.skills) {
        part(&|part| part.skills.only.clone_from(&query.skills.only));
    }
    if is_required(&query.callers) {
        part(&|part| part.callers.only.clone_from(&query.callers.only));
    }
    if is_required(&query.channels) {
        part(&|part| part.channels.only.clone_from(&query.channels.only));
    }
    if is_required(&query.statuses) {
        part(&|part| part.statuses.only.clone_from(&query.statuses.only));
    }
    if query.finished != Bounds::default() {
        part(&|part| part.finished = query.finished);
    }
    let parts = parts.into_iter().map(Selection::new);
    parts.map(|part| condition(db, &part)).collect()
}

fn is_required<T>(choice: &Choice<T>) -> bool {
    choice.only.is_some()
}

fn split_by_column(mut query: RunQuery) -> Vec<RunQuery> {
    fn by<T: Clone>(
        query: &mut RunQuery,
        choice: impl Fn(&mut RunQuery) -> &mut Choice<T>,
    ) -> Option<Vec<RunQuery>> {
        let is_divisible = |values: &mut Vec<T>| (2..=MAX_PARTS).contains(&values.len());
        let values = choice(query).only.take_if(is_divisible)?;
        let part = |value| {
            let mut part = query.clone();
            choice(&mut part).only = Some(vec![value]);
            part
        };
        Some(values.into_iter().map(part).collect())
    }

    if !query.id_prefix.is_empty() {
        return vec![query];
    }
    by(&mut query, |query| &mut query.skills)
        .or_else(|| by(&mut query, |query| &mut query.callers))
        .or_else(|| by(&mut query, |query| &mut query.channels))
        .or_else(|| by(&mut query, |query| &mut query.statuses))
        .unwrap_or_else(|| vec![query])
}

/// Returns the column from whose index a list should be read, if any, and its value: the only
/// column of which the filter requires a single value. The index sorts runs with this value by
/// their start.
///
/// PostgreSQL assumes that runs with a value are spread evenly, and may otherwise read runs by
/// their start alone. If a frequent value hasn't been used for months, it then reads and skips all
/// runs of those months. With several such columns, it knows better which value is rare.
pub(crate) fn single_value(
    db: &Session<'_, impl Connection>,
    Selection { query, label }: &Selection,
) -> Option<(Column, String)> {
    let has_other_index = !query.id_prefix.is_empty() || label.is_some();
    if !backend::assumes_even_spread(db.backend()) || has_other_index {
        return None;
    }
    let of_column = |column, (only, _): (Option<Vec<&str>>, Vec<&str>)| match only?[..] {
        [value] => Some((column, value.to_owned())),
        _ => None,
    };
    let parent = match &query.parent {
        Parent::Run(id) => Some((Column::ParentRunId, id.clone())),
        _ => None,
    };
    let values = [
        of_column(Column::Status, as_strs(&query.statuses)),
        of_column(Column::SkillId, as_strs(&query.skills)),
        of_column(Column::CallerId, as_strs(&query.callers)),
        of_column(Column::ChannelId, as_strs(&query.channels)),
        parent,
    ];
    let mut values = values.into_iter().flatten();
    let first = values.next();
    first.filter(|_| values.next().is_none())
}

/// Returns whether the best plan of a list depends on the values of its filter: whether it could be
/// read from one of several indexes, or from an index that has another order.
pub(crate) fn plan(Selection { query, label }: &Selection) -> Plan {
    let indexes = [
        is_required(&query.statuses),
        is_required(&query.skills),
        is_required(&query.callers),
        is_required(&query.channels),
        query.parent != Parent::Any,
        !query.id_prefix.is_empty(),
        label.is_some(),
    ];
    let has_other_order = query.finished != Bounds::default() || !query.id_prefix.is_empty();
    match indexes.into_iter().filter(|fits| *fits).count() {
        0 | 1 if !has_other_order => Plan::Fixed,
        _ => Plan::ByValues,
    }
}

pub(crate) fn condition(
    db: &Session<'_, impl Connection>,
    selection: &Selection,
) -> Result<Condition> {
    condition_in_index(db, selection, None)
}

/// Like [`condition`], for a list that is read from the index of the column `index`, of which the
/// filter requires a single value.
///
/// The condition on that column is a range. This hides from the planner that all rows have the same
/// value, so it needs an index that begins with the column to sort by it.
pub(crate) fn condition_in_index(
    db: &Session<'_, impl Connection>,
    Selection { query, label }: &Selection,
    index: Option<Column>,
) -> Result<Condition> {
    let equals = |column: Column, value: &str| match index {
        Some(index) if index.as_str() == column.as_str() => {
            column.gte(value).and(column.lte(value))
        }
        _ => column.eq(value),
    };
    let RunQuery {
        statuses,
        skills,
        callers,
        channels,
        parent,
        started,
        finished,
        runtime_seconds,
        total_tokens,
        id_prefix,
        include_dry_run,
        labels,
        stale_since,
        ..
    } = query;

    let mut all = Condition::all();
    let choices = [
        (Column::Status, "status", as_strs(statuses)),
        (Column::SkillId, "skill_id", as_strs(skills)),
        (Column::CallerId, "caller_id", as_strs(callers)),
        (Column::ChannelId, "channel_id", as_strs(channels)),
    ];
    for (column, field, (only, except)) in choices {
        for value in only.iter().flatten().chain(&except) {
            rules::identifier(field, value)?;
        }
        if let Some(only) = only {
            all = all.add(match only[..] {
                [value] => equals(column, value),
                _ => is_one_of(db.backend(), column, &only)?,
            });
        }
        if !except.is_empty() {
            all = all.add(is_one_of(db.backend(), column, &except)?.not());
        }
    }
    match parent {
        Parent::Any => {}
        Parent::None => all = all.add(Column::ParentRunId.is_null()),
        Parent::NoneStored => all = all.add(has_no_stored_parent(db)),
        Parent::Run(id) => {
            let id = rules::identifier("parent_run_id", id)?;
            all = all.add(equals(Column::ParentRunId, id));
        }
        // Ignoring an unknown variant would match too many runs.
        _ => {
            return Err(Error::invalid(
                "parent",
                "has a variant that this store doesn't support",
            ));
        }
    }
    let started_at = match label {
        Some(_) => labels::started_at(),
        None => Expr::col(Column::StartedAt),
    };
    all = add_bounds(all, started_at, started.map(rules::micros));
    all = add_bounds(
        all,
        Expr::col(Column::FinishedAt),
        finished.map(rules::micros),
    );
    let seconds = |seconds| rules::seconds("runtime_seconds", seconds);
    all = add_bounds(
        all,
        Expr::col(Column::RuntimeSeconds),
        runtime_seconds.try_map(seconds)?,
    );
    let tokens = |tokens| rules::count("total_tokens", tokens);
    all = add_bounds(all, total_tokens_of_run(), total_tokens.try_map(tokens)?);
    if !id_prefix.is_empty() {
        all = all.add(has_id_prefix(rules::identifier("id_prefix", id_prefix)?));
    }
    for filter in labels {
        all = all.add(labels::condition(db, filter)?);
    }
    if let Some(time) = stale_since {
        all = all.add(is_stale(db, rules::micros(*time)));
    }
    if !include_dry_run {
        all = all.add(Column::Status.ne(RunStatus::DRY_RUN.as_str()));
    }
    Ok(all)
}

/// Matches ids with this prefix, as a range of the primary key.
pub(crate) fn has_id_prefix(prefix: &str) -> Condition {
    let before_end = end_of_prefix(prefix).map(|end| Column::Id.lt(end));
    Condition::all()
        .add(Column::Id.gte(prefix))
        .add_option(before_end)
}

/// The accepted values and the excluded ones.
fn as_strs<T: AsRef<str>>(choice: &Choice<T>) -> (Option<Vec<&str>>, Vec<&str>) {
    fn as_strs<T: AsRef<str>>(values: &[T]) -> Vec<&str> {
        values.iter().map(AsRef::as_ref).collect()
    }
    (choice.only.as_deref().map(as_strs), as_strs(&choice.except))
}

fn is_one_of(backend: DbBackend, column: Column, values: &[&str]) -> Result<Expr> {
    match values {
        [] => Ok(column.is_in(values.iter().copied())),
        [value] => Ok(column.eq(*value)),
        values => backend::is_in(backend, Expr::col(column), values),
    }
}

/// Looks up each parent by its primary key. With `NOT EXISTS`, PostgreSQL may hash the ids of all
/// runs before it reads the first row: with 100,000 runs, a page then takes 50 to 100 ms instead of
/// less than 1 ms.
fn has_no_stored_parent(db: &Session<'_, impl Connection>) -> Condition {
    const PARENT: &str = "parent";

    let id = (PARENT, Column::Id);
    let parent = Query::select()
        .column(id)
        .from(db.runs().alias(PARENT))
        .and_where(Expr::col(id).equals((Entity, Column::ParentRunId)))
        .take();
    Condition::any()
        .add(Column::ParentRunId.is_null())
        .add(Expr::SubQuery(None, Box::new(parent.into())).is_null())
}

/// Whether a running run has shown no sign of life since this time.
fn is_stale(db: &Session<'_, impl Connection>, time: i64) -> Condition {
    use runtrail_entity::skill_run_log;

    let last_event = Query::select()
        .column((skill_run_log::Entity, skill_run_log::Column::CreatedAt))
        .from(db.logs())
        .and_where(
            Expr::col((skill_run_log::Entity, skill_run_log::Column::RunId))
                .equals((Entity, Column::Id)),
        )
        .order_by(skill_run_log::Column::Sequence, Order::Desc)
        .limit(1)
        .take();
    let last_event = Expr::SubQuery(None, Box::new(last_event.into()));
    Condition::all()
        .add(Column::FinishedAt.is_null())
        .add(Column::StartedAt.lt(time))
        .add(
            Condition::any()
                .add(last_event.clone().is_null())
                .add(last_event.lt(time)),
        )
        .add(owners::has_living_owner(db).not())
}

fn add_bounds<T: Into<Value>>(condition: Condition, value: Expr, bounds: Bounds<T>) -> Condition {
    let from = bounds.from.map(|from| value.clone().gte(from.into()));
    let to = bounds.to.map(|to| value.lte(to.into()));
    condition.add_option(from).add_option(to)
}

/// The sum as `numeric`, since three large counts can exceed 64 bits.
fn total_tokens_of_run() -> Expr {
    let tokens = |column| Expr::col(column).cast_as("numeric");
    tokens(Column::TotalInputTokens)
        .add(tokens(Column::TotalOutputTokens))
        .add(tokens(Column::TotalThinkingTokens))
}

/// The smallest text in byte order that is greater than every text with this prefix, if there is
/// one.
fn end_of_prefix(prefix: &str) -> Option<String> {
    let mut end = prefix.to_owned();
    while let Some(last) = end.pop() {
        // A range of `char` skips the surrogates.
        if let Some(next) = (last..=char::MAX).nth(1) {
            end.push(next);
            return Some(end);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use chrono::{DateTime, Utc};

    use super::*;

    /// The compiler can't check this: `RunQuery` is `non_exhaustive`, so a pattern needs `..`.
    #[test]
    fn every_part_of_a_query_is_in_its_condition() {
        const PARTS: [&str; 13] = [
            "callers",
            "channels",
            "finished",
            "id_prefix",
            "include_dry_run",
            "labels",
            "parent",
            "runtime_seconds",
            "skills",
            "stale_since",
            "started",
            "statuses",
            "total_tokens",
        ];
        let query = serde_json::to_value(RunQuery::new()).unwrap();
        let mut parts: Vec<&String> = query.as_object().unwrap().keys().collect();
        parts.sort();
        assert_eq!(
            parts, PARTS,
            "add the new part to `condition` and `ListId::of_runs`"
        );
    }

    #[test]
    fn a_plan_is_fixed_unless_several_indexes_fit() {
        let now = DateTime::<Utc>::UNIX_EPOCH;
        let new = RunQuery::new;
        for query in [
            new(),
            new().skills(["a"]),
            new().skills(["a", "b"]),
            new().children_of("a"),
            new().callers(["a"]).started(now..).except_skills(["b"]),
        ] {
            assert_eq!(
                plan(&Selection::new(query.clone())),
                Plan::Fixed,
                "{query:?}"
            );
        }
        for query in [
            new().skills(["a"]).statuses([RunStatus::OK]),
            new().skills(["a"]).without_stored_parent(),
            new().channels(["a"]).finished(..=now),
            new().finished(now..),
            new().id_prefix("a"),
        ] {
            assert_eq!(
                plan(&Selection::new(query.clone())),
                Plan::ByValues,
                "{query:?}"
            );
        }
    }

    #[test]
    fn a_prefix_ends_before_the_next_text_that_does_not_have_it() {
        for (prefix, end) in [
            ("a", Some("b")),
            ("az", Some("a{")),
            ("a\u{10FFFF}", Some("b")),
            ("\u{D7FF}", Some("\u{E000}")),
            ("\u{10FFFF}\u{10FFFF}", None),
            ("", None),
        ] {
            assert_eq!(end_of_prefix(prefix).as_deref(), end, "{prefix:?}");
        }
    }
}

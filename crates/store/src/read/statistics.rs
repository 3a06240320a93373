//! Statistics of runs and of calls.
//!
//! The database groups the rows, adds up their numbers, and lists the durations of each group. The
//! percentiles are selected from that list here. Ranking the durations in the database, with window
//! functions, takes three times as long on SQLite and on PostgreSQL.

use chrono::{DateTime, Utc};
use runtrail_audit::{
    CallStatistics, Dimension, Durations, Error, Result, RunQuery, RunStatistics, RunStatus,
    StatisticsQuery, StatisticsRow,
};
use runtrail_db::{Connection, Plan, Planned, Row, RowValue, backend};
use runtrail_entity::skill_run::{Column as RunColumn, Entity as Run};
use runtrail_entity::skill_run_log::{Column as LogColumn, Entity as Log};
use sea_orm::sea_query::{
    Alias, Asterisk, CaseStatement, Expr, ExprTrait, Func, Query, SelectStatement, UnionType,
    WindowStatement,
};
use sea_orm::{DbBackend, Order};

use crate::error;
use crate::read::buckets::start_of_bucket;
use crate::read::list::clamp;
use crate::read::{filter, labels, usage};
use crate::settings::Session;

/// The numbers of a run or a call, each with its name in the query.
type Numbers = Vec<(&'static str, Expr)>;

const FINISHED: &str = "finished";
const FAILED: &str = "failed";
const TOOL_CALLS: &str = "tool_calls";
const DURATION: &str = "duration";
const COST: &str = "cost_micros";

pub(crate) async fn of_runs(
    db: &Session<'_, impl Connection>,
    query: &StatisticsQuery,
) -> Result<Vec<StatisticsRow<RunStatistics>>> {
    query.check_for_runs()?;
    let statuses = RunStatus::FAILED.map(|status| status.to_string());
    let has_failed = run(RunColumn::Status).is_in(statuses);
    let has_finished = run(RunColumn::FinishedAt).is_not_null();
    let micros = backend::micros(db.backend(), run(RunColumn::RuntimeSeconds));
    let numbers = vec![
        (FINISHED, run(RunColumn::FinishedAt)),
        (FAILED, only_if(has_failed, Expr::Constant(1.into()))),
        (TOOL_CALLS, run(RunColumn::ToolCalls)),
        (DURATION, only_if(has_finished, micros)),
    ];
    let sample = sample(db, query, run(RunColumn::StartedAt), numbers, |runs| runs).await?;
    let totals = |sums: Sums| {
        let mut totals = totals(query, sample.clone());
        totals.exprs([FINISHED, FAILED].map(|name| Expr::col(name).count()));
        totals.exprs(sums.of(db.backend(), TOOL_CALLS));
        totals.expr(backend::listed(db.backend(), Expr::col(DURATION)));
        totals
    };
    fetch(db, query, totals, |runs, row| {
        let mut statistics = RunStatistics::default();
        statistics.runs = runs;
        statistics.finished = row.count()?;
        statistics.failed = row.count()?;
        statistics.tool_calls = row.sum()?;
        statistics.runtime = row.durations()?;
        Ok(statistics)
    })
    .await
}

pub(crate) async fn of_calls(
    db: &Session<'_, impl Connection>,
    query: &StatisticsQuery,
) -> Result<Vec<StatisticsRow<CallStatistics>>> {
    const TOKENS: [(&str, LogColumn); 5] = [
        ("input_tokens", LogColumn::InputTokens),
        ("cache_read_tokens", LogColumn::CacheReadTokens),
        ("cache_write_tokens", LogColumn::CacheWriteTokens),
        ("output_tokens", LogColumn::OutputTokens),
        ("thinking_tokens", LogColumn::ThinkingTokens),
    ];

    query.check()?;
    let mut numbers: Numbers = TOKENS.map(|(name, column)| (name, log(column))).into();
    numbers.push((COST, log(LogColumn::CostMicros)));
    numbers.push((DURATION, log(LogColumn::DurationMicros)));
    let sample = sample(db, query, log(LogColumn::CreatedAt), numbers, |mut runs| {
        let is_of_run = log(LogColumn::RunId).equals((Run, RunColumn::Id));
        runs.inner_join(db.logs(), is_of_run)
            .cond_where(usage::has_usage())
            .take()
    })
    .await?;
    let totals = |sums: Sums| {
        let mut totals = totals(query, sample.clone());
        totals.expr(Expr::col(COST).count());
        let names = TOKENS.map(|(name, _)| name).into_iter().chain([COST]);
        totals.exprs(names.flat_map(|name| sums.of(db.backend(), name)));
        totals.expr(backend::listed(db.backend(), Expr::col(DURATION)));
        totals
    };
    fetch(db, query, totals, |calls, row| {
        let mut statistics = CallStatistics::default();
        statistics.calls = calls;
        statistics.calls_without_cost = calls.saturating_sub(row.count()?);
        statistics.input_tokens = row.sum()?;
        statistics.cache_read_tokens = row.sum()?;
        statistics.cache_write_tokens = row.sum()?;
        statistics.output_tokens = row.sum()?;
        statistics.thinking_tokens = row.sum()?;
        statistics.cost_micros = row.sum()?;
        statistics.duration = row.durations()?;
        Ok(statistics)
    })
    .await
}

fn run(column: RunColumn) -> Expr {
    Expr::col((Run, column))
}

fn log(column: LogColumn) -> Expr {
    Expr::col((Log, column))
}

/// A value if a condition is true, and otherwise NULL.
fn only_if(condition: Expr, value: impl Into<Expr>) -> Expr {
    CaseStatement::new().case(condition, value).into()
}

/// Selects the keys of the row that each run or call belongs to, and its numbers. `of_runs` turns
/// a query of runs into one of their calls.
async fn sample(
    db: &Session<'_, impl Connection>,
    query: &StatisticsQuery,
    time: Expr,
    numbers: Numbers,
    of_runs: impl Fn(SelectStatement) -> SelectStatement,
) -> Result<SelectStatement> {
    let mut columns = Query::select();
    for (key, value) in keys(query).into_iter().zip(key_values(db, query, &time)?) {
        columns.expr_as(value, key);
    }
    for (name, number) in numbers {
        columns.expr_as(number, name);
    }
    let parts = match query.last_per_skill {
        None => select_runs(db, &query.runs, &columns).await?,
        Some(count) => {
            let newest = newest_of_each_skill(db, &query.runs, count).await?;
            let is_newest = backend::is_in_query(db.backend(), run(RunColumn::Id), newest);
            vec![columns.from(db.runs()).and_where(is_newest).take()]
        }
    };
    let sample = union(parts.into_iter().map(of_runs));
    Ok(backend::unmerged(db.backend(), sample))
}

/// Selects these columns of the runs that match a filter, in one query for each index that is read.
async fn select_runs(
    db: &Session<'_, impl Connection>,
    runs: &RunQuery,
    columns: &SelectStatement,
) -> Result<Vec<SelectStatement>> {
    let mut parts = Vec::new();
    for part in filter::split(db, runs).await? {
        let mut select = columns.clone();
        select
            .from(db.runs())
            .cond_where(filter::condition(db, &part)?);
        if let Some(index) = part.index_table(db)? {
            select.inner_join(index.table, index.on);
        }
        parts.push(select);
    }
    Ok(parts)
}

fn union(parts: impl IntoIterator<Item = SelectStatement>) -> SelectStatement {
    let mut parts = parts.into_iter();
    let mut first = parts.next().unwrap_or_default();
    first
        .unions(parts.map(|part| (UnionType::All, part)))
        .take()
}

/// Selects the ids of the newest runs of each skill, at most `count`.
async fn newest_of_each_skill(
    db: &Session<'_, impl Connection>,
    runs: &RunQuery,
    count: u64,
) -> Result<SelectStatement> {
    const POSITION: &str = "position";

    let columns = [RunColumn::Id, RunColumn::SkillId, RunColumn::StartedAt];
    let columns = Query::select()
        .columns(columns.map(|column| (Run, column)))
        .take();
    let runs = union(select_runs(db, runs, &columns).await?);
    let of_skill = WindowStatement::partition_by(RunColumn::SkillId)
        .order_by(RunColumn::StartedAt, Order::Desc)
        .order_by(RunColumn::Id, Order::Desc)
        .take();
    let numbered = Query::select()
        .column(RunColumn::Id)
        .expr_window_as(Func::cust("ROW_NUMBER"), of_skill, POSITION)
        .from_subquery(runs, "selected_runs")
        .take();
    Ok(Query::select()
        .column(RunColumn::Id)
        .from_subquery(numbered, "numbered_runs")
        .and_where(Expr::col(POSITION).lte(clamp(count)))
        .take())
}

/// The names of the columns that identify a row, in the order in which they are grouped. The bucket
/// is first: if SQLite could begin with the skill, it would read all runs by skill, and not only
/// those of the time.
fn keys(query: &StatisticsQuery) -> Vec<Alias> {
    let group = (0..query.group_by.len()).map(|number| Alias::new(format!("group_{number}")));
    let bucket = query.buckets.iter().map(|_| Alias::new("bucket"));
    let has_tiers = !query.input_tiers.is_empty();
    let tier = has_tiers.then(|| Alias::new("input_tier"));
    bucket.chain(group).chain(tier).collect()
}

/// Their values, in the same order.
fn key_values(
    db: &Session<'_, impl Connection>,
    query: &StatisticsQuery,
    time: &Expr,
) -> Result<Vec<Expr>> {
    let value_of = |dimension: &Dimension| {
        Ok(match dimension {
            Dimension::Skill => run(RunColumn::SkillId),
            Dimension::Caller => run(RunColumn::CallerId),
            Dimension::Channel => run(RunColumn::ChannelId),
            Dimension::Status => run(RunColumn::Status),
            Dimension::Label(key) => labels::value_of_run(db, key),
            Dimension::Provider => log(LogColumn::Provider),
            Dimension::Model => log(LogColumn::Model),
            _ => {
                return Err(Error::invalid(
                    "group_by",
                    "has a dimension that this store doesn't support",
                ));
            }
        })
    };
    let bucket = query.buckets.as_ref();
    let bucket = bucket.map(|buckets| Ok(start_of_bucket(buckets, time)));
    let group = query.group_by.iter().map(value_of);
    let mut values: Vec<Expr> = bucket.into_iter().chain(group).collect::<Result<_>>()?;
    if !query.input_tiers.is_empty() {
        values.push(start_of_tier(&query.input_tiers));
    }
    Ok(values)
}

/// The highest of these numbers that a call's input tokens reach.
fn start_of_tier(tiers: &[u64]) -> Expr {
    let mut tiers = tiers.to_vec();
    tiers.sort();
    let tokens = || log(LogColumn::InputTokens);
    let highest_first = tiers.into_iter().rev();
    let tier = highest_first.fold(CaseStatement::new(), |case, tier| {
        case.case(tokens().gte(tier), Expr::val(tier).cast_as("bigint"))
    });
    tier.into()
}

/// Selects the keys of each row, and how many runs or calls belong to it.
fn totals(query: &StatisticsQuery, sample: SelectStatement) -> SelectStatement {
    let mut totals = Query::select();
    for key in keys(query) {
        totals.column(key.clone()).group_by_col(key);
    }
    totals
        .expr(Expr::col(Asterisk).count())
        .from_subquery(sample, "sample")
        .take()
}

/// How numbers are added up. [`Values::sum`] reads the sums.
#[derive(Clone, Copy, PartialEq)]
enum Sums {
    /// As a floating-point number, which is exact below [`Sums::LIMIT`].
    Rounded,
    /// The upper and the lower half of each number separately, since a sum of the numbers could
    /// overflow. Takes longer.
    Exact,
}

impl Sums {
    /// The first integer that a floating-point number can't tell from the next one.
    const LIMIT: f64 = (1_u64 << f64::MANTISSA_DIGITS) as f64;

    fn of(self, backend: DbBackend, name: &'static str) -> Vec<Expr> {
        const LOWER_HALF: i64 = u32::MAX as i64;

        let number = Expr::col(name);
        match self {
            Self::Rounded => vec![backend::rounded_sum(backend, number)],
            Self::Exact => {
                let upper = number.clone().right_shift(Expr::Constant(32.into()));
                let lower = number.bit_and(Expr::Constant(LOWER_HALF.into()));
                let halves = [upper, lower].map(|half| half.sum().cast_as("bigint"));
                halves.into()
            }
        }
    }
}

async fn fetch<T: Send>(
    db: &Session<'_, impl Connection>,
    query: &StatisticsQuery,
    totals: impl Fn(Sums) -> SelectStatement + Send,
    read: impl Fn(u64, &mut Values<'_>) -> Result<T> + Send,
) -> Result<Vec<StatisticsRow<T>>> {
    let rounded = Planned(totals(Sums::Rounded), Plan::ByValues);
    let rounded = db.fetch_long(&rounded).await?;
    if let (rows, true) = decode(query, &rounded, Sums::Rounded, &read)? {
        return Ok(rows);
    }
    let exact = Planned(totals(Sums::Exact), Plan::ByValues);
    let exact = db.fetch_long(&exact).await?;
    Ok(decode(query, &exact, Sums::Exact, &read)?.0)
}

/// Returns the rows, and whether all sums are exact.
fn decode<T>(
    query: &StatisticsQuery,
    fetched: &[Row],
    sums: Sums,
    read: impl Fn(u64, &mut Values<'_>) -> Result<T>,
) -> Result<(Vec<StatisticsRow<T>>, bool)> {
    let mut rows = Vec::with_capacity(fetched.len());
    let mut are_exact = true;
    for row in fetched {
        let mut values = Values {
            row,
            next: 0,
            sums,
            are_exact: true,
        };
        let bucket = query.buckets.as_ref().map(|_| values.time());
        let group = query.group_by.iter().map(|_| values.text());
        let group = group.collect::<Result<_>>()?;
        let has_tiers = !query.input_tiers.is_empty();
        let input_tier = has_tiers.then(|| values.number());
        let count = values.count()?;
        // Without a group, the database returns a row even for no runs.
        if count == 0 {
            continue;
        }
        let mut row = StatisticsRow::new(group, read(count, &mut values)?);
        row.bucket = bucket.transpose()?.flatten();
        row.input_tier = input_tier.transpose()?.flatten();
        rows.push(row);
        are_exact &= values.are_exact;
    }
    rows.sort_by(|a, b| {
        let key = |row: &StatisticsRow<T>| (row.bucket, row.input_tier);
        a.group.cmp(&b.group).then_with(|| key(a).cmp(&key(b)))
    });
    Ok((rows, are_exact))
}

/// Reads the values of a row from left to right.
struct Values<'a> {
    row: &'a Row,
    next: usize,
    sums: Sums,
    /// Whether all sums so far are exact.
    are_exact: bool,
}

impl Values<'_> {
    fn next<T: RowValue>(&mut self) -> Result<T> {
        let value = self.row.get(self.next).map_err(error::database);
        self.next += 1;
        value
    }

    fn text(&mut self) -> Result<Option<String>> {
        let text = self.row.get(self.next);
        let text = text.or_else(|err| {
            // A damaged value must not hide the other rows.
            let bytes: Option<Vec<u8>> = self.row.get(self.next).map_err(|_| err)?;
            Ok(bytes.map(|bytes| String::from_utf8_lossy(&bytes).into_owned()))
        });
        self.next += 1;
        text.map_err(error::database)
    }

    fn time(&mut self) -> Result<Option<DateTime<Utc>>> {
        let micros: Option<i64> = self.next()?;
        Ok(micros.and_then(DateTime::from_timestamp_micros))
    }

    fn number(&mut self) -> Result<Option<u64>> {
        let number: Option<i64> = self.next()?;
        Ok(number.map(i64::unsigned_abs))
    }

    fn count(&mut self) -> Result<u64> {
        Ok(self.number()?.unwrap_or_default())
    }

    /// Saturates. The sum of damaged rows can be negative.
    fn sum(&mut self) -> Result<u64> {
        if self.sums == Sums::Rounded {
            let sum = self.next::<Option<f64>>()?.unwrap_or_default();
            self.are_exact &= sum.abs() < Sums::LIMIT;
            return Ok(sum as u64);
        }
        let [upper, lower] = [self.next::<Option<i64>>()?, self.next::<Option<i64>>()?]
            .map(|half| i128::from(half.unwrap_or_default()));
        let sum = (upper << 32) + lower;
        Ok(u64::try_from(sum.max(0)).unwrap_or(u64::MAX))
    }

    /// Leaves out damaged durations.
    fn durations(&mut self) -> Result<Durations> {
        let listed = self.text()?.unwrap_or_default();
        let micros = listed.split(',').filter_map(|micros| micros.parse().ok());
        Ok(Durations::of(micros.collect()))
    }
}

//! What can be copied: rows in the order of their keys, some at a time.

use std::collections::HashSet;
use std::fmt;

use async_trait::async_trait;
use runtrail_audit::{Error, ListOrder, Result, rules};
use runtrail_db::{Pool, Session, backend, error, keyset};
use runtrail_entity::{skill_run, skill_run_log};
use runtrail_store::{AuditStore, StoredRows};
use sea_orm::sea_query::{Expr, ExprTrait, Func, Query, SelectStatement};
use sea_orm::{ColumnTrait, ModelTrait, QueryResult};

use crate::report::{Counts, PassSummary, RowKey, Tally};

/// A history whose rows can be gone through.
#[async_trait]
pub(crate) trait History: fmt::Debug + Send + Sync {
    /// How many runs and events there are now.
    async fn size(&self) -> Result<(u64, u64)>;

    /// How many runs there are for each skill and status.
    async fn counts(&self) -> Result<Counts>;

    /// How many events the runs of a range have.
    async fn count_events(&self, range: &Range) -> Result<u64>;

    /// Which of these runs there are.
    async fn existing(&self, run_ids: &[String]) -> Result<HashSet<String>>;

    async fn runs(&self, stretch: &Stretch) -> Result<Page<skill_run::Model>>;

    async fn events(&self, stretch: &Stretch) -> Result<Page<skill_run_log::Model>>;
}

/// The rows of these runs: of those with greater ids than the one, and none greater than the other.
#[derive(Clone, Debug, Default)]
pub(crate) struct Range {
    pub(crate) after: Option<String>,
    pub(crate) until: Option<String>,
}

impl Range {
    /// Leaves of a query's rows those of these runs.
    pub(crate) fn restrict(&self, query: &mut SelectStatement, run_id: impl ColumnTrait) {
        if let Some(after) = &self.after {
            query.and_where(run_id.gt(after.as_str()));
        }
        if let Some(until) = &self.until {
            query.and_where(run_id.lte(until.as_str()));
        }
    }
}

/// Some rows of a range, from where the last ones ended.
#[derive(Clone, Debug)]
pub(crate) struct Stretch {
    range: Range,
    /// The key of the last row, of whatever type it is.
    place: Option<Vec<Expr>>,
    /// How many rows to try to read.
    limit: u64,
}

impl Stretch {
    const MOST_ROWS: u64 = 1_000;
    /// What the texts of a page may hold together, unless a single row has more.
    const MOST_BYTES: u64 = 4 << 20;

    /// Whether nothing comes before it in the whole table.
    pub(crate) fn is_first(&self) -> bool {
        self.range.after.is_none() && self.place.is_none()
    }

    /// The beginning of a range.
    pub(crate) fn beginning(range: Range) -> Self {
        Self {
            range,
            place: None,
            limit: Self::MOST_ROWS,
        }
    }
}

/// Rows as they come, and where to go on.
pub(crate) struct Page<M: Copied> {
    pub(crate) rows: Vec<Found<M>>,
    /// None at the end of the range.
    pub(crate) next: Option<Stretch>,
}

/// A row that was found.
pub(crate) struct Found<M: Copied> {
    /// None where it is nothing that could be a key.
    pub(crate) key: Option<M::Key>,
    /// The row, or why it can't be read or stored.
    pub(crate) content: Result<M>,
    /// What had to be changed for it to be stored.
    pub(crate) adapted: Vec<String>,
}

impl<M: Copied> Found<M> {
    /// Something that is no row that could be copied.
    pub(crate) fn refused(reason: Error) -> Self {
        Self {
            key: None,
            content: Err(reason),
            adapted: Vec::new(),
        }
    }
}

/// A kind of rows that are copied.
pub(crate) trait Copied: ModelTrait + Send + Sync + 'static {
    type Key: Clone + Ord + Send + Sync + 'static;

    fn key(&self) -> Self::Key;

    /// For people; none is a key that can't be used.
    fn name(key: Option<Self::Key>) -> RowKey;

    /// Whether it is a row that this library could have written, so far as any database will do.
    fn check(&self) -> Result<()>;

    fn read(row: &QueryResult) -> Result<Self>;

    /// The key of a row that can't be read otherwise.
    fn read_key(row: &QueryResult) -> Option<Self::Key>;

    fn tally(summary: &mut PassSummary) -> &mut Tally;
}

impl Copied for skill_run::Model {
    type Key = String;

    fn key(&self) -> String {
        self.id.clone()
    }

    fn name(id: Option<String>) -> RowKey {
        id.map_or(RowKey::UnusableRun, |id| RowKey::Run { id })
    }

    fn check(&self) -> Result<()> {
        rules::run_id("id", &self.id)?;
        rules::identifier("skill_id", &self.skill_id)?;
        rules::identifier("caller_id", &self.caller_id)?;
        rules::identifier("channel_id", &self.channel_id)?;
        let parent_run_id = self.parent_run_id.as_deref().unwrap_or_default();
        rules::identifier("parent_run_id", parent_run_id)?;
        rules::identifier("status", &self.status)?;
        let seconds = rules::seconds("runtime_seconds", self.runtime_seconds)?;
        if seconds.to_bits() != self.runtime_seconds.to_bits() {
            return Err(Error::invalid("runtime_seconds", "is -0"));
        }
        Ok(())
    }

    fn read(row: &QueryResult) -> Result<Self> {
        StoredRows::run(row)
    }

    fn read_key(row: &QueryResult) -> Option<String> {
        row.try_get_by_index(0).ok()
    }

    fn tally(summary: &mut PassSummary) -> &mut Tally {
        &mut summary.runs
    }
}

impl Copied for skill_run_log::Model {
    type Key = (String, i64);

    fn key(&self) -> (String, i64) {
        (self.run_id.clone(), self.sequence)
    }

    fn name(key: Option<(String, i64)>) -> RowKey {
        key.map_or(RowKey::UnusableEvent, |(run_id, sequence)| RowKey::Event {
            run_id,
            sequence,
        })
    }

    fn check(&self) -> Result<()> {
        rules::run_id("run_id", &self.run_id)?;
        rules::identifier("event_type", &self.event_type)?;
        Ok(())
    }

    fn read(row: &QueryResult) -> Result<Self> {
        StoredRows::log(row)
    }

    fn read_key(row: &QueryResult) -> Option<(String, i64)> {
        let run_id = row.try_get_by_index(0).ok()?;
        Some((run_id, row.try_get_by_index(1).ok()?))
    }

    fn tally(summary: &mut PassSummary) -> &mut Tally {
        &mut summary.events
    }
}

/// A table, as it is gone through.
pub(crate) struct Table<C: 'static> {
    /// Its rows, the columns of the key first.
    pub(crate) rows: SelectStatement,
    /// The id of the run, and what else the key has.
    pub(crate) key: &'static [C],
    /// The columns that may be long.
    pub(crate) texts: &'static [C],
}

impl<C: ColumnTrait> Table<C> {
    /// Reads a stretch of it: as many rows as fit, and at least one.
    pub(crate) async fn page<M: Copied>(
        &self,
        db: &Session<'_, Pool>,
        stretch: &Stretch,
        read: impl Fn(&QueryResult) -> Found<M>,
    ) -> Result<Page<M>> {
        let mut query = self.rows.clone();
        stretch.range.restrict(&mut query, self.key[0]);
        if let Some(place) = &stretch.place {
            query.and_where(keyset::beyond(
                self.key,
                place.clone(),
                ListOrder::OldestFirst,
            ));
        }
        keyset::order_by(&mut query, self.key, ListOrder::OldestFirst);
        let limit = self.fitting(db, &query, stretch.limit).await?;
        let rows = db.fetch(query.limit(limit)).await?;
        let next = match rows.last().filter(|_| rows.len() as u64 == limit) {
            Some(last) => Some(Stretch {
                range: stretch.range.clone(),
                place: Some(keyset::position(last, self.key)?),
                limit: Ord::min(limit * 2, Stretch::MOST_ROWS),
            }),
            None => None,
        };
        Ok(Page {
            rows: rows.iter().map(read).collect(),
            next,
        })
    }

    /// How many of the next rows can be read at once. It is the database that adds up how long they are: what has been
    /// read takes memory already.
    async fn fitting(
        &self,
        db: &Session<'_, Pool>,
        query: &SelectStatement,
        limit: u64,
    ) -> Result<u64> {
        let mut limit = limit;
        while limit > 1 {
            let lengths = self.texts.iter().map(|text| {
                let length = Func::cust("octet_length").arg(Expr::col(text.as_column_ref()));
                Expr::from(Func::coalesce([length.into(), Expr::val(0)]))
            });
            let Some(length) = lengths.reduce(ExprTrait::add) else {
                break;
            };
            let mut page = query.clone();
            page.clear_selects().expr_as(length, "bytes").limit(limit);
            let bytes = Func::sum(Expr::col("bytes"));
            let sum = Query::select()
                .expr_as(Func::coalesce([bytes.into(), Expr::val(0)]), "bytes")
                .from_subquery(page, "page")
                .take();
            let rows = db.fetch(&sum).await?;
            let sums = rows.iter().map(|row| row.try_get::<i64>("", "bytes"));
            let bytes: i64 = sums.sum::<Result<_, _>>().map_err(error::database)?;
            let bytes = bytes.unsigned_abs();
            if bytes <= Stretch::MOST_BYTES {
                break;
            }
            let fitting = limit * Stretch::MOST_BYTES / bytes;
            limit = fitting.clamp(1, limit / 2);
        }
        Ok(limit)
    }
}

/// Which of these ids are those of runs.
pub(crate) async fn existing(
    db: &Session<'_, Pool>,
    mut runs: SelectStatement,
    id: impl ColumnTrait,
    run_ids: &[String],
) -> Result<HashSet<String>> {
    let run_ids = backend::unfold(db.connection(), run_ids)?;
    runs.column(id).and_where(id.in_subquery(run_ids));
    let rows = db.fetch(&runs).await?;
    let ids = rows.iter().map(|row| row.try_get_by_index(0));
    ids.collect::<Result<_, _>>().map_err(error::database)
}

/// How many of these rows there are for each skill and status, whose texts `read` makes of what is there.
pub(crate) async fn counts(
    db: &Session<'_, Pool>,
    runs: SelectStatement,
    [skill, status]: [impl ColumnTrait; 2],
    read: impl Fn(&QueryResult) -> (String, String),
) -> Result<Counts> {
    let mut query = runs;
    query
        .columns([skill, status])
        .expr_as(Expr::Constant(1.into()).count(), "count")
        .add_group_by([skill, status].map(Expr::col));
    let mut counts = Counts::new();
    for row in db.fetch(&query).await? {
        let count: i64 = row.try_get("", "count").map_err(error::database)?;
        *counts.entry(read(&row)).or_default() += count.unsigned_abs();
    }
    Ok(counts)
}

#[async_trait]
impl History for AuditStore {
    async fn size(&self) -> Result<(u64, u64)> {
        let stored = self.stored_rows();
        let db = stored.read().await?;
        let rows = |table| Query::select().from(table).take();
        Ok((
            db.count(rows(stored.runs())).await?,
            db.count(rows(stored.logs())).await?,
        ))
    }

    async fn counts(&self) -> Result<Counts> {
        let stored = self.stored_rows();
        let db = stored.read().await?;
        let by = [skill_run::Column::SkillId, skill_run::Column::Status];
        // A run that somebody has damaged counts as well; it is told of where it is read.
        let text = |row: &QueryResult, place| row.try_get_by_index(place).unwrap_or_default();
        let read = |row: &QueryResult| (text(row, 0), text(row, 1));
        counts(&db, Query::select().from(stored.runs()).take(), by, read).await
    }

    async fn count_events(&self, range: &Range) -> Result<u64> {
        let stored = self.stored_rows();
        let db = stored.read().await?;
        let mut events = Query::select().from(stored.logs()).take();
        range.restrict(&mut events, skill_run_log::Column::RunId);
        db.count(events).await
    }

    async fn existing(&self, run_ids: &[String]) -> Result<HashSet<String>> {
        let stored = self.stored_rows();
        let db = stored.read().await?;
        let runs = Query::select().from(stored.runs()).take();
        existing(&db, runs, skill_run::Column::Id, run_ids).await
    }

    async fn runs(&self, stretch: &Stretch) -> Result<Page<skill_run::Model>> {
        use skill_run::Column;
        const KEY: [Column; 1] = [Column::Id];
        const TEXTS: [Column; 3] = [Column::Inputs, Column::Output, Column::Error];

        let stored = self.stored_rows();
        let db = stored.read().await?;
        let table = Table {
            rows: stored.select_runs(),
            key: &KEY,
            texts: &TEXTS,
        };
        table.page(&db, stretch, as_it_is).await
    }

    async fn events(&self, stretch: &Stretch) -> Result<Page<skill_run_log::Model>> {
        use skill_run_log::Column;
        const KEY: [Column; 2] = [Column::RunId, Column::Sequence];
        const TEXTS: [Column; 1] = [Column::Payload];

        let stored = self.stored_rows();
        let db = stored.read().await?;
        let table = Table {
            rows: stored.select_logs(),
            key: &KEY,
            texts: &TEXTS,
        };
        table.page(&db, stretch, as_it_is).await
    }
}

fn as_it_is<M: Copied>(row: &QueryResult) -> Found<M> {
    Found {
        key: M::read_key(row),
        content: M::read(row),
        adapted: Vec::new(),
    }
}

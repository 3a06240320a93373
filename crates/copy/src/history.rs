//! Histories whose rows are read in key order, page by page.

use std::collections::HashSet;
use std::fmt;

use async_trait::async_trait;
use runtrail_audit::{BudgetStatus, Budgets, Error, ListOrder, OwnerRecord, Result, rules};
use runtrail_db::{Pool, Row, Session, backend, error, keyset};
use runtrail_entity::{budget_usage, skill_run, skill_run_log};
use runtrail_store::{AuditStore, StoredRows};
use sea_orm::sea_query::{Expr, ExprTrait, Func, Query, SelectStatement};
use sea_orm::{ColumnTrait, ModelTrait};

use crate::report::{Counts, PassSummary, RowKey, Tally};

/// A history whose rows can be scanned.
#[async_trait]
pub(crate) trait History: fmt::Debug + Send + Sync {
    /// Fails if this history may have rows that can't be seen.
    async fn verify_visibility(&self) -> Result<()> {
        Ok(())
    }

    /// Whether runs of this history can have labels. If not, a copy leaves those of the target alone.
    fn has_labels(&self) -> bool {
        true
    }

    /// Returns the owners whose ids are greater than `after`, in the order of their ids, at most
    /// [`StoredRows::MAX_BATCH_ROWS`].
    async fn owners(&self, after: &str) -> Result<Vec<OwnerRecord>>;

    /// Returns the budgets, with what they have used in their current periods.
    async fn budgets(&self) -> Result<Vec<BudgetStatus>>;

    /// Returns what the budgets have used in each slot of time.
    async fn budget_slots(&self) -> Result<Vec<budget_usage::Model>>;

    /// Returns the current numbers of runs and events.
    async fn size(&self) -> Result<(u64, u64)>;

    /// Returns the number of runs for each skill and status.
    async fn counts(&self) -> Result<Counts>;

    /// Counts the events of the runs of a range.
    async fn count_events(&self, range: &Range) -> Result<u64>;

    /// Returns those of these ids that belong to a run.
    async fn existing(&self, run_ids: &[String]) -> Result<HashSet<String>>;

    async fn runs(&self, position: &ScanPosition) -> Result<Page<skill_run::Model>>;

    async fn events(&self, position: &ScanPosition) -> Result<Page<skill_run_log::Model>>;
}

/// The runs whose ids are greater than `after` and at most `until`, and their events.
#[derive(Clone, Debug, Default)]
pub(crate) struct Range {
    pub(crate) after: Option<String>,
    pub(crate) until: Option<String>,
}

impl Range {
    /// Restricts a query to the rows of these runs.
    pub(crate) fn restrict(&self, query: &mut SelectStatement, run_id: impl ColumnTrait) {
        if let Some(after) = &self.after {
            query.and_where(run_id.gt(after.as_str()));
        }
        if let Some(until) = &self.until {
            query.and_where(run_id.lte(until.as_str()));
        }
    }
}

/// Where the next page of a range starts, and its size.
#[derive(Clone, Debug)]
pub(crate) struct ScanPosition {
    range: Range,
    /// The key of the last row that was read; its values may have any type.
    after_key: Option<Vec<Expr>>,
    /// The number of rows to try to read.
    limit: u64,
}

impl ScanPosition {
    const MAX_ROWS: u64 = 1_000;
    /// The maximum total size of the texts of a page, unless a single row exceeds it.
    const MAX_BYTES: u64 = 4 << 20;

    /// Whether this is the first page of the whole table.
    pub(crate) fn is_table_start(&self) -> bool {
        self.range.after.is_none() && self.after_key.is_none()
    }

    /// Returns the start of a range.
    pub(crate) fn start(range: Range) -> Self {
        Self {
            range,
            after_key: None,
            limit: Self::MAX_ROWS,
        }
    }
}

/// The rows of a page, and the position of the next.
pub(crate) struct Page<M: CopiedRow> {
    pub(crate) rows: Vec<ScannedRow<M>>,
    /// `None` at the end of the range.
    pub(crate) next: Option<ScanPosition>,
}

/// A row that was read, whether it is valid or not.
pub(crate) struct ScannedRow<M: CopiedRow> {
    /// `None` if the row has no usable key.
    pub(crate) key: Option<M::Key>,
    /// The row, or why it can't be read or stored.
    pub(crate) content: Result<M>,
    /// Descriptions of the values that were converted.
    pub(crate) adapted: Vec<String>,
}

impl<M: CopiedRow> ScannedRow<M> {
    /// A row without a usable key or content.
    pub(crate) fn refused(reason: Error) -> Self {
        Self {
            key: None,
            content: Err(reason),
            adapted: Vec::new(),
        }
    }
}

/// A type of row that is copied.
pub(crate) trait CopiedRow: ModelTrait + Send + Sync + 'static {
    type Key: Clone + Ord + Send + Sync + 'static;

    fn key(&self) -> Self::Key;

    /// Converts the key for notices; `None` is an unusable key.
    fn row_key(key: Option<Self::Key>) -> RowKey;

    /// Checks that Runtrail could have written this row, as far as that doesn't depend on the
    /// database.
    fn check(&self) -> Result<()>;

    fn read(row: Row) -> Result<Self>;

    /// Reads the key of a row, whose other columns may be invalid.
    fn read_key(row: &Row) -> Option<Self::Key>;

    fn tally(summary: &mut PassSummary) -> &mut Tally;
}

impl CopiedRow for skill_run::Model {
    type Key = String;

    fn key(&self) -> String {
        self.id.clone()
    }

    fn row_key(id: Option<String>) -> RowKey {
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
        self.owner_id.as_deref().map(rules::owner_id).transpose()?;
        if let Some(labels) = &self.labels {
            let labels = serde_json::from_str(labels);
            rules::labels(&labels.map_err(|err| Error::invalid("labels", err.to_string()))?)?;
        }
        let seconds = rules::seconds("runtime_seconds", self.runtime_seconds)?;
        if seconds.to_bits() != self.runtime_seconds.to_bits() {
            return Err(Error::invalid("runtime_seconds", "is -0"));
        }
        Ok(())
    }

    fn read(row: Row) -> Result<Self> {
        StoredRows::run(row)
    }

    fn read_key(row: &Row) -> Option<String> {
        row.get(0).ok()
    }

    fn tally(summary: &mut PassSummary) -> &mut Tally {
        &mut summary.runs
    }
}

impl CopiedRow for skill_run_log::Model {
    type Key = (String, i64);

    fn key(&self) -> (String, i64) {
        (self.run_id.clone(), self.sequence)
    }

    fn row_key(key: Option<(String, i64)>) -> RowKey {
        key.map_or(RowKey::UnusableEvent, |(run_id, sequence)| RowKey::Event {
            run_id,
            sequence,
        })
    }

    fn check(&self) -> Result<()> {
        rules::run_id("run_id", &self.run_id)?;
        rules::identifier("event_type", &self.event_type)?;
        rules::identifier("provider", self.provider.as_deref().unwrap_or_default())?;
        rules::identifier("model", self.model.as_deref().unwrap_or_default())?;
        Ok(())
    }

    fn read(row: Row) -> Result<Self> {
        StoredRows::log(row)
    }

    fn read_key(row: &Row) -> Option<(String, i64)> {
        let run_id = row.get(0).ok()?;
        Some((run_id, row.get(1).ok()?))
    }

    fn tally(summary: &mut PassSummary) -> &mut Tally {
        &mut summary.events
    }
}

/// A table and how it is scanned.
pub(crate) struct Table<C: 'static> {
    /// Selects the rows, with the columns of the key first.
    pub(crate) rows: SelectStatement,
    /// The columns of the key, the id of the run first.
    pub(crate) key: &'static [C],
    /// The columns whose values may be long.
    pub(crate) texts: &'static [C],
}

impl<C: ColumnTrait> Table<C> {
    /// Reads a page: as many rows as fit, and at least one.
    pub(crate) async fn page<M: CopiedRow>(
        &self,
        db: &Session<'_, Pool>,
        position: &ScanPosition,
        read: impl Fn(Row) -> ScannedRow<M>,
    ) -> Result<Page<M>> {
        let mut query = self.rows.clone();
        position.range.restrict(&mut query, self.key[0]);
        if let Some(after_key) = &position.after_key {
            query.and_where(keyset::is_after(
                self.key,
                after_key.clone(),
                ListOrder::OldestFirst,
            ));
        }
        keyset::order_by(&mut query, self.key, ListOrder::OldestFirst);
        let limit = self.limit_by_bytes(db, &query, position.limit).await?;
        let rows = db.fetch_long(query.limit(limit)).await?;
        let next = match rows.last().filter(|_| rows.len() as u64 == limit) {
            Some(last) => Some(ScanPosition {
                range: position.range.clone(),
                after_key: Some(keyset::position(last, self.key)?),
                limit: Ord::min(limit * 2, ScanPosition::MAX_ROWS),
            }),
            None => None,
        };
        Ok(Page {
            rows: rows.into_iter().map(read).collect(),
            next,
        })
    }

    /// Reduces `limit` until the texts of the rows fit into a page. The database adds up the
    /// lengths, so that no text is read into memory for this.
    async fn limit_by_bytes(
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
            let rows = db.fetch_long(&sum).await?;
            let sums = rows.iter().map(|row| row.get::<i64>("bytes"));
            let bytes: i64 = sums.sum::<Result<_, _>>().map_err(error::database)?;
            let bytes = bytes.unsigned_abs();
            if bytes <= ScanPosition::MAX_BYTES {
                break;
            }
            let fitting = limit * ScanPosition::MAX_BYTES / bytes;
            limit = fitting.clamp(1, limit / 2);
        }
        Ok(limit)
    }
}

/// Returns those of these ids that belong to a run.
pub(crate) async fn existing(
    db: &Session<'_, Pool>,
    mut runs: SelectStatement,
    id: impl ColumnTrait,
    run_ids: &[String],
) -> Result<HashSet<String>> {
    let run_ids = backend::unfold(db.backend(), run_ids)?;
    runs.column(id).and_where(id.in_subquery(run_ids));
    let rows = db.fetch(&runs).await?;
    let ids = rows.iter().map(|row| row.get(0));
    ids.collect::<Result<_, _>>().map_err(error::database)
}

/// Counts these runs for each skill and status; `read` returns the skill and status of a row.
pub(crate) async fn counts(
    db: &Session<'_, Pool>,
    runs: SelectStatement,
    [skill, status]: [impl ColumnTrait; 2],
    read: impl Fn(&Row) -> (String, String),
) -> Result<Counts> {
    let mut query = runs;
    query
        .columns([skill, status])
        .expr_as(Expr::Constant(1.into()).count(), "count")
        .add_group_by([skill, status].map(Expr::col));
    let mut counts = Counts::new();
    for row in db.fetch_long(&query).await? {
        let count: i64 = row.get("count").map_err(error::database)?;
        *counts.entry(read(&row)).or_default() += count.unsigned_abs();
    }
    Ok(counts)
}

#[async_trait]
impl History for AuditStore {
    async fn verify_visibility(&self) -> Result<()> {
        self.stored_rows().verify_visibility().await
    }

    async fn owners(&self, after: &str) -> Result<Vec<OwnerRecord>> {
        self.stored_rows().owners(after).await
    }

    async fn budgets(&self) -> Result<Vec<BudgetStatus>> {
        self.list_budgets().await
    }

    async fn budget_slots(&self) -> Result<Vec<budget_usage::Model>> {
        self.stored_rows().budget_slots().await
    }

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
        // A damaged run counts too; the scan reports it.
        let text = |row: &Row, index: usize| row.get(index).unwrap_or_default();
        let read = |row: &Row| (text(row, 0), text(row, 1));
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

    async fn runs(&self, position: &ScanPosition) -> Result<Page<skill_run::Model>> {
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
        table.page(&db, position, read_unchanged).await
    }

    async fn events(&self, position: &ScanPosition) -> Result<Page<skill_run_log::Model>> {
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
        table.page(&db, position, read_unchanged).await
    }
}

fn read_unchanged<M: CopiedRow>(row: Row) -> ScannedRow<M> {
    ScannedRow {
        key: M::read_key(&row),
        content: M::read(row),
        adapted: Vec::new(),
    }
}

//! The legacy Go store as a source. Its times are in seconds; 0 or an empty text means no value.

mod row;
mod skill_run;
mod skill_run_log;

use std::collections::HashSet;

use async_trait::async_trait;
use runtrail_audit::{BudgetStatus, Error, Limits, OwnerRecord, Result};
use runtrail_db::{DatabaseOptions, Pool, Row, Session, Timing, closing_deadline, error};
use runtrail_entity::budget_usage;
use sea_orm::sea_query::{Expr, ExprTrait, Func, IntoIden, Query, SelectStatement};
use sea_orm::{ColumnTrait, EntityTrait, IdenStatic, Iterable};

use self::row::LegacyRow;
use crate::history::{self, CopiedRow, History, Page, Range, ScanPosition, ScannedRow, Table};
use crate::report::Counts;

/// A database of the legacy Go store, as the source of a copy.
///
/// It is a SQLite file with the tables `skill_runs` and `skill_run_logs`, whose times are whole
/// seconds. The copy doesn't change it. The program that writes it may be running; without a
/// write-ahead log, its writes wait while the copy reads a page.
///
/// Values are converted to Runtrail's form. NULL becomes an empty text, 0, `{}` or `null`. Any
/// other change is reported as [`Adapted`](crate::DifferenceKind::Adapted): text that isn't valid
/// JSON becomes a JSON string (for the inputs of a run, in the member `legacy_inputs`), and an
/// invalid number becomes 0.
///
/// Rows that can't be converted are refused, and make the copy incomplete: rows without a key or
/// with the key of another row, rows with an overlong identifier or with a text of more than
/// 16 MiB, and events with a negative sequence number.
/// Unknown columns aren't copied; a warning through `tracing` names each one.
///
/// ```no_run
/// use runtrail_store::AuditStore;
/// use runtrail_audit::{Error, Storage};
/// use runtrail_copy::{HistoryCopy, LegacyStore};
///
/// # async fn example() -> Result<(), Error> {
/// let from = LegacyStore::connect("sqlite://old.db").await?;
/// let to = AuditStore::connect("sqlite://runtrail.db?mode=rwc").await?;
/// to.initialize().await?;
/// let summary = HistoryCopy::new(from, to).last().run(&|_| {}).await?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct LegacyStore {
    db: Pool,
    limits: Limits,
    timing: Timing,
    runs_have_rowids: bool,
    events_have_rowids: bool,
}

impl LegacyStore {
    /// The URL prefix of a legacy database, for arguments that accept any kind of database, as in
    /// `legacy+sqlite://old.db`.
    pub const URL_PREFIX: &str = "legacy+";

    /// Opens a legacy database by the URL of its SQLite file, with or without the
    /// [prefix](Self::URL_PREFIX).
    ///
    /// # Errors
    ///
    /// [`Error::InvalidInput`] if the URL doesn't name a legacy database, and failures of the
    /// database.
    pub async fn connect(url: &str) -> Result<Self> {
        let url = url.strip_prefix(Self::URL_PREFIX).unwrap_or(url);
        let db = DatabaseOptions::new(url).open_unchanged().await;
        let mut store = Self {
            db: Pool::new(db.map_err(error::connecting)?),
            limits: Limits::new(Limits::MAX_VALUE_BYTES)?,
            timing: Timing::default(),
            runs_have_rowids: false,
            events_have_rowids: false,
        };
        store.runs_have_rowids = store.check_table(skill_run::Entity).await?;
        store.events_have_rowids = store.check_table(skill_run_log::Entity).await?;
        Ok(store)
    }

    /// Closes all connections.
    ///
    /// # Errors
    ///
    /// Failures of the database.
    pub async fn close(self) -> Result<()> {
        self.db.close(closing_deadline(None)).await
    }

    /// Returns whether a table has rowids. Fails if it isn't a table of the legacy store.
    async fn check_table<E: EntityTrait>(&self, entity: E) -> Result<bool> {
        let pragma = |function: &'static str| {
            let function = Func::cust(function).arg(entity.table_name());
            Query::select().from_function(function, "about").take()
        };
        let db = self.session();
        let rows = db.fetch(pragma("pragma_table_info").column("name")).await?;
        let names = rows.iter().map(|row| row.get(0));
        let names: HashSet<String> = names.collect::<Result<_, _>>().map_err(error::database)?;
        let known: Vec<_> = E::Column::iter().skip(1).map(|it| it.as_str()).collect();
        let table = entity.table_name();
        if let Some(column) = known.iter().find(|column| !names.contains(**column)) {
            let reason = format!("doesn't name a legacy database: {table}.{column} doesn't exist");
            return Err(Error::invalid("url", reason));
        }
        for column in names.iter().filter(|name| !known.contains(&name.as_str())) {
            tracing::warn!(table, column, "the column isn't copied");
        }
        let rows = db
            .fetch(pragma("pragma_table_list").columns(["type", "wr"]))
            .await?;
        let kinds = rows.iter().map(|row| {
            let kind: String = row.get("type")?;
            let has_no_rowid: i64 = row.get("wr")?;
            Ok((kind, has_no_rowid == 0))
        });
        let kinds: Vec<_> = kinds.collect::<Result<_, _>>().map_err(error::database)?;
        match kinds.as_slice() {
            [(kind, has_rowids)] if kind == "table" => Ok(*has_rowids),
            _ => {
                let reason = format!("doesn't name a legacy database: {table} is not a table");
                Err(Error::invalid("url", reason))
            }
        }
    }

    fn session(&self) -> Session<'_, Pool> {
        Session::new(&self.db, &self.timing)
    }

    fn row<'a>(&'a self, row: &'a Row) -> LegacyRow<'a> {
        LegacyRow::new(row, &self.limits)
    }

    /// Reads a page. Rows whose key has the wrong type are counted on the first page and not read.
    async fn page<E: EntityTrait, M: CopiedRow>(
        &self,
        entity: E,
        mut table: Table<E::Column>,
        has_key: Expr,
        position: &ScanPosition,
        read: impl Fn(Row) -> ScannedRow<M>,
    ) -> Result<Page<M>> {
        let db = self.session();
        table.rows.and_where(has_key.clone());
        let mut page = table.page(&db, position, read).await?;
        if position.is_table_start() {
            let mut without_key = Query::select();
            without_key.from(entity).and_where(has_key.not());
            let count = db.count(without_key).await?;
            if count > 0 {
                let reason = format!("has the wrong type; affected rows: {count}");
                page.rows
                    .insert(0, ScannedRow::refused(Error::invalid("key", reason)));
            }
        }
        Ok(page)
    }
}

/// Selects the columns of a table, and the rowid if it has one.
fn select<E: EntityTrait>(entity: E, has_rowids: bool) -> SelectStatement {
    let mut columns = E::Column::iter();
    let rowid = columns.next().filter(|_| has_rowids);
    let mut query = Query::select();
    query
        .columns(columns.map(|column| column.as_column_ref()))
        .from(entity);
    if let Some(rowid) = rowid {
        // Without the alias, SQLite would name this column after an INTEGER PRIMARY KEY.
        query.expr_as(Expr::col(rowid.as_column_ref()), rowid.into_iden());
    }
    query
}

/// Whether a value has this type: in SQLite, any column may contain any type.
fn is_of_type(column: impl ColumnTrait, name: &'static str) -> Expr {
    let of = Func::cust("typeof").arg(Expr::col(column.as_column_ref()));
    Expr::expr(of).eq(Expr::Constant(name.into()))
}

const TEXT: &str = "text";
const INTEGER: &str = "integer";

#[async_trait]
impl History for LegacyStore {
    fn has_labels(&self) -> bool {
        false
    }

    async fn owners(&self, _after: &str) -> Result<Vec<OwnerRecord>> {
        Ok(Vec::new())
    }

    async fn budgets(&self) -> Result<Vec<BudgetStatus>> {
        Ok(Vec::new())
    }

    async fn budget_slots(&self) -> Result<Vec<budget_usage::Model>> {
        Ok(Vec::new())
    }

    async fn size(&self) -> Result<(u64, u64)> {
        let db = self.session();
        let runs = Query::select().from(skill_run::Entity).take();
        let events = Query::select().from(skill_run_log::Entity).take();
        Ok((db.count(runs).await?, db.count(events).await?))
    }

    async fn counts(&self) -> Result<Counts> {
        use skill_run::{Column, Entity};

        let runs = Query::select().from(Entity).take();
        let by = [Column::SkillId, Column::Status];
        let read = |row: &Row| self.row(row).skill_and_status();
        history::counts(&self.session(), runs, by, read).await
    }

    async fn count_events(&self, range: &Range) -> Result<u64> {
        use skill_run_log::{Column, Entity};

        let mut events = Query::select().from(Entity).take();
        range.restrict(&mut events, Column::RunId);
        self.session().count(events).await
    }

    async fn existing(&self, run_ids: &[String]) -> Result<HashSet<String>> {
        use skill_run::{Column, Entity};

        let runs = Query::select().from(Entity).take();
        history::existing(&self.session(), runs, Column::Id, run_ids).await
    }

    async fn runs(
        &self,
        position: &ScanPosition,
    ) -> Result<Page<runtrail_entity::skill_run::Model>> {
        use skill_run::{Column, Entity};
        const KEY: [Column; 2] = [Column::Id, Column::Rowid];

        let table = Table {
            rows: select(Entity, self.runs_have_rowids),
            key: &KEY[..1 + usize::from(self.runs_have_rowids)],
            texts: &[Column::Inputs, Column::Output, Column::Error],
        };
        let has_key = is_of_type(Column::Id, TEXT);
        let read = |row: Row| self.row(&row).scan(LegacyRow::run);
        self.page(Entity, table, has_key, position, read).await
    }

    async fn events(
        &self,
        position: &ScanPosition,
    ) -> Result<Page<runtrail_entity::skill_run_log::Model>> {
        use skill_run_log::{Column, Entity};
        const KEY: [Column; 3] = [Column::RunId, Column::Seq, Column::Rowid];

        let table = Table {
            rows: select(Entity, self.events_have_rowids),
            key: &KEY[..2 + usize::from(self.events_have_rowids)],
            texts: &[Column::Payload],
        };
        let has_key = is_of_type(Column::RunId, TEXT).and(is_of_type(Column::Seq, INTEGER));
        let read = |row: Row| self.row(&row).scan(LegacyRow::event);
        self.page(Entity, table, has_key, position, read).await
    }
}

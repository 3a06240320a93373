use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use runtrail_audit::{
    Clock, Error, Limits, Page, Result, Retention, RunFilter, RunStats, SkillRun, SkillRunLog,
    Storage,
};
use runtrail_db::{
    Borrowed, Connection, DatabaseOptions, Pool, Retry, backend, closing_deadline, runtime,
};
use runtrail_migration::SchemaName;
use sea_orm::{ConnectionTrait, DatabaseConnection};
use tokio::sync::Mutex;
use tracing::instrument;

use crate::error;
use crate::read::{last_run, lineage, list};
use crate::record::{Write, Writer, dispatch};
use crate::settings::{Session, Settings};
use crate::statements::{logs, runs};

/// A run history in a SQLite or PostgreSQL database.
///
/// Cheap to clone; clones share their connections.
/// Before its first statement a store looks at the schema, and refuses one that is missing, older, newer or not
/// Runtrail's.
///
/// # When a future is dropped
///
/// Every write is a statement that commits by itself: it is then wholly there or wholly absent, and the same call again
/// gives `Ok` and one row. In a store with connections of its own, a call that waits for its turn isn't begun any more. A purge, and `append_logs` with very many events, are a series of such statements,
/// and go on when they are called again.
#[derive(Clone, Debug)]
pub struct AuditStore<C = Pool> {
    writer: C,
    reader: C,
    /// Writes the calls of all clones together; none on connections of a host's.
    task: Option<Writer>,
    pub(crate) settings: Settings,
    schema: Arc<Schema>,
}

/// Whether the schema has been found fit. Whoever comes while somebody looks waits for the answer and takes it, and those
/// who come one after the other go on one after the other.
#[derive(Debug, Default)]
struct Schema {
    is_fit: AtomicBool,
    /// PooledConnection by whoever looks, with what the last one has found wrong, and when.
    looking: Mutex<Option<(Instant, Error)>>,
}

impl Schema {
    fn is_fit(&self) -> bool {
        self.is_fit.load(Ordering::Relaxed)
    }
}

impl AuditStore {
    /// Opens a database of the store's own, by URL or with [`DatabaseOptions`].
    ///
    /// It doesn't migrate, and doesn't change an existing file: call [`initialize`](Storage::initialize).
    /// With [`read_only`](DatabaseOptions::read_only), or `mode=ro` in the URL of a SQLite file, nothing can be written.
    ///
    /// Calls of [`start_run`](Storage::start_run), [`finish_run`](Storage::finish_run) and
    /// [`append_log`](Storage::append_log) that are made at the same time are written together, by one task on one
    /// connection; a single one is written at once. The task runs on the tokio runtime of whoever makes the first
    /// call, and anew on another one if that has ended. At most 256 calls wait for it, and further ones for a place.
    /// Calls about the same run are written in the order in which they came, unless one has to be repeated after a
    /// failure.
    ///
    /// ```
    /// # use runtrail_db::{DatabaseOptions, Durability};
    /// # use runtrail_store::AuditStore;
    /// # async fn example() -> runtrail_audit::Result<()> {
    /// let store = AuditStore::connect("sqlite://runtrail.db?mode=rwc").await?;
    /// let fast = DatabaseOptions::new("sqlite://fast.db?mode=rwc").durability(Durability::Normal);
    /// let fast = AuditStore::connect(fast).await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// [`InvalidInput`](runtrail_audit::Error::InvalidInput) for a URL that can't be used, and the database's
    /// own failures. No message holds a password.
    pub async fn connect(options: impl Into<DatabaseOptions>) -> Result<Self> {
        runtime::verify()?;
        let options = options.into();
        let db = options.open_for_queue().await.map_err(error::connecting)?;
        let own = |db| Pool::own(db, options.abandoned().clone());
        if !options.has_writer() {
            let pool = own(db);
            return Ok(Self::over(pool.clone(), pool, None));
        }
        let readers = options.open_readers();
        let readers = readers.await.map_err(error::connecting)?;
        let writer = options.open_writer(&db);
        let writer = Writer::new(
            writer.await.map_err(error::connecting)?,
            options.queue_timeout(),
        );
        let pool = match backend::has_one_writer(&db) {
            true => Pool::single(db, Arc::new(writer.clone())),
            false => own(db),
        };
        let readers = readers.map_or_else(|| pool.clone(), own);
        Ok(Self::over(pool, readers, Some(writer)))
    }

    /// Uses a connection of the host's.
    ///
    /// What happens to that connection elsewhere happens to the history too: a transaction that is cancelled while it
    /// begins can make later writes on the same pool vanish. A host prevents that by
    /// [`discard_open_transactions`](runtrail_db::discard_open_transactions) before it connects; a store of its own
    /// ([`connect`](Self::connect)) needs nothing.
    pub fn new(connection: DatabaseConnection) -> Self {
        let pool = Pool::new(connection);
        Self::over(pool.clone(), pool, None)
    }

    fn over(writer: Pool, reader: Pool, task: Option<Writer>) -> Self {
        Self {
            writer,
            reader,
            task,
            settings: Settings::default(),
            schema: Arc::default(),
        }
    }

    /// The largest values that are taken; 1 MiB each by default.
    #[must_use]
    pub fn with_limits(mut self, limits: Limits) -> Self {
        self.settings.limits = limits;
        self
    }

    /// The clock that says "now"; the machine's by default.
    #[must_use]
    pub fn with_clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.settings.clock = clock;
        self
    }

    /// How often a statement is tried again after a failure that passes by itself; up to 12 tries within 5 s by
    /// default. Not on a connection given to [`on`](Self::on).
    #[must_use]
    pub fn with_retry(mut self, retry: Retry) -> Self {
        self.settings.timing.retry = retry;
        self
    }

    /// How long a call may take, all its tries and the wait for a free connection included; by default as long as it
    /// needs.
    ///
    /// Beyond it a call fails with [`Timeout`](runtrail_audit::Error::Timeout), as if its future had been dropped: a
    /// write may have got there or not, and the same call again tells. A purge and `append_logs` have this time for
    /// each of their batches, and a stream for each of its queries. A migration that has begun goes on to its end.
    /// What is called on a connection given to [`on`](Self::on) has no deadline: its owner may set one for the whole.
    #[must_use]
    pub fn with_deadline(mut self, deadline: Duration) -> Self {
        self.settings.timing.call_timeout = Some(deadline);
        self
    }

    /// The PostgreSQL schema of the tables; by default where the connection's own queries look. Ignored on
    /// SQLite.
    ///
    /// Every statement names it, so it works behind a pooler that changes connections.
    pub fn in_schema(mut self, schema: SchemaName) -> Self {
        self.settings.schema = backend::has_schemas(&self.writer).then_some(schema);
        self.schema = Arc::default();
        self
    }

    /// Sends each PostgreSQL statement in one message instead of preparing it first; no effect on SQLite.
    ///
    /// For poolers in transaction mode that don't know prepared statements: PgBouncer before 1.21, or with
    /// `max_prepared_statements = 0`. Migrate past the pooler then.
    pub fn without_prepared_statements(mut self) -> Self {
        self.writer = self.writer.without_prepared_statements();
        self.reader = self.reader.without_prepared_statements();
        self
    }

    /// Closes the connections of this store and of all its clones, once every call that was made before is answered; a
    /// host's connection too. Later calls fail with [`Backend`](runtrail_audit::Error::Backend), which isn't transient.
    ///
    /// Closing ends within the store's [deadline](Self::with_deadline), or 15 s: beside a server that is frozen, or a
    /// lock that isn't released. Calls that are not answered by then fail.
    ///
    /// Dropping a store without closing it loses nothing that was acknowledged.
    ///
    /// # Errors
    ///
    /// [`Timeout`](runtrail_audit::Error::Timeout), with the number of calls that were given up; the database's own
    /// failures.
    pub async fn close(self) -> Result<()> {
        let deadline = closing_deadline(self.settings.timing.call_timeout);
        let task = match &self.task {
            Some(task) => task.close(deadline).await,
            None => Ok(()),
        };
        let writer = self.writer.close(deadline).await;
        let readers = self.reader.close(deadline).await;
        task.and(writer).and(readers)
    }
}

impl<C: Connection> AuditStore<C> {
    /// The same store on somebody else's open transaction, or any other `ConnectionTrait`.
    ///
    /// It has to be to the same database. Writes are part of that transaction: they are there once it commits.
    /// Only statements are issued on it, never a `begin`; [`initialize`](Storage::initialize) only checks.
    ///
    /// ```
    /// # use runtrail_audit::{SkillRun, Storage};
    /// # use runtrail_store::AuditStore;
    /// # use sea_orm::{DatabaseConnection, TransactionTrait};
    /// # async fn example(store: AuditStore, db: DatabaseConnection) -> Result<(), Box<dyn std::error::Error>> {
    /// let txn = db.begin().await?;
    /// store.on(&txn).start_run(&SkillRun::new("run-1", "summarise", store.now())).await?;
    /// // … the host's own writes …
    /// txn.commit().await?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn on<'a, T: ConnectionTrait>(&self, connection: &'a T) -> AuditStore<Borrowed<'a, T>> {
        AuditStore {
            writer: Borrowed::new(connection),
            reader: Borrowed::new(connection),
            task: None,
            settings: self.settings.clone(),
            // Its own from here on: what it finds may be rolled back with the transaction.
            schema: Arc::new(Schema {
                is_fit: AtomicBool::new(self.schema.is_fit()),
                ..Schema::default()
            }),
        }
    }

    /// Looks whether the schema fits this version, and changes nothing; every other call does so by itself before
    /// its first statement.
    ///
    /// # Errors
    ///
    /// The `Schema…` variants of [`Error`](runtrail_audit::Error), and the database's own failures.
    pub async fn verify_schema(&self) -> Result<()> {
        self.inspect_schema(&Session::new(&self.reader, &self.settings))
            .await
    }

    /// What the store's clock says.
    pub fn now(&self) -> DateTime<Utc> {
        self.settings.clock.now()
    }

    /// The connection that writes.
    pub(crate) fn connection(&self) -> &C {
        &self.writer
    }

    pub(crate) async fn writing(&self) -> Result<Session<'_, C>> {
        self.session(&self.writer).await
    }

    pub(crate) async fn reading(&self) -> Result<Session<'_, C>> {
        self.session(&self.reader).await
    }

    async fn session<'a>(&'a self, connection: &'a C) -> Result<Session<'a, C>> {
        runtime::verify()?;
        let session = Session::new(connection, &self.settings);
        if !self.schema.is_fit() {
            let look_once = || async {
                let begun = Instant::now();
                let mut looking = self.schema.looking.lock().await;
                match &*looking {
                    _ if self.schema.is_fit() => return Ok(()),
                    Some((at, err)) if *at > begun => return Err(err.clone()),
                    _ => {}
                }
                let looked = self.look_at_schema().await;
                if let Err(err) = &looked {
                    *looking = Some((Instant::now(), err.clone()));
                }
                looked
            };
            session.through(&self.reader).attempt(look_once).await?;
        }
        Ok(session)
    }

    async fn record(&self, db: &Session<'_, C>, write: Write) -> Result<()> {
        dispatch(db, self.task.as_ref(), write).await
    }

    async fn inspect_schema(&self, session: &Session<'_, C>) -> Result<()> {
        let session = session.through(&self.reader);
        session.attempt(|| self.look_at_schema()).await
    }

    /// For a SQLite file of the store's own pool that another program has created.
    async fn use_write_ahead_log(&self, session: &Session<'_, C>) -> Result<()> {
        let Some(pool) = self.writer.pool() else {
            return Ok(());
        };
        let switch = || async { pool.use_write_ahead_log().await.map_err(error::database) };
        session.attempt(switch).await
    }

    /// Through a reading connection: the writing one may be waiting for a lock.
    async fn look_at_schema(&self) -> Result<()> {
        let state = self.settings.migrator().state(&self.reader).await;
        error::fitness(state.map_err(error::migration)?)?;
        self.schema.is_fit.store(true, Ordering::Relaxed);
        Ok(())
    }
}

#[async_trait]
impl<C: Connection> Storage for AuditStore<C> {
    #[instrument(level = "debug", skip_all)]
    async fn initialize(&self) -> Result<()> {
        let session = Session::new(&self.writer, &self.settings);
        // Afresh: the tables may have gone since this store last looked.
        let unfit = match self.inspect_schema(&session).await {
            Err(unfit @ (Error::SchemaMissing | Error::SchemaOutdated { .. })) => unfit,
            Ok(()) => return self.use_write_ahead_log(&session).await,
            otherwise => return otherwise,
        };
        let Some(pool) = self.writer.pool() else {
            return Err(unfit);
        };
        let migrator = self.settings.migrator();
        session
            .attempt(|| async {
                let applied = migrator.up(&pool.uncached(), None).await;
                applied.map(drop).map_err(error::migration)
            })
            .await?;
        self.inspect_schema(&session).await?;
        self.use_write_ahead_log(&session).await
    }

    #[instrument(level = "debug", skip_all)]
    async fn start_run(&self, run: &SkillRun) -> Result<()> {
        let db = self.writing().await?;
        self.record(&db, Write::start(run, &db)?).await
    }

    #[instrument(level = "debug", skip_all)]
    async fn finish_run(&self, run_id: &str, stats: &RunStats) -> Result<()> {
        let db = self.writing().await?;
        self.record(&db, Write::finish(run_id, stats, &db)?).await
    }

    #[instrument(level = "debug", skip_all)]
    async fn append_log(&self, event: &SkillRunLog) -> Result<()> {
        let db = self.writing().await?;
        self.record(&db, Write::append(event, &db)?).await
    }

    #[instrument(level = "debug", skip_all)]
    async fn get_run(&self, run_id: &str) -> Result<SkillRun> {
        runs::get(&self.reading().await?, run_id).await
    }

    #[instrument(level = "debug", skip_all)]
    async fn list_logs_by_run(&self, run_id: &str) -> Result<Vec<SkillRunLog>> {
        logs::list(&self.reading().await?, run_id).await
    }

    #[instrument(level = "debug", skip_all)]
    async fn list_runs_by_skill(
        &self,
        skill_id: &str,
        limit: Option<u64>,
    ) -> Result<Vec<SkillRun>> {
        let filter = RunFilter::new().skill(skill_id);
        list::filtered(&self.reading().await?, &filter, limit.into()).await
    }

    #[instrument(level = "debug", skip_all)]
    async fn list_runs_by_skill_paginated(
        &self,
        skill_id: &str,
        page: Page,
        include_dry_run: bool,
    ) -> Result<Vec<SkillRun>> {
        let filter = by_skill(skill_id, include_dry_run);
        list::filtered(&self.reading().await?, &filter, page).await
    }

    #[instrument(level = "debug", skip_all)]
    async fn count_runs_by_skill(&self, skill_id: &str, include_dry_run: bool) -> Result<u64> {
        let filter = by_skill(skill_id, include_dry_run);
        list::count(&self.reading().await?, &(&filter).into()).await
    }

    #[instrument(level = "debug", skip_all)]
    async fn list_runs_by_caller(
        &self,
        caller_id: &str,
        limit: Option<u64>,
    ) -> Result<Vec<SkillRun>> {
        let filter = RunFilter::new().caller(caller_id);
        list::filtered(&self.reading().await?, &filter, limit.into()).await
    }

    #[instrument(level = "debug", skip_all)]
    async fn list_runs_filtered(&self, filter: &RunFilter, page: Page) -> Result<Vec<SkillRun>> {
        list::filtered(&self.reading().await?, filter, page).await
    }

    #[instrument(level = "debug", skip_all)]
    async fn count_runs_filtered(&self, filter: &RunFilter) -> Result<u64> {
        list::count(&self.reading().await?, &filter.into()).await
    }

    #[instrument(level = "debug", skip_all)]
    async fn purge_older_than(&self, cutoff: DateTime<Utc>) -> Result<u64> {
        let purged = self.purge_in_batches(cutoff, &|_| {}).await?;
        Ok(purged.runs)
    }

    #[instrument(level = "debug", skip_all)]
    async fn list_children_by_parent(&self, parent_run_id: &str) -> Result<Vec<SkillRun>> {
        list::children(&self.reading().await?, parent_run_id).await
    }

    #[instrument(level = "debug", skip_all)]
    async fn walk_parent_chain(&self, run_id: &str) -> Result<Vec<SkillRun>> {
        lineage::chain(&self.reading().await?, run_id).await
    }

    #[instrument(level = "debug", skip_all)]
    async fn list_finished_runs_before(
        &self,
        cutoff: DateTime<Utc>,
        limit: Option<u64>,
    ) -> Result<Vec<SkillRun>> {
        list::finished_before(&self.reading().await?, cutoff, limit).await
    }

    #[instrument(level = "debug", skip_all)]
    async fn last_run_by_skills(
        &self,
        skill_ids: &[String],
        include_failed: bool,
    ) -> Result<HashMap<String, DateTime<Utc>>> {
        last_run::by_skills(&self.reading().await?, skill_ids, include_failed).await
    }
}

fn by_skill(skill_id: &str, include_dry_run: bool) -> RunFilter {
    let mut filter = RunFilter::new().skill(skill_id);
    filter.include_dry_run = include_dry_run;
    filter
}

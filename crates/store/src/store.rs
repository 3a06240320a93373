use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use runtrail_audit::{
    Clock, Error, Limits, Owner, Page, PurgeBatch, PurgeSummary, Result, RunFilter, RunStats,
    SkillRun, SkillRunLog, Storage,
};
use runtrail_db::{
    Borrowed, Connection, DatabaseOptions, Executor, Pool, Retry, backend, closing_deadline,
    runtime,
};
use runtrail_migration::SchemaName;
use sea_orm::{ConnectionTrait, DatabaseConnection};
use tokio::sync::Mutex;
use tracing::{Span, debug_span};

use crate::error;
use crate::read::{last_run, lineage, list};
use crate::record::{TaskTarget, Write, Writer, dispatch};
use crate::settings::{Session, Settings, Tables};
use crate::statements::{logs, purge, runs};
use crate::store_owner::StoreOwner;
use crate::watch::Hub;

/// A run history in a SQLite or PostgreSQL database.
///
/// Cheap to clone; clones share their connections.
/// Before its first statement, a store checks the schema and refuses one that is missing, older,
/// newer or not Runtrail's.
///
/// # When a future is dropped
///
/// Every write is a single statement. If its future is dropped, the write happens either completely
/// or not at all, and repeating the call returns `Ok` and leaves one row. If the store owns its
/// connections, a dropped call that is still queued is never started. A purge is a series of such
/// statements, and so is `append_logs` with very many events; calling them again completes them.
#[derive(Clone, Debug)]
pub struct AuditStore<C = Pool> {
    writer: C,
    reader: C,
    /// Writes the calls of all clones together; `None` if calls are written separately, as on a
    /// host's connections.
    task: Option<Writer>,
    pub(crate) settings: Settings,
    schema: Arc<SchemaCheck>,
    hub: Hub,
}

/// The state of the schema check. Concurrent callers share one check, and its error if it fails; a
/// later caller checks again.
#[derive(Debug, Default)]
struct SchemaCheck {
    has_passed: AtomicBool,
    /// The error of the last failed check, and its time. Locked while a check is in progress.
    last_failure: Mutex<Option<(Instant, Error)>>,
}

impl SchemaCheck {
    fn has_passed(&self) -> bool {
        self.has_passed.load(Ordering::Relaxed)
    }
}

impl AuditStore {
    /// Opens a database by URL or with [`DatabaseOptions`]; the store owns its connections.
    ///
    /// This neither migrates nor changes an existing file;
    /// [`initialize`](Storage::initialize) does. With [`read_only`](DatabaseOptions::read_only), or
    /// `mode=ro` in the URL of a SQLite file, the store can't write.
    ///
    /// **Group commit.** One task writes concurrent calls of [`start_run`](Storage::start_run),
    /// [`finish_run`](Storage::finish_run), [`append_log`](Storage::append_log),
    /// [`reserve`](runtrail_audit::Budgets::reserve) and
    /// [`settle_reservation`](runtrail_audit::Budgets::settle_reservation) together, on one
    /// connection. A single call is written immediately. For a SQLite file the task has a thread of
    /// its own. Otherwise it runs on the tokio runtime of the first caller; if that runtime has
    /// ended, the next caller starts the task again. At most 256 calls are queued, and further
    /// callers wait for a free slot. Calls about the same run are written in the order in which
    /// they were made, unless one is retried after a failure.
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
    /// [`InvalidInput`](runtrail_audit::Error::InvalidInput) for an unusable URL, and the
    /// database's own failures. No message contains a password.
    pub async fn connect(options: impl Into<DatabaseOptions>) -> Result<Self> {
        runtime::verify()?;
        let options = options.into();
        if !options.has_writer() {
            let pool = options.open_pool().await.map_err(error::connecting)?;
            return Ok(Self::from_pools(pool.clone(), pool, None));
        }
        let db = options.open_for_queue().await.map_err(error::connecting)?;
        let readers = options.open_readers();
        let readers = readers.await.map_err(error::connecting)?;
        let lock_timeout = options.queue_timeout();
        #[cfg(feature = "sqlite")]
        if let Some(file) = options.file_to_write() {
            let writer = Writer::new(TaskTarget::File(file), lock_timeout);
            let pool = Pool::file_writer(db, Arc::new(writer.clone()));
            let readers = readers.unwrap_or_else(|| pool.clone());
            return Ok(Self::from_pools(pool, readers, Some(writer)));
        }
        let target = options.open_writer(&db).await.map_err(error::connecting)?;
        let writer = Writer::new(TaskTarget::Pool(target), lock_timeout);
        let pool = match backend::has_one_writer(db.get_database_backend()) {
            true => Pool::single(db, Arc::new(writer.clone())),
            false => Pool::own(db, options.abandoned().clone()),
        };
        let readers = readers.unwrap_or_else(|| pool.clone());
        Ok(Self::from_pools(pool, readers, Some(writer)))
    }

    /// Uses a host's connection.
    ///
    /// The host's use of that connection also affects the history: if the host cancels a
    /// `begin()`, later writes on the same pool can be lost. To prevent this, the host calls
    /// [`discard_open_transactions`](runtrail_db::discard_open_transactions) before it connects. A
    /// store that owns its connections ([`connect`](Self::connect)) is not affected.
    pub fn new(connection: DatabaseConnection) -> Self {
        let pool = Pool::new(connection);
        Self::from_pools(pool.clone(), pool, None)
    }

    fn from_pools(writer: Pool, reader: Pool, task: Option<Writer>) -> Self {
        Self {
            writer,
            reader,
            task,
            settings: Settings::default(),
            schema: Arc::default(),
            hub: Hub::default(),
        }
    }

    /// Sets the maximum size of a value; 1 MiB by default.
    #[must_use]
    pub fn with_limits(mut self, limits: Limits) -> Self {
        self.settings.limits = limits;
        self
    }

    /// Sets the clock; the system clock by default.
    #[must_use]
    pub fn with_clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.settings.clock = clock;
        self
    }

    /// Gives the store an owner: the runs that it starts belong to it, and
    /// [`sweep_interrupted`](runtrail_audit::Ownership::sweep_interrupted) ends them once the owner
    /// is dead. None by default.
    ///
    /// The host must then send [heartbeats](runtrail_audit::Ownership::heartbeat), for example
    /// through a `Recorder`. The store itself sends one only before it starts a run, and only if
    /// one is due. A start on a caller's connection ([`on`](Self::on)) sends none.
    #[must_use]
    pub fn with_owner(mut self, owner: Owner) -> Self {
        self.settings.owner = Some(Arc::new(StoreOwner::new(owner)));
        self
    }

    /// Sets how often a statement is retried after a transient failure; by default, up to 12
    /// attempts within 5 s. There are no retries on a connection passed to [`on`](Self::on).
    #[must_use]
    pub fn with_retry(mut self, retry: Retry) -> Self {
        self.settings.timing.retry = retry;
        self
    }

    /// Limits the duration of a call, including all its attempts and the wait for a connection;
    /// unlimited by default.
    ///
    /// A call that takes longer fails with [`Timeout`](runtrail_audit::Error::Timeout). As with a
    /// dropped future, a write may or may not have happened; repeat the call to be sure. The limit
    /// applies to each batch of a purge and of `append_logs`, and to each query of a stream. A
    /// migration that has begun always completes. Calls on a connection passed to [`on`](Self::on)
    /// have no deadline: the owner of that connection may set one for its transaction.
    #[must_use]
    pub fn with_deadline(mut self, deadline: Duration) -> Self {
        self.settings.timing.call_timeout = Some(deadline);
        self
    }

    /// Sets the PostgreSQL schema of the tables; by default, the connection's search path
    /// determines it. Ignored on SQLite.
    ///
    /// Every statement names the schema, so this works behind a pooler that switches connections.
    #[must_use]
    pub fn in_schema(mut self, schema: SchemaName) -> Self {
        self.settings.tables = Arc::new(Tables {
            schema: backend::has_schemas(self.writer.backend()).then_some(schema),
            ..Tables::default()
        });
        self.schema = Arc::default();
        self.hub = Hub::default();
        // This schema has had no heartbeat yet.
        match self.settings.owner.take() {
            Some(owner) => self.with_owner(owner.owner().clone()),
            None => self,
        }
    }

    /// Sends each PostgreSQL statement in a single message, without preparing it first; no effect
    /// on SQLite.
    ///
    /// This is for poolers in transaction mode without support for prepared statements: PgBouncer
    /// before 1.21, or with `max_prepared_statements = 0`. Migrate through a direct connection
    /// in that case.
    #[must_use]
    pub fn without_prepared_statements(mut self) -> Self {
        self.writer = self.writer.without_prepared_statements();
        self.reader = self.reader.without_prepared_statements();
        self
    }

    /// Closes the connections of this store and of all its clones, including a host's connection,
    /// after all pending calls have been answered. Later calls fail with a
    /// [`Backend`](runtrail_audit::Error::Backend) error that isn't transient.
    ///
    /// Closing takes at most 15 s, or the store's [deadline](Self::with_deadline) if that is
    /// shorter, even if the server is frozen or a lock isn't released. Calls that are still pending
    /// then fail.
    ///
    /// Dropping a store without closing it loses no acknowledged write.
    ///
    /// # Errors
    ///
    /// [`Timeout`](runtrail_audit::Error::Timeout), with the number of calls that were still
    /// pending; the database's own failures.
    pub async fn close(self) -> Result<()> {
        let deadline = closing_deadline(self.settings.timing.call_timeout);
        let task = match &self.task {
            Some(task) => task.close(deadline).await,
            None => Ok(()),
        };
        let writer = self.writer.close(deadline).await;
        let readers = self.reader.close(deadline).await;
        self.hub.store_closed();
        task.and(writer).and(readers)
    }
}

impl<C: Connection> AuditStore<C> {
    /// Returns this store on a host's open transaction, or on any other `ConnectionTrait`.
    ///
    /// The connection must be to the same database. Writes become part of that transaction and are
    /// committed with it. The store only issues statements on it, never a `begin`;
    /// [`initialize`](Storage::initialize) only checks the schema. Streams of
    /// [`Watch`](runtrail_audit::Watch) need the original store.
    ///
    /// ```
    /// # use runtrail_audit::{SkillRun, Storage};
    /// # use runtrail_store::AuditStore;
    /// # use sea_orm::{DatabaseConnection, TransactionTrait};
    /// # type Result = std::result::Result<(), Box<dyn std::error::Error>>;
    /// # async fn example(store: AuditStore, db: DatabaseConnection) -> Result {
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
            // Not shared: the transaction may contain a migration that is rolled back.
            schema: Arc::new(SchemaCheck {
                has_passed: AtomicBool::new(self.schema.has_passed()),
                ..SchemaCheck::default()
            }),
            // Nothing is reported before it is committed.
            hub: Hub::default(),
        }
    }

    /// Returns this store for streams, which outlive it; `None` on a caller's connection.
    pub(crate) fn with_own_pool(&self) -> Option<AuditStore> {
        Some(AuditStore {
            writer: self.writer.pool()?.clone(),
            reader: self.reader.pool()?.clone(),
            task: self.task.clone(),
            settings: self.settings.clone(),
            schema: Arc::clone(&self.schema),
            hub: self.hub.clone(),
        })
    }

    /// What has been written, for streams.
    pub(crate) fn hub(&self) -> &Hub {
        &self.hub
    }

    /// Checks that the schema matches this version, without changing anything. A store also does
    /// this automatically before its first statement.
    ///
    /// # Errors
    ///
    /// The `Schema…` variants of [`Error`](runtrail_audit::Error), and the database's own failures.
    pub async fn verify_schema(&self) -> Result<()> {
        self.check_schema_with_retries(&Session::new(&self.reader, &self.settings))
            .await
    }

    /// Returns the current time of the store's clock.
    pub fn now(&self) -> DateTime<Utc> {
        self.settings.clock.now()
    }

    /// The connection that writes.
    pub(crate) fn connection(&self) -> &C {
        &self.writer
    }

    pub(crate) async fn writing(&self, span: Span) -> Result<Session<'_, C>> {
        self.session(&self.writer, span).await
    }

    pub(crate) async fn reading(&self, span: Span) -> Result<Session<'_, C>> {
        self.session(&self.reader, span).await
    }

    async fn session<'a>(&'a self, connection: &'a C, span: Span) -> Result<Session<'a, C>> {
        runtime::verify()?;
        let session = Session::new(connection, &self.settings).in_span(span);
        if !self.schema.has_passed() {
            let check_once = || async {
                let begun = Instant::now();
                let mut last_failure = self.schema.last_failure.lock().await;
                match &*last_failure {
                    _ if self.schema.has_passed() => return Ok(()),
                    Some((at, err)) if *at > begun => return Err(err.clone()),
                    _ => {}
                }
                let checked = self.check_schema().await;
                if let Err(err) = &checked {
                    *last_failure = Some((Instant::now(), err.clone()));
                }
                checked
            };
            session.through(&self.reader).attempt(check_once).await?;
        }
        Ok(session)
    }

    pub(crate) async fn record(&self, db: &Session<'_, C>, write: Write) -> Result<()> {
        dispatch(db, self.task.as_ref(), &self.hub, write).await
    }

    pub(crate) async fn purge(
        &self,
        span: Span,
        cutoff: DateTime<Utc>,
        on_batch: &(dyn Fn(PurgeBatch) + Sync),
    ) -> Result<PurgeSummary> {
        let db = self.writing(span).await?;
        let reader = db.through(&self.reader);
        purge::older_than(&db, &reader, cutoff, on_batch).await
    }

    async fn check_schema_with_retries(&self, session: &Session<'_, C>) -> Result<()> {
        let session = session.through(&self.reader);
        session.attempt(|| self.check_schema()).await
    }

    /// Switches a SQLite file that another program created to the write-ahead log, if this store
    /// owns its connections.
    async fn use_write_ahead_log(&self, session: &Session<'_, C>) -> Result<()> {
        let Some(pool) = self.writer.pool() else {
            return Ok(());
        };
        let switch = || async { pool.use_write_ahead_log().await.map_err(error::database) };
        session.attempt(switch).await
    }

    /// Uses the reading connection, since the writing one may be waiting for a lock.
    async fn check_schema(&self) -> Result<()> {
        let state = self.settings.migrator().state(&self.reader).await;
        error::require_current(state.map_err(error::migration)?)?;
        self.schema.has_passed.store(true, Ordering::Relaxed);
        Ok(())
    }
}

#[async_trait]
impl<C: Connection> Storage for AuditStore<C> {
    async fn initialize(&self) -> Result<()> {
        let session = Session::new(&self.writer, &self.settings).in_span(debug_span!("initialize"));
        // Always checks again: the tables may have been dropped since the last check.
        let pending = match self.check_schema_with_retries(&session).await {
            Err(err @ (Error::SchemaMissing | Error::SchemaOutdated { .. })) => err,
            Ok(()) => return self.use_write_ahead_log(&session).await,
            otherwise => return otherwise,
        };
        let Some(pool) = self.writer.pool() else {
            return Err(pending);
        };
        let migrator = self.settings.migrator();
        session
            .attempt(|| async {
                let applied = migrator.up(&pool.uncached(), None).await;
                applied.map(drop).map_err(error::migration)
            })
            .await?;
        self.check_schema_with_retries(&session).await?;
        self.use_write_ahead_log(&session).await
    }

    async fn start_run(&self, run: &SkillRun) -> Result<()> {
        let db = self.writing(debug_span!("start_run")).await?;
        self.renew_if_due(&db).await?;
        self.record(&db, Write::start(run, &db)?).await
    }

    async fn finish_run(&self, run_id: &str, stats: &RunStats) -> Result<()> {
        let db = self.writing(debug_span!("finish_run")).await?;
        self.record(&db, Write::finish(run_id, stats, &db)?).await
    }

    async fn append_log(&self, event: &SkillRunLog) -> Result<()> {
        let db = self.writing(debug_span!("append_log")).await?;
        self.record(&db, Write::append(event, &db)?).await
    }

    async fn get_run(&self, run_id: &str) -> Result<SkillRun> {
        let db = self.reading(debug_span!("get_run")).await?;
        runs::get(&db, run_id).await
    }

    async fn list_logs_by_run(&self, run_id: &str) -> Result<Vec<SkillRunLog>> {
        let db = self.reading(debug_span!("list_logs_by_run")).await?;
        logs::list(&db, run_id).await
    }

    async fn list_runs_by_skill(
        &self,
        skill_id: &str,
        limit: Option<u64>,
    ) -> Result<Vec<SkillRun>> {
        let filter = RunFilter::new().skill(skill_id);
        let db = self.reading(debug_span!("list_runs_by_skill")).await?;
        list::filtered(&db, &filter, limit.into()).await
    }

    async fn list_runs_by_skill_paginated(
        &self,
        skill_id: &str,
        page: Page,
        include_dry_run: bool,
    ) -> Result<Vec<SkillRun>> {
        let filter = by_skill(skill_id, include_dry_run);
        let db = self
            .reading(debug_span!("list_runs_by_skill_paginated"))
            .await?;
        list::filtered(&db, &filter, page).await
    }

    async fn count_runs_by_skill(&self, skill_id: &str, include_dry_run: bool) -> Result<u64> {
        let filter = by_skill(skill_id, include_dry_run);
        let db = self.reading(debug_span!("count_runs_by_skill")).await?;
        list::count(&db, &(&filter).into()).await
    }

    async fn list_runs_by_caller(
        &self,
        caller_id: &str,
        limit: Option<u64>,
    ) -> Result<Vec<SkillRun>> {
        let filter = RunFilter::new().caller(caller_id);
        let db = self.reading(debug_span!("list_runs_by_caller")).await?;
        list::filtered(&db, &filter, limit.into()).await
    }

    async fn list_runs_filtered(&self, filter: &RunFilter, page: Page) -> Result<Vec<SkillRun>> {
        let db = self.reading(debug_span!("list_runs_filtered")).await?;
        list::filtered(&db, filter, page).await
    }

    async fn count_runs_filtered(&self, filter: &RunFilter) -> Result<u64> {
        let db = self.reading(debug_span!("count_runs_filtered")).await?;
        list::count(&db, &filter.into()).await
    }

    async fn purge_older_than(&self, cutoff: DateTime<Utc>) -> Result<u64> {
        let span = debug_span!("purge_older_than");
        Ok(self.purge(span, cutoff, &|_| {}).await?.runs)
    }

    async fn list_children_by_parent(&self, parent_run_id: &str) -> Result<Vec<SkillRun>> {
        let db = self.reading(debug_span!("list_children_by_parent")).await?;
        list::children(&db, parent_run_id).await
    }

    async fn walk_parent_chain(&self, run_id: &str) -> Result<Vec<SkillRun>> {
        let db = self.reading(debug_span!("walk_parent_chain")).await?;
        lineage::chain(&db, run_id).await
    }

    async fn list_finished_runs_before(
        &self,
        cutoff: DateTime<Utc>,
        limit: Option<u64>,
    ) -> Result<Vec<SkillRun>> {
        let db = self
            .reading(debug_span!("list_finished_runs_before"))
            .await?;
        list::finished_before(&db, cutoff, limit).await
    }

    async fn last_run_by_skills(
        &self,
        skill_ids: &[String],
        include_failed: bool,
    ) -> Result<HashMap<String, DateTime<Utc>>> {
        let db = self.reading(debug_span!("last_run_by_skills")).await?;
        last_run::by_skills(&db, skill_ids, include_failed).await
    }
}

fn by_skill(skill_id: &str, include_dry_run: bool) -> RunFilter {
    let mut filter = RunFilter::new().skill(skill_id);
    filter.include_dry_run = include_dry_run;
    filter
}

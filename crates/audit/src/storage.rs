use std::collections::HashMap;
use std::fmt;

use async_trait::async_trait;
use chrono::{DateTime, Utc};

use crate::{Page, Result, RunFilter, RunStats, SkillRun, SkillRunLog};

/// A durable history of runs and their events.
///
/// The trait is object-safe: hosts can share one `Arc<dyn Storage>`.
///
/// **Order.** Lists of runs are sorted newest first: by `started_at` descending, then by `id`
/// descending. The order is total, so two pages of a list never overlap or skip a run.
///
/// **Writes.** `Ok` means that the database has committed. If a future is dropped before it
/// completes, its write happens either completely or not at all, and repeating the call returns
/// `Ok` and leaves one row. A dropped purge stops between two batches; calling it again deletes the
/// rest.
///
/// **Times** are stored and compared in whole microseconds; smaller fractions are truncated, in
/// arguments too.
///
/// **Damaged rows.** A row that another program wrote and that can't be decoded never hides the
/// others: lists leave it out and report it through `tracing`. Counts decode no rows, so they
/// include it.
///
/// **Errors.** In addition to the errors listed for each method, every method returns
/// [`InvalidInput`](crate::Error::InvalidInput) for an invalid identifier (longer than 255 bytes,
/// containing a NUL, or an empty run id), one of the `Schema…` errors if the schema of the database
/// doesn't match this version, and the database's own failures.
#[async_trait]
pub trait Storage: Send + Sync + fmt::Debug {
    /// Brings the schema up to date by applying all pending migrations.
    ///
    /// Safe to call repeatedly, and from many processes at once.
    /// Once a migration has begun, it completes even if this future is dropped.
    async fn initialize(&self) -> Result<()>;

    /// Records the start of a run.
    ///
    /// A new run is inserted as given, so a run that has already finished can be recorded in one
    /// call. If a run with this id is still running, only its `skill_id`, `caller_id`,
    /// `channel_id`, `parent_run_id`, `inputs`, `started_at` and `owner_id` are updated, and its
    /// labels are [added](crate::RunLabels::add_labels). An outcome in `run` is then ignored: call
    /// [`finish_run`](Self::finish_run) to record it. If the stored run is finished, repeating its
    /// start returns `Ok` and changes nothing; the stored run must already have these labels. If
    /// `run` is finished as well, its outcome must match too.
    ///
    /// # Errors
    ///
    /// [`RunFinished`](crate::Error::RunFinished) if the stored run is finished and differs,
    /// [`InvalidInput`](crate::Error::InvalidInput) and [`TooLarge`](crate::Error::TooLarge) for a
    /// field that can't be stored. These errors leave the history unchanged.
    async fn start_run(&self, run: &SkillRun) -> Result<()>;

    /// Records the outcome of a run, and sets `finished_at` to the current time of the store's
    /// clock.
    ///
    /// Repeating the call with the same stats returns `Ok`; `finished_at` doesn't change.
    /// The status is replaced as well: to keep a dry run hidden, finish it with the status
    /// [`DRY_RUN`](crate::RunStatus::DRY_RUN).
    ///
    /// The owner of a run that ended as [`INTERRUPTED`](crate::RunStatus::INTERRUPTED) can finish it
    /// once more, with another status.
    ///
    /// # Errors
    ///
    /// [`NotFound`](crate::Error::NotFound), [`RunFinished`](crate::Error::RunFinished) if the run
    /// was finished with other stats, [`InvalidInput`](crate::Error::InvalidInput) (also for the
    /// status `running`) and [`TooLarge`](crate::Error::TooLarge). These errors leave the history
    /// unchanged.
    async fn finish_run(&self, run_id: &str, stats: &RunStats) -> Result<()>;

    /// Stores one event of a run, whether the run is running or finished.
    ///
    /// Repeating the call with the same event returns `Ok`. Two events are the same if all their
    /// fields except `created_at` match.
    ///
    /// # Errors
    ///
    /// [`NotFound`](crate::Error::NotFound) for an unknown run,
    /// [`Conflict`](crate::Error::Conflict) if the sequence belongs to a different event,
    /// [`InvalidInput`](crate::Error::InvalidInput) and [`TooLarge`](crate::Error::TooLarge). These
    /// errors leave the history unchanged.
    async fn append_log(&self, event: &SkillRunLog) -> Result<()>;

    /// Returns the run with this id.
    ///
    /// # Errors
    ///
    /// [`NotFound`](crate::Error::NotFound), [`Corrupt`](crate::Error::Corrupt).
    async fn get_run(&self, run_id: &str) -> Result<SkillRun>;

    /// Lists all events of a run by ascending sequence; empty for an unknown run.
    async fn list_logs_by_run(&self, run_id: &str) -> Result<Vec<SkillRunLog>>;

    /// Lists the newest runs of a skill, at most `limit`, without dry runs.
    async fn list_runs_by_skill(&self, skill_id: &str, limit: Option<u64>)
    -> Result<Vec<SkillRun>>;

    /// Lists one page of the runs of a skill.
    async fn list_runs_by_skill_paginated(
        &self,
        skill_id: &str,
        page: Page,
        include_dry_run: bool,
    ) -> Result<Vec<SkillRun>>;

    /// Counts the runs of a skill, damaged rows included.
    async fn count_runs_by_skill(&self, skill_id: &str, include_dry_run: bool) -> Result<u64>;

    /// Lists the newest runs of a caller, at most `limit`, without dry runs.
    async fn list_runs_by_caller(
        &self,
        caller_id: &str,
        limit: Option<u64>,
    ) -> Result<Vec<SkillRun>>;

    /// Lists one page of the runs that match a filter.
    async fn list_runs_filtered(&self, filter: &RunFilter, page: Page) -> Result<Vec<SkillRun>>;

    /// Counts the runs that match a filter, damaged rows included.
    async fn count_runs_filtered(&self, filter: &RunFilter) -> Result<u64>;

    /// Deletes the runs that finished strictly before `cutoff`, with their events. A running run is
    /// never deleted.
    ///
    /// Returns the number of deleted runs, which is too low if the reply to a deletion was lost.
    /// The purge works in bounded batches and commits each one separately. If it is interrupted,
    /// calling it again completes it, and no event is ever left without its run.
    /// A run that keeps receiving new events during the purge may be left for the next one.
    async fn purge_older_than(&self, cutoff: DateTime<Utc>) -> Result<u64>;

    /// Lists the direct children of a run, newest first, dry runs included.
    async fn list_children_by_parent(&self, parent_run_id: &str) -> Result<Vec<SkillRun>>;

    /// Lists the run, its parent, its parent's parent, and so on.
    ///
    /// Stops at a parent that isn't stored, and before a run that is already listed; empty for an
    /// unknown run.
    async fn walk_parent_chain(&self, run_id: &str) -> Result<Vec<SkillRun>>;

    /// Lists the newest runs that finished strictly before `cutoff`, at most `limit`, dry runs
    /// included: the runs that [`purge_older_than`](Self::purge_older_than) would delete.
    async fn list_finished_runs_before(
        &self,
        cutoff: DateTime<Utc>,
        limit: Option<u64>,
    ) -> Result<Vec<SkillRun>>;

    /// Returns the newest `started_at` of each of these skills; a skill without runs is left out.
    ///
    /// The number of skills is not limited. Dry runs count. Without `include_failed`, runs with the
    /// status `error` or `timeout` don't count.
    async fn last_run_by_skills(
        &self,
        skill_ids: &[String],
        include_failed: bool,
    ) -> Result<HashMap<String, DateTime<Utc>>>;
}

const _: fn(&dyn Storage) = |_| {};

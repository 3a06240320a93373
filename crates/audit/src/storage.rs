use std::collections::HashMap;
use std::fmt;

use async_trait::async_trait;
use chrono::{DateTime, Utc};

use crate::{Page, Result, RunFilter, RunStats, SkillRun, SkillRunLog};

/// A durable history of runs and their events.
///
/// The trait is object-safe: hosts hold an `Arc<dyn Storage>`.
///
/// **Order.** Runs come newest first: by `started_at` descending, then by `id` descending, so that two pages
/// never overlap or skip.
///
/// **Writes.** `Ok` means that the database has committed.
/// A future that is dropped half way leaves its write wholly there or wholly absent, and the same call again
/// gives `Ok` and one row; a purge leaves off between two batches, and goes on when it is called again.
///
/// **Times** are kept, and compared, to the microsecond: what is below is cut off, in arguments too.
///
/// **Damaged rows.** A row that something else has written and that can't be read never hides the others: lists
/// leave it out and report it through `tracing`.
/// Counts, which read no rows, still count it.
///
/// **Errors.** Beside those named at each method, every method gives
/// [`InvalidInput`](crate::Error::InvalidInput) for an identifier that can't exist (longer than 255 bytes, with
/// a NUL, or an empty run id), one of the `Schema…` errors when the database is not at this version's schema,
/// and the database's own failures.
#[async_trait]
pub trait Storage: Send + Sync + fmt::Debug {
    /// Brings the schema up to date: applies all pending migrations.
    ///
    /// Safe to call from many processes at once, and again and again.
    /// A migration that has begun is finished even when this future is dropped.
    async fn initialize(&self) -> Result<()>;

    /// Records that a run has started.
    ///
    /// A new run is inserted as given; one that is already finished can be recorded in one call.
    /// If a run with this id is still running, its `skill_id`, `caller_id`, `channel_id`, `parent_run_id`,
    /// `inputs` and `started_at` are updated, and nothing else: an outcome that is given then is left out, it
    /// takes [`finish_run`](Self::finish_run) to record it.
    /// If it is finished, the same start again is `Ok` and changes nothing.
    /// A record that is itself finished is the same only if its outcome is the same too.
    ///
    /// # Errors
    ///
    /// [`RunFinished`](crate::Error::RunFinished) when a finished run differs,
    /// [`InvalidInput`](crate::Error::InvalidInput) and [`TooLarge`](crate::Error::TooLarge) for a field that
    /// can't be stored. Nothing changes then.
    async fn start_run(&self, run: &SkillRun) -> Result<()>;

    /// Records the outcome of a run; `finished_at` becomes the time by the store's clock.
    ///
    /// With the same stats as before: `Ok`, and the first `finished_at` is kept.
    /// The status is set as well, so a dry run that shall stay hidden is finished as
    /// [`DRY_RUN`](crate::RunStatus::DRY_RUN).
    ///
    /// # Errors
    ///
    /// [`NotFound`](crate::Error::NotFound), [`RunFinished`](crate::Error::RunFinished) when it was finished
    /// with other stats, [`InvalidInput`](crate::Error::InvalidInput) (also for the status `running`) and
    /// [`TooLarge`](crate::Error::TooLarge). Nothing changes then.
    async fn finish_run(&self, run_id: &str, stats: &RunStats) -> Result<()>;

    /// Stores one event of a run, running or finished.
    ///
    /// The same event again (same run, sequence, type and payload, whatever its time) is `Ok`.
    ///
    /// # Errors
    ///
    /// [`NotFound`](crate::Error::NotFound) for an unknown run, [`Conflict`](crate::Error::Conflict) when
    /// another event is stored there, [`InvalidInput`](crate::Error::InvalidInput) and
    /// [`TooLarge`](crate::Error::TooLarge). Nothing changes then.
    async fn append_log(&self, event: &SkillRunLog) -> Result<()>;

    /// The run with this id.
    ///
    /// # Errors
    ///
    /// [`NotFound`](crate::Error::NotFound), [`Corrupt`](crate::Error::Corrupt).
    async fn get_run(&self, run_id: &str) -> Result<SkillRun>;

    /// All events of a run in the order of their sequence; none for an unknown run.
    async fn list_logs_by_run(&self, run_id: &str) -> Result<Vec<SkillRunLog>>;

    /// The newest runs of a skill, without dry runs.
    async fn list_runs_by_skill(&self, skill_id: &str, limit: Option<u64>)
    -> Result<Vec<SkillRun>>;

    /// One page of the runs of a skill.
    async fn list_runs_by_skill_paginated(
        &self,
        skill_id: &str,
        page: Page,
        include_dry_run: bool,
    ) -> Result<Vec<SkillRun>>;

    /// How many runs of a skill there are: the length of the unlimited list, damaged rows counted.
    async fn count_runs_by_skill(&self, skill_id: &str, include_dry_run: bool) -> Result<u64>;

    /// The newest runs for a caller, without dry runs.
    async fn list_runs_by_caller(
        &self,
        caller_id: &str,
        limit: Option<u64>,
    ) -> Result<Vec<SkillRun>>;

    /// One page of the runs that a filter takes.
    async fn list_runs_filtered(&self, filter: &RunFilter, page: Page) -> Result<Vec<SkillRun>>;

    /// How many runs a filter takes.
    async fn count_runs_filtered(&self, filter: &RunFilter) -> Result<u64>;

    /// Deletes the runs that finished before `cutoff` (strictly), with their events; never a running one.
    ///
    /// Returns how many runs went; fewer if the reply to a deletion was lost on the way.
    /// Works in bounded batches, each committed by itself: dropped or killed half way and called again, it
    /// completes, and no event is ever left without its run.
    /// A run that is given new events all the while may be left for the next purge.
    async fn purge_older_than(&self, cutoff: DateTime<Utc>) -> Result<u64>;

    /// The runs that a run spawned itself, newest first, dry runs included.
    async fn list_children_by_parent(&self, parent_run_id: &str) -> Result<Vec<SkillRun>>;

    /// The run, its parent, its parent's parent, and so on.
    ///
    /// Stops at a parent that isn't stored, and before a run that came already; empty for an unknown run.
    async fn walk_parent_chain(&self, run_id: &str) -> Result<Vec<SkillRun>>;

    /// The newest of the runs that finished before `cutoff` (strictly): what
    /// [`purge_older_than`](Self::purge_older_than) would delete, dry runs included.
    async fn list_finished_runs_before(
        &self,
        cutoff: DateTime<Utc>,
        limit: Option<u64>,
    ) -> Result<Vec<SkillRun>>;

    /// For each of these skills that has ever run, the newest `started_at`.
    ///
    /// Any number of skills; dry runs count.
    /// Without `include_failed`, runs with the status `error` or `timeout` don't.
    async fn last_run_by_skills(
        &self,
        skill_ids: &[String],
        include_failed: bool,
    ) -> Result<HashMap<String, DateTime<Utc>>>;
}

const _: fn(&dyn Storage) = |_| {};

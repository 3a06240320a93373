//! One pass over both histories, which writes the rows that the target lacks, or only compares.

use std::collections::HashMap;
use std::sync::Arc;

use runtrail_audit::{Result, RunStatus};
use runtrail_entity::{skill_run, skill_run_log};
use runtrail_store::{AuditStore, StoredRows};
use tokio::task::JoinSet;

use crate::budgets;
use crate::digest::Digest;
use crate::history::{CopiedRow, History, Range, ScannedRow};
use crate::report::{DifferenceKind, PassSummary};
use crate::rows::{self, Pages, Rows};
use crate::target;
use crate::tracker::{ComparedRow, PassTracker, Purpose};

pub(crate) struct Pass<'a> {
    source: Arc<dyn History>,
    target: &'a AuditStore,
    tracker: PassTracker<'a>,
    /// Batches of events that are being written while further events are compared.
    in_flight: JoinSet<BatchResult>,
}

/// The events of a batch, and the result for each.
type BatchResult = (Vec<skill_run_log::Model>, Result<Vec<Result<()>>>);

/// More than one, because PostgreSQL writes batches in parallel.
const MAX_IN_FLIGHT: usize = 2;

/// The number of events between progress notices.
const EVENTS_BETWEEN_NOTICES: u64 = 1_000;

/// For each run of the source in a range, whether the target has the same run. Only events
/// of matching runs are written.
type RunMatches = HashMap<String, bool>;

impl<'a> Pass<'a> {
    pub(crate) fn new(
        source: Arc<dyn History>,
        target: &'a AuditStore,
        tracker: PassTracker<'a>,
    ) -> Self {
        Self {
            source,
            target,
            tracker,
            in_flight: JoinSet::new(),
        }
    }

    pub(crate) async fn run(mut self) -> Result<PassSummary> {
        self.tracker.report_start(self.source.size().await?);
        if self.tracker.is_writing() {
            self.owners().await?;
        }
        let mut pages = pages_of_runs(Arc::clone(&self.source), Range::default());
        let mut after = None;
        while let Some(page) = pages.next().await? {
            // The range also covers runs of the target that lie between those of this page. For
            // the last page it has no upper bound.
            let until = page.next.as_ref().map(|_| {
                let last = last_key(&page.rows);
                last.or_else(|| after.clone()).unwrap_or_default()
            });
            let range = Range {
                after: after.take(),
                until: until.clone(),
            };
            let matches = self.runs(page.rows, &range).await?;
            self.events(&matches, range).await?;
            after = until;
        }
        while self.join_batch().await? {}
        budgets::copy(&*self.source, self.target, &mut self.tracker).await?;
        Ok(self.tracker.summary)
    }

    /// Copies the owners first, so that the target never takes one for dead because it is missing.
    async fn owners(&self) -> Result<()> {
        let mut after = String::new();
        loop {
            let owners = self.source.owners(&after).await?;
            let Some(last) = owners.last() else {
                return Ok(());
            };
            after.clone_from(&last.owner.id);
            self.target.stored_rows().put_owners(&owners).await?;
        }
    }

    /// Compares the runs of a range; `page` contains the runs of the source.
    async fn runs(
        &mut self,
        page: Vec<ScannedRow<skill_run::Model>>,
        range: &Range,
    ) -> Result<RunMatches> {
        let read = page.len() as u64;
        let keys = page.iter().filter_map(|row| row.key.clone());
        let mut matches: RunMatches = keys.map(|id| (id, false)).collect();
        let (mut new, mut finished, mut labelled) = (Vec::new(), Vec::new(), Vec::new());

        let mut source = Rows::from_page(page, range.after.clone());
        let mut target = Rows::from_pages(self.pages_of_target(range.clone()));
        while let Some(pair) = rows::next_pair(&mut source, &mut target).await? {
            match self.tracker.compare(pair) {
                None => {}
                Some(ComparedRow::Same(run)) => {
                    matches.insert(run.id, true);
                }
                Some(ComparedRow::New(run)) => new.extend(self.storable(run)),
                Some(ComparedRow::Different { source, target })
                    if is_same_but_outdated(&source, &target) =>
                {
                    let Some(run) = self.storable(source) else {
                        continue;
                    };
                    if run.labels != target.labels {
                        labelled.push((run.clone(), target.labels.clone()));
                    }
                    if !differ_only_in_labels(&run, &target) {
                        finished.push(run);
                    }
                }
                Some(ComparedRow::Different { source, .. }) => self.tracker.conflict(&source),
            }
        }

        if self.tracker.is_writing() {
            let stored = self.target.stored_rows().insert_runs(&new).await?;
            for (run, is_stored) in new.into_iter().zip(stored) {
                self.tracker
                    .written(&run, is_stored, |tally| &mut tally.copied);
                matches.insert(run.id, is_stored);
            }
            let stored = self.target.stored_rows().label_runs(&labelled).await?;
            for ((run, _), is_stored) in labelled.into_iter().zip(stored) {
                self.tracker
                    .written(&run, is_stored, |tally| &mut tally.labelled);
                matches.insert(run.id, is_stored);
            }
            let stored = self.target.stored_rows().finish_runs(&finished).await?;
            for (run, is_stored) in finished.into_iter().zip(stored) {
                self.tracker
                    .written(&run, is_stored, |tally| &mut tally.finished);
                matches.insert(run.id, is_stored);
            }
        } else {
            for run in new {
                self.tracker.behind(&run, DifferenceKind::Missing);
            }
            for (run, _) in labelled {
                self.tracker.behind(&run, DifferenceKind::OtherLabels);
                matches.insert(run.id, true);
            }
            for run in finished {
                self.tracker.behind(&run, DifferenceKind::Unfinished);
                matches.insert(run.id, true);
            }
        }
        self.tracker.report_progress(read, 0);
        Ok(matches)
    }

    async fn events(&mut self, matches: &RunMatches, range: Range) -> Result<()> {
        if self.tracker.purpose == Purpose::CopyBeforeVerify && self.skip_events(&range).await? {
            return Ok(());
        }
        let mut source = Rows::from_pages(pages_of_events(Arc::clone(&self.source), range.clone()));
        let mut target = Rows::from_pages(pages_of_events(Arc::new(self.target.clone()), range));
        let mut batch = Batch::default();
        let mut without_run = Vec::new();
        let mut reported = self.tracker.summary.events.read;
        while let Some(pair) = rows::next_pair(&mut source, &mut target).await? {
            match self.tracker.compare(pair) {
                None | Some(ComparedRow::Same(_)) => {}
                Some(ComparedRow::Different { source, .. }) => self.tracker.conflict(&source),
                Some(ComparedRow::New(event)) => match matches.get(&event.run_id) {
                    Some(true) => match self.storable(event) {
                        Some(event) if self.tracker.is_writing() => batch.push(event),
                        Some(event) => self.tracker.behind(&event, DifferenceKind::Missing),
                        None => {}
                    },
                    // The target's run is a different one: don't add events to it.
                    Some(false) => self.tracker.blocked(&event),
                    None => without_run.push((event.key(), Digest::of(&event))),
                },
            }
            if batch.is_full() {
                self.append(&mut batch).await?;
            }
            if without_run.len() >= StoredRows::MAX_BATCH_ROWS {
                self.recheck_runs(&mut without_run).await?;
            }
            let read = self.tracker.summary.events.read - reported;
            if read >= EVENTS_BETWEEN_NOTICES {
                reported += read;
                self.tracker.report_progress(0, read);
            }
        }
        self.append(&mut batch).await?;
        self.recheck_runs(&mut without_run).await?;
        let read = self.tracker.summary.events.read - reported;
        self.tracker.report_progress(0, read);
        Ok(())
    }

    /// Skips the events of a range if both sides have the same number of them, and returns whether
    /// they were skipped. This shortens the downtime of a final copy; the verification finds any
    /// difference.
    async fn skip_events(&mut self, range: &Range) -> Result<bool> {
        let events = self.source.count_events(range).await?;
        let is_same = events == History::count_events(self.target, range).await?;
        if is_same {
            self.tracker.summary.events.read += events;
            self.tracker.summary.events.same += events;
            self.tracker.report_progress(0, events);
        }
        Ok(is_same)
    }

    async fn append(&mut self, batch: &mut Batch) -> Result<()> {
        let events = std::mem::take(batch).events;
        if events.is_empty() {
            return Ok(());
        }
        if self.in_flight.len() == MAX_IN_FLIGHT {
            self.join_batch().await?;
        }
        let target = self.target.clone();
        self.in_flight.spawn(async move {
            let answers = target.stored_rows().append_events(&events).await;
            (events, answers)
        });
        Ok(())
    }

    /// Waits until a batch is written. Returns false if none is in flight.
    async fn join_batch(&mut self) -> Result<bool> {
        let Some(written) = self.in_flight.join_next().await else {
            return Ok(false);
        };
        let (events, answers) = written.map_err(rows::task_failed)?;
        for (event, answer) in events.iter().zip(answers?) {
            self.tracker
                .written(event, answer.is_ok(), |tally| &mut tally.copied);
        }
        Ok(true)
    }

    /// Classifies events whose run wasn't read. The run may have been written since; if the source
    /// still has no such run, the event is an orphan.
    async fn recheck_runs(&mut self, events: &mut Vec<((String, i64), Digest)>) -> Result<()> {
        let mut run_ids: Vec<_> = events.iter().map(|((id, _), _)| id.clone()).collect();
        run_ids.dedup();
        let existing = self.source.existing(&run_ids).await?;
        for (key, digest) in events.drain(..) {
            match existing.contains(&key.0) {
                true => {
                    let kind = DifferenceKind::Missing;
                    self.tracker
                        .behind_by_key::<skill_run_log::Model>(&key, kind);
                }
                false => self.tracker.orphan(&key, digest),
            }
        }
        Ok(())
    }

    /// The runs of the target, without their labels if the source has none to compare them with.
    fn pages_of_target(&self, range: Range) -> Pages<skill_run::Model> {
        let target: Arc<dyn History> = Arc::new(self.target.clone());
        if self.source.has_labels() {
            return pages_of_runs(target, range);
        }
        Pages::new(target, range, |target, position| async move {
            let mut page = target.runs(&position).await?;
            for run in page
                .rows
                .iter_mut()
                .filter_map(|row| row.content.as_mut().ok())
            {
                run.labels = None;
            }
            Ok(page)
        })
    }

    /// Returns the row if the target can store it; otherwise records it as refused.
    fn storable<M: CopiedRow>(&mut self, row: M) -> Option<M> {
        match target::refusal(self.target, &row) {
            None => Some(row),
            Some(err) => {
                self.tracker.refuse::<M>(Some(&row.key()), &err);
                None
            }
        }
    }
}

/// Returns the last key that both databases can query: PostgreSQL accepts no text with a NUL
/// character. Rows after it belong to the next range.
fn last_key(rows: &[ScannedRow<skill_run::Model>]) -> Option<String> {
    let mut keys = rows.iter().rev().filter_map(|row| row.key.as_ref());
    keys.find(|key| !key.contains('\0')).cloned()
}

/// Whether the target's run is an older version of the source's: they differ at most in labels and
/// outcome, and a different outcome is missing from the target or is an interruption.
fn is_same_but_outdated(source: &skill_run::Model, target: &skill_run::Model) -> bool {
    fn start(run: &skill_run::Model) -> (i64, [&str; 5], [Option<&str>; 2]) {
        let parts = [
            &run.id,
            &run.skill_id,
            &run.caller_id,
            &run.channel_id,
            // Compares bytes, not JSON values: finishing the run would leave different bytes as
            // they are, and the digests would differ forever.
            &run.inputs,
        ];
        let parent = run.parent_run_id.as_deref();
        let owner = run.owner_id.as_deref();
        (run.started_at, parts.map(String::as_str), [parent, owner])
    }
    let lacks_outcome =
        target.finished_at.is_none() || target.status == RunStatus::INTERRUPTED.as_str();
    differ_only_in_labels(source, target)
        || source.finished_at.is_some() && lacks_outcome && start(source) == start(target)
}

fn differ_only_in_labels(source: &skill_run::Model, target: &skill_run::Model) -> bool {
    let relabelled = skill_run::Model {
        labels: source.labels.clone(),
        ..target.clone()
    };
    relabelled == *source && source.labels != target.labels
}

/// Events that one statement writes.
#[derive(Default)]
struct Batch {
    events: Vec<skill_run_log::Model>,
    bytes: usize,
}

impl Batch {
    fn push(&mut self, event: skill_run_log::Model) {
        self.bytes += event.payload.len();
        self.events.push(event);
    }

    fn is_full(&self) -> bool {
        self.events.len() >= StoredRows::MAX_BATCH_ROWS || self.bytes >= StoredRows::MAX_BATCH_BYTES
    }
}

fn pages_of_runs(history: Arc<dyn History>, range: Range) -> Pages<skill_run::Model> {
    Pages::new(history, range, |history, position| async move {
        history.runs(&position).await
    })
}

fn pages_of_events(history: Arc<dyn History>, range: Range) -> Pages<skill_run_log::Model> {
    Pages::new(history, range, |history, position| async move {
        history.events(&position).await
    })
}

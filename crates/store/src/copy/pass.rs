//! Going through both histories once: to write what the target hasn't, or to compare.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use runtrail_audit::{Error, Result};
use runtrail_entity::{skill_run, skill_run_log};
use tokio::task::JoinSet;

use super::digest::Digest;
use super::history::{Copied, Found, History, Range};
use super::report::{Difference, DifferenceKind, Notice, PassSummary, Tally};
use super::rows::{self, Pages, Pair, Rows};
use super::target;
use crate::store::AuditStore;
use crate::write;

/// What it is done for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    /// To write what the target hasn't.
    Copy,
    /// The same, before it is verified, which tells all that is different at its end: so it may look less closely.
    CopyToVerify,
    Verify,
}

pub(super) struct Pass<'a> {
    pub(super) source: Arc<dyn History>,
    pub(super) target: &'a AuditStore,
    pub(super) observer: &'a (dyn Fn(Notice) + Sync),
    pub(super) purpose: Purpose,
    /// Whether nothing may be behind any more.
    pub(super) is_last: bool,
    pub(super) summary: PassSummary,
    pub(super) writes: Writes,
}

/// Batches of events that are being written, while further ones are gone through.
pub(super) type Writes = JoinSet<(Vec<skill_run_log::Model>, Result<Vec<Result<()>>>)>;

/// More than one, for PostgreSQL has more than one processor to write them.
const MOST_WRITES: usize = 2;

/// A row of the source, as the target has it.
enum Compared<M> {
    Same(M),
    New(M),
    Other { source: M, target: M },
}

/// For each run of the source in a range, whether its events may be written: whether the target has the same run.
type Fit = HashMap<String, bool>;

impl Pass<'_> {
    pub(super) async fn run(mut self) -> Result<PassSummary> {
        let (runs, events) = self.source.size().await?;
        (self.observer)(Notice::Begun {
            is_verification: !self.writes(),
            runs,
            events,
        });
        let mut pages = pages_of_runs(Arc::clone(&self.source), Range::default());
        let mut after = None;
        while let Some(page) = pages.next().await? {
            // Beside the runs of this page, the target may have others in between, and after the last page any.
            let until = page.next.as_ref().map(|_| {
                let last = page.rows.iter().rev().find_map(|found| found.key.clone());
                last.or_else(|| after.clone()).unwrap_or_default()
            });
            let range = Range {
                after: after.take(),
                until: until.clone(),
            };
            let fit = self.runs(page.rows, &range).await?;
            self.events(&fit, range).await?;
            after = until;
        }
        while self.next_written().await? {}
        Ok(self.summary)
    }

    fn writes(&self) -> bool {
        self.purpose != Purpose::Verify
    }

    /// Goes through the runs of a range, of which these are the source's.
    async fn runs(&mut self, page: Vec<Found<skill_run::Model>>, range: &Range) -> Result<Fit> {
        let read = page.len() as u64;
        let keys = page.iter().filter_map(|found| found.key.clone());
        let mut fit: Fit = keys.map(|id| (id, false)).collect();
        let (mut new, mut finished) = (Vec::new(), Vec::new());

        let mut source = Rows::of_page(page, range.after.clone());
        let mut target = Rows::of(pages_of_runs(Arc::new(self.target.clone()), range.clone()));
        while let Some(pair) = rows::next(&mut source, &mut target).await? {
            match self.compare(pair) {
                None => {}
                Some(Compared::Same(run)) => {
                    fit.insert(run.id, true);
                }
                Some(Compared::New(run)) => new.push(run),
                Some(Compared::Other { source, target }) if is_finish(&source, &target) => {
                    finished.push(source);
                }
                Some(Compared::Other { source, .. }) => self.conflict(&source),
            }
        }

        if self.writes() {
            let new: Vec<_> = new
                .into_iter()
                .filter(|run| self.is_storable(run))
                .collect();
            for (run, is_stored) in new
                .iter()
                .zip(target::insert_runs(self.target, &new).await?)
            {
                self.written(run, is_stored, |tally| &mut tally.copied);
                fit.insert(run.id.clone(), is_stored);
            }
            let finished: Vec<_> = finished
                .into_iter()
                .filter(|run| self.is_storable(run))
                .collect();
            let stored = target::finish_runs(self.target, &finished).await?;
            for (run, is_stored) in finished.iter().zip(stored) {
                self.written(run, is_stored, |tally| &mut tally.finished);
                fit.insert(run.id.clone(), is_stored);
            }
        } else {
            for run in &new {
                self.behind(run, DifferenceKind::Missing);
            }
            for run in &finished {
                self.behind(run, DifferenceKind::Unfinished);
            }
        }
        (self.observer)(Notice::Read {
            runs: read,
            events: 0,
        });
        Ok(fit)
    }

    async fn events(&mut self, fit: &Fit, range: Range) -> Result<()> {
        if self.purpose == Purpose::CopyToVerify && self.skip_events(&range).await? {
            return Ok(());
        }
        let mut source = Rows::of(pages_of_events(Arc::clone(&self.source), range.clone()));
        let mut target = Rows::of(pages_of_events(Arc::new(self.target.clone()), range));
        let mut batch = Batch::default();
        let mut without_run = Vec::new();
        let mut told = self.summary.events.read;
        while let Some(pair) = rows::next(&mut source, &mut target).await? {
            match self.compare(pair) {
                None | Some(Compared::Same(_)) => {}
                Some(Compared::Other { source, .. }) => self.conflict(&source),
                Some(Compared::New(event)) => match fit.get(&event.run_id) {
                    Some(true) if self.writes() => {
                        if self.is_storable(&event) {
                            batch.push(event);
                        }
                    }
                    Some(_) => self.behind(&event, DifferenceKind::Missing),
                    None => without_run.push(event),
                },
            }
            if batch.is_full() {
                self.append(&mut batch).await?;
            }
            if without_run.len() >= write::MOST_AT_ONCE {
                self.look_for_runs(&mut without_run).await?;
            }
            let read = self.summary.events.read - told;
            if read >= 1_000 {
                told += read;
                (self.observer)(Notice::Read {
                    runs: 0,
                    events: read,
                });
            }
        }
        self.append(&mut batch).await?;
        self.look_for_runs(&mut without_run).await?;
        (self.observer)(Notice::Read {
            runs: 0,
            events: self.summary.events.read - told,
        });
        Ok(())
    }

    /// Passes over events of which both sides have as many: this is for the program that has been stopped to wait less,
    /// and what may be the matter with them all the same, the verification tells.
    async fn skip_events(&mut self, range: &Range) -> Result<bool> {
        let events = self.source.count_events(range).await?;
        let is_same = events == History::count_events(self.target, range).await?;
        if is_same {
            self.summary.events.read += events;
            self.summary.events.same += events;
            (self.observer)(Notice::Read { runs: 0, events });
        }
        Ok(is_same)
    }

    async fn append(&mut self, batch: &mut Batch) -> Result<()> {
        let events = std::mem::take(batch).events;
        if events.is_empty() {
            return Ok(());
        }
        if self.writes.len() == MOST_WRITES {
            self.next_written().await?;
        }
        // A plan that was made and kept while there were few runs would have PostgreSQL read all of them for each batch.
        let target = self.target.clone().without_prepared_statements();
        self.writes.spawn(async move {
            let answers = target::append_events(&target, &events).await;
            (events, answers)
        });
        Ok(())
    }

    /// Waits until a batch is written; false if there is none.
    async fn next_written(&mut self) -> Result<bool> {
        let Some(written) = self.writes.join_next().await else {
            return Ok(false);
        };
        let (events, answers) = written.map_err(|err| Error::Backend {
            transient: true,
            source: err.into(),
        })?;
        for (event, answer) in events.iter().zip(answers?) {
            match answer {
                // The run was there a moment ago.
                Err(Error::NotFound { .. }) => self.behind(event, DifferenceKind::Missing),
                answer => self.written(event, answer.is_ok(), |tally| &mut tally.copied),
            }
        }
        Ok(true)
    }

    /// Finds out about events whose run wasn't there: it may have come since.
    async fn look_for_runs(&mut self, events: &mut Vec<skill_run_log::Model>) -> Result<()> {
        let mut run_ids: Vec<_> = events.iter().map(|event| event.run_id.clone()).collect();
        run_ids.dedup();
        let existing = self.source.existing(&run_ids).await?;
        for event in events.drain(..) {
            if existing.contains(&event.run_id) {
                self.behind(&event, DifferenceKind::Missing);
            } else {
                self.summary.source.remove(Digest::of(&event));
                self.summary.events.orphans += 1;
                self.tell::<skill_run_log::Model>(Some(&event.key()), DifferenceKind::Orphan);
            }
        }
        Ok(())
    }

    /// What the target has of a row of the source; none if there is nothing to do about it.
    fn compare<M: Copied>(&mut self, pair: Pair<M>) -> Option<Compared<M>> {
        let (mut source, target) = match pair {
            Pair::Source(source) => (source, None),
            Pair::Both(source, target) => (source, Some(target)),
            Pair::Target(target) => {
                M::tally(&mut self.summary).extra += 1;
                self.tell::<M>(target.key.as_ref(), DifferenceKind::Extra);
                if let Some((_, digest)) = self.readable(target) {
                    self.summary.target.add(digest);
                }
                return None;
            }
        };
        let target = match target.map(|found| self.readable(found)) {
            Some(Some((row, digest))) => {
                self.summary.target.add(digest);
                Some((row, digest))
            }
            // It is there, and can't be read.
            Some(None) => return None,
            None => None,
        };
        M::tally(&mut self.summary).read += 1;
        let adapted = std::mem::take(&mut source.adapted);
        let (source, digest) = self.readable(source)?;
        M::tally(&mut self.summary).adapted += u64::from(!adapted.is_empty());
        for reason in adapted {
            self.tell::<M>(Some(&source.key()), DifferenceKind::Adapted(reason));
        }
        self.summary.source.add(digest);
        Some(match target {
            None => Compared::New(source),
            Some((_, of_target)) if of_target == digest => {
                M::tally(&mut self.summary).same += 1;
                Compared::Same(source)
            }
            Some((target, _)) => Compared::Other { source, target },
        })
    }

    /// A row that was found, with its digest, unless it can't be used.
    fn readable<M: Copied>(&mut self, found: Found<M>) -> Option<(M, Digest)> {
        match found.content {
            Ok(row) => {
                let digest = Digest::of(&row);
                Some((row, digest))
            }
            Err(err) => {
                self.refuse::<M>(found.key.as_ref(), &err);
                None
            }
        }
    }

    /// Whether the target can hold it.
    fn is_storable<M: Copied>(&mut self, row: &M) -> bool {
        match target::refusal(self.target, row) {
            None => true,
            Some(err) => {
                self.refuse::<M>(Some(&row.key()), &err);
                false
            }
        }
    }

    fn refuse<M: Copied>(&mut self, key: Option<&M::Key>, reason: &impl fmt::Display) {
        M::tally(&mut self.summary).refused += 1;
        self.tell::<M>(key, DifferenceKind::Refused(reason.to_string()));
    }

    /// A row was written, if nobody else has written another one in the meantime.
    fn written<M: Copied>(&mut self, row: &M, is_stored: bool, count: fn(&mut Tally) -> &mut u64) {
        if is_stored {
            *count(M::tally(&mut self.summary)) += 1;
        } else {
            self.conflict(row);
        }
    }

    fn conflict<M: Copied>(&mut self, row: &M) {
        M::tally(&mut self.summary).conflicts += 1;
        self.tell::<M>(Some(&row.key()), DifferenceKind::Conflict);
    }

    fn behind<M: Copied>(&mut self, row: &M, kind: DifferenceKind) {
        M::tally(&mut self.summary).behind += 1;
        self.tell::<M>(Some(&row.key()), kind);
    }

    /// Each difference once, although there may be two passes.
    fn tell<M: Copied>(&self, key: Option<&M::Key>, kind: DifferenceKind) {
        let is_told = match kind {
            DifferenceKind::Extra => !self.writes(),
            DifferenceKind::Missing | DifferenceKind::Unfinished => {
                self.is_last && self.purpose != Purpose::CopyToVerify
            }
            DifferenceKind::Conflict
            | DifferenceKind::Refused(_)
            | DifferenceKind::Orphan
            | DifferenceKind::Adapted(_) => self.purpose != Purpose::CopyToVerify,
        };
        if is_told {
            let row = M::name(key.cloned());
            (self.observer)(Notice::Difference(Difference { row, kind }));
        }
    }
}

/// Whether all that a run of the target lacks is its end.
fn is_finish(source: &skill_run::Model, target: &skill_run::Model) -> bool {
    let start = |run: &skill_run::Model| {
        (
            run.skill_id.clone(),
            run.caller_id.clone(),
            run.channel_id.clone(),
            run.parent_run_id.clone(),
            run.started_at,
            run.inputs.clone(),
        )
    };
    source.finished_at.is_some() && target.finished_at.is_none() && start(source) == start(target)
}

/// Events that are to be written by one statement.
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
        self.events.len() >= write::MOST_AT_ONCE || self.bytes >= write::MOST_BYTES_AT_ONCE
    }
}

fn pages_of_runs(history: Arc<dyn History>, range: Range) -> Pages<skill_run::Model> {
    Pages::of(history, range, |history, stretch| async move {
        history.runs(&stretch).await
    })
}

fn pages_of_events(history: Arc<dyn History>, range: Range) -> Pages<skill_run_log::Model> {
    Pages::of(history, range, |history, stretch| async move {
        history.events(&stretch).await
    })
}

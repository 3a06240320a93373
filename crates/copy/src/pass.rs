//! Going through both histories once: to write what the target hasn't, or to compare.

use std::collections::HashMap;
use std::sync::Arc;

use runtrail_audit::Result;
use runtrail_entity::{skill_run, skill_run_log};
use runtrail_store::{AuditStore, StoredRows};
use tokio::task::JoinSet;

use crate::account::{Account, Compared, Purpose};
use crate::digest::Digest;
use crate::history::{Copied, Found, History, Range};
use crate::report::{DifferenceKind, PassSummary};
use crate::rows::{self, Pages, Rows};
use crate::target;

pub(crate) struct Pass<'a> {
    source: Arc<dyn History>,
    target: &'a AuditStore,
    account: Account<'a>,
    /// Batches of events that are being written, while further ones are gone through.
    in_flight: JoinSet<Written>,
}

/// Events, and the answer for each.
type Written = (Vec<skill_run_log::Model>, Result<Vec<Result<()>>>);

/// More than one, for PostgreSQL has more than one processor to write them.
const MOST_IN_FLIGHT: usize = 2;

/// How many events are read before it is told again how far it is.
const EVENTS_BETWEEN_NOTICES: u64 = 1_000;

/// For each run of the source in a range, whether its events may be written: whether the target has the same run.
type Fit = HashMap<String, bool>;

impl<'a> Pass<'a> {
    pub(crate) fn new(
        source: Arc<dyn History>,
        target: &'a AuditStore,
        account: Account<'a>,
    ) -> Self {
        Self {
            source,
            target,
            account,
            in_flight: JoinSet::new(),
        }
    }

    pub(crate) async fn run(mut self) -> Result<PassSummary> {
        self.account.begun(self.source.size().await?);
        let mut pages = pages_of_runs(Arc::clone(&self.source), Range::default());
        let mut after = None;
        while let Some(page) = pages.next().await? {
            // Beside the runs of this page, the target may have others in between, and after the last page any.
            let until = page.next.as_ref().map(|_| {
                let last = last_key(&page.rows);
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
        Ok(self.account.summary)
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
            match self.account.compare(pair) {
                None => {}
                Some(Compared::Same(run)) => {
                    fit.insert(run.id, true);
                }
                Some(Compared::New(run)) => new.extend(self.storable(run)),
                Some(Compared::Other { source, target }) if is_finish(&source, &target) => {
                    finished.extend(self.storable(source));
                }
                Some(Compared::Other { source, .. }) => self.account.conflict(&source),
            }
        }

        if self.account.is_writing() {
            let stored = self.target.stored_rows().insert_runs(&new).await?;
            for (run, is_stored) in new.into_iter().zip(stored) {
                self.account
                    .written(&run, is_stored, |tally| &mut tally.copied);
                fit.insert(run.id, is_stored);
            }
            let stored = self.target.stored_rows().finish_runs(&finished).await?;
            for (run, is_stored) in finished.into_iter().zip(stored) {
                self.account
                    .written(&run, is_stored, |tally| &mut tally.finished);
                fit.insert(run.id, is_stored);
            }
        } else {
            for run in new {
                self.account.behind(&run, DifferenceKind::Missing);
            }
            for run in finished {
                self.account.behind(&run, DifferenceKind::Unfinished);
                fit.insert(run.id, true);
            }
        }
        self.account.progress(read, 0);
        Ok(fit)
    }

    async fn events(&mut self, fit: &Fit, range: Range) -> Result<()> {
        if self.account.purpose == Purpose::CopyToVerify && self.skip_events(&range).await? {
            return Ok(());
        }
        let mut source = Rows::of(pages_of_events(Arc::clone(&self.source), range.clone()));
        let mut target = Rows::of(pages_of_events(Arc::new(self.target.clone()), range));
        let mut batch = Batch::default();
        let mut without_run = Vec::new();
        let mut told = self.account.summary.events.read;
        while let Some(pair) = rows::next(&mut source, &mut target).await? {
            match self.account.compare(pair) {
                None | Some(Compared::Same(_)) => {}
                Some(Compared::Other { source, .. }) => self.account.conflict(&source),
                Some(Compared::New(event)) => match fit.get(&event.run_id) {
                    Some(true) => match self.storable(event) {
                        Some(event) if self.account.is_writing() => batch.push(event),
                        Some(event) => self.account.behind(&event, DifferenceKind::Missing),
                        None => {}
                    },
                    // It isn't mixed into another run.
                    Some(false) => self.account.blocked(&event),
                    None => without_run.push((event.key(), Digest::of(&event))),
                },
            }
            if batch.is_full() {
                self.append(&mut batch).await?;
            }
            if without_run.len() >= StoredRows::MAX_BATCH_ROWS {
                self.look_for_runs(&mut without_run).await?;
            }
            let read = self.account.summary.events.read - told;
            if read >= EVENTS_BETWEEN_NOTICES {
                told += read;
                self.account.progress(0, read);
            }
        }
        self.append(&mut batch).await?;
        self.look_for_runs(&mut without_run).await?;
        let read = self.account.summary.events.read - told;
        self.account.progress(0, read);
        Ok(())
    }

    /// Passes over events of which both sides have as many: this is for a program that has been stopped to wait less, and
    /// what may be the matter with them all the same, the verification finds.
    async fn skip_events(&mut self, range: &Range) -> Result<bool> {
        let events = self.source.count_events(range).await?;
        let is_same = events == History::count_events(self.target, range).await?;
        if is_same {
            self.account.summary.events.read += events;
            self.account.summary.events.same += events;
            self.account.progress(0, events);
        }
        Ok(is_same)
    }

    async fn append(&mut self, batch: &mut Batch) -> Result<()> {
        let events = std::mem::take(batch).events;
        if events.is_empty() {
            return Ok(());
        }
        if self.in_flight.len() == MOST_IN_FLIGHT {
            self.next_written().await?;
        }
        let target = self.target.clone();
        self.in_flight.spawn(async move {
            let answers = target.stored_rows().append_events(&events).await;
            (events, answers)
        });
        Ok(())
    }

    /// Waits until a batch is written; false if there is none.
    async fn next_written(&mut self) -> Result<bool> {
        let Some(written) = self.in_flight.join_next().await else {
            return Ok(false);
        };
        let (events, answers) = written.map_err(rows::ended)?;
        for (event, answer) in events.iter().zip(answers?) {
            self.account
                .written(event, answer.is_ok(), |tally| &mut tally.copied);
        }
        Ok(true)
    }

    /// Finds out about events whose run wasn't there: it may have come since.
    async fn look_for_runs(&mut self, events: &mut Vec<((String, i64), Digest)>) -> Result<()> {
        let mut run_ids: Vec<_> = events.iter().map(|((id, _), _)| id.clone()).collect();
        run_ids.dedup();
        let existing = self.source.existing(&run_ids).await?;
        for (key, digest) in events.drain(..) {
            match existing.contains(&key.0) {
                true => {
                    let kind = DifferenceKind::Missing;
                    self.account.behind_at::<skill_run_log::Model>(&key, kind);
                }
                false => self.account.orphan(&key, digest),
            }
        }
        Ok(())
    }

    /// The row, if the target can hold it.
    fn storable<M: Copied>(&mut self, row: M) -> Option<M> {
        match target::refusal(self.target, &row) {
            None => Some(row),
            Some(err) => {
                self.account.refuse::<M>(Some(&row.key()), &err);
                None
            }
        }
    }
}

/// The last key of some rows that both databases can be asked for: PostgreSQL knows no text with a NUL character. What
/// comes after it is part of the next range.
fn last_key(rows: &[Found<skill_run::Model>]) -> Option<String> {
    let mut keys = rows.iter().rev().filter_map(|found| found.key.as_ref());
    keys.find(|key| !key.contains('\0')).cloned()
}

/// Whether all that a run of the target lacks is its end.
fn is_finish(source: &skill_run::Model, target: &skill_run::Model) -> bool {
    fn start(run: &skill_run::Model) -> (i64, [&str; 5], Option<&str>) {
        let parts = [
            &run.id,
            &run.skill_id,
            &run.caller_id,
            &run.channel_id,
            // To the byte, unlike where a start is repeated: else the two would differ for ever.
            &run.inputs,
        ];
        let parent = run.parent_run_id.as_deref();
        (run.started_at, parts.map(String::as_str), parent)
    }
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
        self.events.len() >= StoredRows::MAX_BATCH_ROWS || self.bytes >= StoredRows::MAX_BATCH_BYTES
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

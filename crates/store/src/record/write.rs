//! The calls that can be grouped as values, so that one statement can write many of them.

use std::mem::discriminant;
use std::ops::Deref;
use std::sync::{Arc, Weak};

use runtrail_audit::{
    Error, ReservationRequest, Result, RunStats, SkillRun, SkillRunLog, Spending,
};
use runtrail_db::{Executor, backend};
use runtrail_entity::{budget_reservation, skill_run, skill_run_log};

use crate::codec;
use crate::settings::{Session, Settings};
use crate::statements::finishes::Finish;
use crate::statements::reservations::Settlement;
use crate::statements::{combined, finishes, logs, reservations, starts};
use crate::watch::Hub;

/// An encoded call; its arguments are already validated.
#[derive(Debug)]
pub(crate) enum Write {
    Start(skill_run::Model),
    Append(skill_run_log::Model),
    Finish(Finish),
    Reserve(budget_reservation::Model),
    Settle(Settlement),
}

/// A call whose caller may give up before the write completes.
#[derive(Debug)]
pub(crate) struct Request {
    write: Write,
    caller: Weak<()>,
}

impl Request {
    /// The caller counts as waiting until it drops the second value.
    pub(crate) fn new(write: Write) -> (Arc<Self>, Arc<()>) {
        let caller = Arc::new(());
        let request = Self {
            write,
            caller: Arc::downgrade(&caller),
        };
        (Arc::new(request), caller)
    }

    /// Whether the caller still waits. It may have given up, or another attempt may have succeeded.
    fn is_caller_waiting(&self) -> bool {
        self.caller.strong_count() > 0
    }

    /// Writes the call in a separate statement; if that changes nothing, a query determines why.
    pub(crate) async fn execute(&self, db: &Session<'_, impl Executor>) -> Result<()> {
        self.write.execute_if(db, || self.is_caller_waiting()).await
    }
}

impl Deref for Request {
    type Target = Write;

    fn deref(&self) -> &Write {
        &self.write
    }
}

impl Write {
    pub(crate) fn start(run: &SkillRun, settings: &Settings) -> Result<Self> {
        codec::encode_run(run, settings).map(Self::Start)
    }

    pub(crate) fn append(event: &SkillRunLog, settings: &Settings) -> Result<Self> {
        let row = codec::encode_log(event, settings.clock.now(), &settings.limits);
        row.map(Self::Append)
    }

    pub(crate) fn finish(run_id: &str, stats: &RunStats, settings: &Settings) -> Result<Self> {
        Finish::encode(run_id, stats, settings).map(Self::Finish)
    }

    pub(crate) fn reserve(request: &ReservationRequest, settings: &Settings) -> Result<Self> {
        codec::encode_reservation(request, settings.owner_id()).map(Self::Reserve)
    }

    pub(crate) fn settle(id: &str, actual: &Spending) -> Result<Self> {
        Settlement::encode(id, actual).map(Self::Settle)
    }

    /// The id of the run or of the reservation.
    pub(crate) fn run_id(&self) -> &str {
        match self {
            Self::Start(row) => &row.id,
            Self::Append(row) => &row.run_id,
            Self::Finish(finish) => &finish.run_id,
            Self::Reserve(row) => &row.id,
            Self::Settle(settlement) => &settlement.id,
        }
    }

    /// Reports this call, once it has succeeded, to the streams.
    pub(crate) fn report(&self, hub: &Hub) {
        match self {
            Self::Start(row) => hub.run_written(&row.id, row.parent_run_id.as_deref()),
            Self::Append(row) => hub.event_written(&row.run_id, row.sequence.unsigned_abs()),
            Self::Finish(finish) => hub.run_written(&finish.run_id, None),
            Self::Reserve(_) | Self::Settle(_) => {}
        }
    }

    /// Reservations of one kind count against the same budgets, so that concurrent statements lock
    /// these in the same order.
    pub(crate) fn is_same_kind(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Reserve(row), Self::Reserve(other)) => {
                (&row.caller_id, &row.skill_id, &row.channel_id)
                    == (&other.caller_id, &other.skill_id, &other.channel_id)
            }
            _ => discriminant(self) == discriminant(other),
        }
    }

    fn is_about_budgets(&self) -> bool {
        matches!(self, Self::Reserve(_) | Self::Settle(_))
    }

    /// The total size of its texts.
    pub(crate) fn bytes(&self) -> usize {
        match self {
            Self::Start(row) => row.inputs.len() + row.output.len() + row.error.len(),
            Self::Append(row) => row.payload.len(),
            Self::Finish(finish) => finish.outcome.output.len() + finish.outcome.error.len(),
            Self::Reserve(_) | Self::Settle(_) => 0,
        }
    }

    /// Writes the call in a separate statement; if that changes nothing, a query determines why.
    pub(crate) async fn execute(&self, db: &Session<'_, impl Executor>) -> Result<()> {
        self.execute_if(db, || true).await
    }

    async fn execute_if(
        &self,
        db: &Session<'_, impl Executor>,
        is_caller_waiting: impl Fn() -> bool + Send,
    ) -> Result<()> {
        match self {
            Self::Start(row) => starts::start_one(db, row, is_caller_waiting).await,
            Self::Append(row) => logs::append_one(db, row).await,
            Self::Finish(finish) => finishes::finish_one(db, finish).await,
            Self::Reserve(row) => reservations::reserve_one(db, row).await,
            Self::Settle(settlement) => reservations::settle_one(db, settlement).await,
        }
    }
}

/// Writes calls to distinct rows with a single statement, which is committed on its own. Returns the
/// result of each call, or `None` if it is unknown. On SQLite all calls are of one kind; on
/// PostgreSQL only those about the same run must be.
///
/// A caller without a result must write its call in a separate statement, which is safe even if the
/// call was already written. This keeps the shared connection free: the separate statement may have
/// to wait for a lock, or be followed by a query for the reason of a failure.
pub(crate) async fn write_group(
    db: &Session<'_, impl Executor>,
    writes: &[Arc<Request>],
) -> Vec<Option<Result<()>>> {
    if let [write] = writes {
        return vec![unless_locked(db, write.execute(db).await)];
    }
    if writes.iter().any(|write| write.is_about_budgets()) && !is_of_one_kind(writes) {
        return write_by_kind(db, writes).await;
    }
    match write_batch(db, writes).await {
        Ok(answers) => answers,
        // One of the rows may be locked; the error doesn't say which. Write the calls one by one.
        Err(err) if is_about_a_row(db, &err) => {
            let mut answers = Vec::with_capacity(writes.len());
            for write in writes {
                answers.push(unless_locked(db, write.execute(db).await));
            }
            answers
        }
        // The error may concern calls of one kind only.
        Err(err) if !err.is_transient() && !is_of_one_kind(writes) => {
            write_by_kind(db, writes).await
        }
        Err(err) => {
            let concerns_all = is_about_the_database(&err);
            let answer = || concerns_all.then(|| Err(err.clone()));
            writes.iter().map(|_| answer()).collect()
        }
    }
}

fn is_of_one_kind(writes: &[Arc<Request>]) -> bool {
    writes.iter().all(|write| write.is_same_kind(&writes[0]))
}

/// Writes the calls of each kind with a statement of its own.
async fn write_by_kind(
    db: &Session<'_, impl Executor>,
    writes: &[Arc<Request>],
) -> Vec<Option<Result<()>>> {
    let mut answers: Vec<_> = writes.iter().map(|_| None).collect();
    let mut rest: Vec<_> = answers.iter_mut().zip(writes).collect();
    while let Some((_, first)) = rest.first() {
        let first = Arc::clone(first);
        let of_kind = rest.extract_if(.., |(_, write)| write.is_same_kind(&first));
        let (places, group): (Vec<_>, Vec<_>) = of_kind
            .map(|(answer, write)| (answer, Arc::clone(write)))
            .unzip();
        let written = Box::pin(write_group(db, &group)).await;
        for (place, answer) in places.into_iter().zip(written) {
            *place = answer;
        }
    }
    answers
}

/// Whether an error may be due to the lock of a single row, or to a statement timeout that is too
/// short for a group of this size. SQLite has neither row locks nor statement timeouts.
fn is_about_a_row(db: &Session<'_, impl Executor>, err: &Error) -> bool {
    backend::has_row_locks(db.backend())
        && matches!(err, Error::Busy { .. } | Error::Timeout { .. })
}

/// Returns the result, or `None` if the row is locked: the caller then waits for the lock
/// separately.
fn unless_locked(db: &Session<'_, impl Executor>, answer: Result<()>) -> Option<Result<()>> {
    let is_locked = answer.as_ref().is_err_and(|err| is_about_a_row(db, err));
    (!is_locked).then_some(answer)
}

/// Whether an error concerns the database rather than the written rows.
fn is_about_the_database(err: &Error) -> bool {
    err.is_transient()
        || matches!(
            err,
            Error::StorageFull { .. } | Error::ReadOnly { .. } | Error::SchemaMissing
        )
}

/// Writes the calls with one statement; the result of a call is `None` if it is unknown.
async fn write_batch(
    db: &Session<'_, impl Executor>,
    writes: &[Arc<Request>],
) -> Result<Vec<Option<Result<()>>>> {
    let (mut starts, mut events, mut finishes) = (Vec::new(), Vec::new(), Vec::new());
    let (mut requests, mut settlements) = (Vec::new(), Vec::new());
    for write in writes {
        match &write.write {
            Write::Start(row) => starts.push((row, || write.is_caller_waiting())),
            Write::Append(row) => events.push(row),
            Write::Finish(finish) => finishes.push(finish),
            Write::Reserve(row) => requests.push(row),
            Write::Settle(settlement) => settlements.push(settlement),
        }
    }
    if !requests.is_empty() {
        return reservations::reserve_many(db, &requests).await;
    }
    if !settlements.is_empty() {
        let settled = reservations::settle_many(db, &settlements).await?;
        return Ok(settled.into_iter().map(Some).collect());
    }
    let rows_of_starts: Vec<_> = starts.iter().map(|(row, _)| *row).collect();
    let written = combined::execute(db, &rows_of_starts, &events, &finishes).await?;
    // Each kind is judged alone: what was written may be deleted before it is confirmed.
    let mut starts = match written.starts == starts.len() as u64 {
        true => starts.iter().map(|_| Some(Ok(()))).collect(),
        false => starts::confirm_many(db, &starts).await?,
    }
    .into_iter();
    let mut events = match written.events == events.len() as u64 {
        true => events.iter().map(|_| Ok(())).collect(),
        false => logs::confirm_many(db, &events).await?,
    }
    .into_iter();
    let mut finishes = match written.finishes == finishes.len() as u64 {
        true => vec![true; finishes.len()],
        false => finishes::confirm_many(db, &finishes).await?,
    }
    .into_iter();
    let answer = |write: &Arc<Request>| match &write.write {
        Write::Start(_) => unless_locked(db, starts.next()??),
        Write::Append(_) => events.next(),
        Write::Finish(_) => finishes.next()?.then_some(Ok(())),
        Write::Reserve(_) | Write::Settle(_) => None,
    };
    Ok(writes.iter().map(answer).collect())
}

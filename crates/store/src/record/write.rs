//! The three recording calls as values, so that one statement can write many of them.

use std::mem::discriminant;
use std::ops::Deref;
use std::sync::{Arc, Weak};

use runtrail_audit::{Error, Result, RunStats, SkillRun, SkillRunLog};
use runtrail_db::{Executor, backend};
use runtrail_entity::{skill_run, skill_run_log};

use crate::codec;
use crate::settings::{Session, Settings};
use crate::statements::finishes::Finish;
use crate::statements::{combined, finishes, logs, starts};

/// An encoded call; its arguments are already validated.
#[derive(Debug)]
pub(crate) enum Write {
    Start(skill_run::Model),
    Append(skill_run_log::Model),
    Finish(Finish),
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

    pub(crate) fn run_id(&self) -> &str {
        match self {
            Self::Start(row) => &row.id,
            Self::Append(row) => &row.run_id,
            Self::Finish(finish) => &finish.run_id,
        }
    }

    pub(crate) fn is_same_kind(&self, other: &Self) -> bool {
        discriminant(self) == discriminant(other)
    }

    /// The total size of its texts.
    pub(crate) fn bytes(&self) -> usize {
        match self {
            Self::Start(row) => row.inputs.len() + row.output.len() + row.error.len(),
            Self::Append(row) => row.payload.len(),
            Self::Finish(finish) => finish.outcome.output.len() + finish.outcome.error.len(),
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
    for write in writes {
        match &write.write {
            Write::Start(row) => starts.push((row, || write.is_caller_waiting())),
            Write::Append(row) => events.push(row),
            Write::Finish(finish) => finishes.push(finish),
        }
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
    };
    Ok(writes.iter().map(answer).collect())
}

//! The three calls that record what runs do, as values: so that many can be written together.

use std::mem::discriminant;
use std::ops::Deref;
use std::sync::{Arc, Weak};

use runtrail_audit::{Error, Result, RunStats, SkillRun, SkillRunLog};
use runtrail_db::{Connection, backend};
use runtrail_entity::{skill_run, skill_run_log};

use crate::codec;
use crate::settings::{Session, Settings};
use crate::statements::finishes::Finish;
use crate::statements::{finishes, logs, starts};

/// One call, encoded: what can be refused without the database has been refused.
#[derive(Debug)]
pub(crate) enum Write {
    Start(skill_run::Model),
    Append(skill_run_log::Model),
    Finish(Finish),
}

/// A call whose caller may give up while it is being written.
#[derive(Debug)]
pub(crate) struct Request {
    write: Write,
    caller: Weak<()>,
}

impl Request {
    /// The caller counts as waiting for as long as it holds the second value.
    pub(crate) fn new(write: Write) -> (Arc<Self>, Arc<()>) {
        let caller = Arc::new(());
        let request = Self {
            write,
            caller: Arc::downgrade(&caller),
        };
        (Arc::new(request), caller)
    }

    /// Whether the caller still waits. It may have given up, or another of its attempts may have succeeded.
    fn is_wanted(&self) -> bool {
        self.caller.strong_count() > 0
    }

    /// Writes the call by a statement of its own; if that changes nothing, a query finds the reason.
    pub(crate) async fn alone(&self, db: &Session<'_, impl Connection>) -> Result<()> {
        self.write.alone_if(db, || self.is_wanted()).await
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
        codec::encode_run(run, &settings.limits).map(Self::Start)
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

    pub(crate) fn is_alike(&self, other: &Self) -> bool {
        discriminant(self) == discriminant(other)
    }

    /// How much its texts hold.
    pub(crate) fn bytes(&self) -> usize {
        match self {
            Self::Start(row) => row.inputs.len() + row.output.len() + row.error.len(),
            Self::Append(row) => row.payload.len(),
            Self::Finish(finish) => finish.outcome.output.len() + finish.outcome.error.len(),
        }
    }

    /// Writes the call by a statement of its own; if that changes nothing, a query finds the reason.
    pub(crate) async fn alone(&self, db: &Session<'_, impl Connection>) -> Result<()> {
        self.alone_if(db, || true).await
    }

    async fn alone_if(
        &self,
        db: &Session<'_, impl Connection>,
        is_wanted: impl Fn() -> bool + Send,
    ) -> Result<()> {
        match self {
            Self::Start(row) => starts::start_alone(db, row, is_wanted).await,
            Self::Append(row) => logs::append_alone(db, row).await,
            Self::Finish(finish) => finishes::finish_alone(db, finish).await,
        }
    }
}

/// Writes calls of one kind, no two of them to the same row, by a single statement, which commits by itself; returns the
/// answer to each that is certain.
///
/// Who gets none has to write alone, as a call may that has been written already. That leaves the connection to the
/// others: a call may wait for a lock, or may need a question to find out what is wrong with it.
pub(crate) async fn together(
    db: &Session<'_, impl Connection>,
    writes: &[Arc<Request>],
) -> Vec<Option<Result<()>>> {
    if let [write] = writes {
        return vec![unless_locked(db, write.alone(db).await)];
    }
    match at_once(db, writes).await {
        Ok(answers) => answers,
        // One of the rows is locked, but the error doesn't say which. The others are still written.
        Err(err) if is_about_a_row(db, &err) => {
            let mut answers = Vec::with_capacity(writes.len());
            for write in writes {
                answers.push(unless_locked(db, write.alone(db).await));
            }
            answers
        }
        Err(err) => {
            let concerns_all = is_about_the_database(&err);
            let answer = || concerns_all.then(|| Err(err.clone()));
            writes.iter().map(|_| answer()).collect()
        }
    }
}

/// Whether an error may come from the lock of a single row, or from how much there is to write. SQLite has no such
/// locks, and no such limits.
fn is_about_a_row(db: &Session<'_, impl Connection>, err: &Error) -> bool {
    backend::has_row_locks(db.connection())
        && matches!(err, Error::Busy { .. } | Error::Timeout { .. })
}

/// The answer, or `None` if the row is locked: the caller then waits for the lock alone.
fn unless_locked(db: &Session<'_, impl Connection>, answer: Result<()>) -> Option<Result<()>> {
    let is_locked = answer.as_ref().is_err_and(|err| is_about_a_row(db, err));
    (!is_locked).then_some(answer)
}

/// Whether an error says something about the database, and nothing about what was written.
fn is_about_the_database(err: &Error) -> bool {
    err.is_transient()
        || matches!(
            err,
            Error::StorageFull { .. } | Error::ReadOnly { .. } | Error::SchemaMissing
        )
}

/// Writes them, and gives those answers that are certain.
async fn at_once(
    db: &Session<'_, impl Connection>,
    writes: &[Arc<Request>],
) -> Result<Vec<Option<Result<()>>>> {
    // All but one of these stay empty.
    let (mut starts, mut events, mut finishes) = (Vec::new(), Vec::new(), Vec::new());
    for write in writes {
        match &write.write {
            Write::Start(row) => starts.push((row, || write.is_wanted())),
            Write::Append(row) => events.push(row),
            Write::Finish(finish) => finishes.push(finish),
        }
    }
    let stored = |are_stored: Vec<bool>| {
        let answers = are_stored
            .into_iter()
            .map(|stored| stored.then_some(Ok(())));
        answers.collect()
    };
    if !starts.is_empty() {
        let answers = starts::start_many(db, &starts).await?;
        Ok(answers
            .into_iter()
            .map(|answer| unless_locked(db, answer?))
            .collect())
    } else if !finishes.is_empty() {
        finishes::finish_many(db, &finishes).await.map(stored)
    } else {
        let answers = logs::append_many(db, &events).await?;
        Ok(answers.into_iter().map(Some).collect())
    }
}

use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use futures_util::future::AbortHandle;
use runtrail_audit::Result;
use runtrail_db::{FileConnection, SqliteFile, backend};
use sea_orm::{DbBackend, DbErr};
use tokio::sync::mpsc;
use tokio::task::yield_now;

use super::task::{self, Work, lock_of, settle};
use super::{Call, Forward, Job};
use crate::error;
use crate::settings::{Session, Settings};
use crate::statements::MAX_BATCH_BYTES;

/// How long the thread polls the queue before it sleeps. A wake-up takes longer than the pause
/// between two calls of one caller.
const SPIN: Duration = Duration::from_micros(50);

/// Writes a SQLite file on a connection that only this task uses; blocks its thread meanwhile.
///
/// A single call is one statement, which is committed on its own. Calls that have queued up share a
/// transaction, in which each has its own statement.
pub(super) struct FileTask {
    file: SqliteFile,
    connection: Option<FileConnection>,
    /// How long a call waits while another process locks the file.
    lock_timeout: Option<Duration>,
    /// Whether `close` has given up the calls.
    abort: AbortHandle,
    settings: Settings,
    rows: u64,
}

impl FileTask {
    pub(super) fn new(
        file: SqliteFile,
        lock_timeout: Option<Duration>,
        abort: AbortHandle,
    ) -> Self {
        Self {
            file,
            connection: None,
            lock_timeout,
            abort,
            settings: Settings::default(),
            rows: 0,
        }
    }

    async fn write(&mut self, waiting: &mut Vec<Job>) {
        let calls = take_leading(waiting);
        self.rows += calls.len() as u64;
        let answers = self.write_calls(&calls).await;
        // Without an answer, their callers learn that the result is unknown.
        if self.abort.is_aborted() {
            return;
        }
        settle(
            waiting,
            calls,
            answers.into_iter().map(Some),
            self.lock_timeout,
        );
    }

    /// Writes calls in their order, and returns their results.
    async fn write_calls(&mut self, calls: &[Call]) -> Vec<Result<()>> {
        if let Some(call) = calls.first() {
            self.settings.tables = Arc::clone(&call.target.tables);
        }
        if calls.len() > 1 {
            match self.write_together(calls).await {
                Ok(answers) => return answers,
                Err(err) if lock_of(&err).is_some() => return vec![Err(err); calls.len()],
                // Nothing has been written. Separately, each call gets a result of its own.
                Err(_) => {}
            }
        }
        let mut answers: Vec<Result<()>> = Vec::with_capacity(calls.len());
        for call in calls {
            // No call overtakes another that waits for the lock.
            let answer = match answers.last() {
                Some(Err(err)) if lock_of(err).is_some() => Err(err.clone()),
                _ => self.write_one(call).await,
            };
            answers.push(answer);
        }
        answers
    }

    async fn write_one(&mut self, call: &Call) -> Result<()> {
        let connection = self.connection().map_err(error::database)?;
        let session = Session::shared(&connection, &self.settings);
        let answer = call.write.execute(&session).await;
        self.connection = Some(connection);
        answer
    }

    /// Writes calls in one transaction.
    ///
    /// # Errors
    ///
    /// The transaction has failed as a whole, and was rolled back.
    async fn write_together(&mut self, calls: &[Call]) -> Result<Vec<Result<()>>> {
        let connection = self.connection().map_err(error::database)?;
        let written = write_transaction(&connection, &self.settings, calls).await;
        // A connection that couldn't roll back would keep the transaction open, and is closed.
        if written.is_ok() || connection.rollback().is_ok() {
            self.connection = Some(connection);
        }
        written
    }

    async fn forward(&mut self, forward: Forward) {
        let Forward {
            statement, answer, ..
        } = forward;
        match self.connection() {
            Ok(connection) => {
                self.rows += answer.execute(&connection, statement).await;
                self.connection = Some(connection);
            }
            Err(err) => answer.fail(err),
        }
    }

    /// Returns the connection; opens it if necessary.
    fn connection(&mut self) -> Result<FileConnection, DbErr> {
        match self.connection.take() {
            Some(connection) => Ok(connection),
            None => self.file.open_to_write(),
        }
    }
}

impl Work for FileTask {
    async fn wait(&mut self, queue: &mut mpsc::Receiver<Job>) -> Option<Job> {
        let begun = Instant::now();
        while begun.elapsed() < SPIN {
            if let Ok(job) = queue.try_recv() {
                return Some(job);
            }
            thread::yield_now();
        }
        queue.recv().await
    }

    async fn process(&mut self, waiting: &mut Vec<Job>) {
        match waiting.first() {
            Some(Job::Write(_)) => self.write(waiting).await,
            Some(Job::Forward(_)) => {
                if let Job::Forward(forward) = waiting.remove(0) {
                    self.forward(forward).await;
                }
            }
            Some(Job::Close) | None => {}
        }
        // `close` can abort the task only when it yields.
        yield_now().await;
    }

    async fn check_statistics(&mut self) {
        self.rows = 0;
        if let Some(optimize) = backend::optimize(DbBackend::Sqlite)
            && let Ok(connection) = self.connection()
        {
            task::optimize(&connection, optimize).await;
            self.connection = Some(connection);
        }
    }

    fn rows(&self) -> u64 {
        self.rows
    }
}

/// Removes the waiting calls up to the first job of another kind, or up to the maximum size of a
/// transaction.
fn take_leading(waiting: &mut Vec<Job>) -> Vec<Call> {
    let mut bytes = 0;
    let fits = |(index, job): &(usize, &Job)| {
        let Job::Write(call) = job else {
            return false;
        };
        bytes += call.write.bytes();
        *index == 0 || bytes <= MAX_BATCH_BYTES
    };
    let count = waiting.iter().enumerate().take_while(fits).count();
    let calls = waiting.drain(..count).filter_map(|job| match job {
        Job::Write(call) => Some(call),
        Job::Forward(_) | Job::Close => None,
    });
    calls.collect()
}

/// Writes calls in one transaction.
async fn write_transaction(
    connection: &FileConnection,
    settings: &Settings,
    calls: &[Call],
) -> Result<Vec<Result<()>>> {
    let session = Session::shared(connection, settings);
    connection.begin().map_err(error::database)?;
    let mut answers = Vec::with_capacity(calls.len());
    for call in calls {
        match call.write.execute(&session).await {
            // Later calls must not overtake this one.
            Err(err) if lock_of(&err).is_some() => return Err(err),
            // After a serious failure SQLite rolls back on its own. Further statements would be
            // committed one by one.
            Err(err) if !connection.is_in_transaction() => return Err(err),
            answer => answers.push(answer),
        }
    }
    connection.commit().map_err(error::database)?;
    Ok(answers)
}

use std::sync::Arc;
use std::thread;

use sea_orm::{DbErr, RuntimeErr, SqlxError};
use tokio::sync::oneshot;

/// Runs blocking work on a new thread.
///
/// Starting a thread takes less time than the work. Tokio's blocking threads aren't used, since
/// callers that wait for this work could occupy all of them.
///
/// # Errors
///
/// The system refuses another thread, or the work has panicked.
pub(super) async fn run<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, DbErr> {
    let (sender, result) = oneshot::channel();
    thread::Builder::new()
        .name("runtrail-read".to_owned())
        // The caller may have given up.
        .spawn(move || drop(sender.send(work())))
        .map_err(|err| failed(SqlxError::Io(err)))?;
    result.await.map_err(|_| failed(SqlxError::WorkerCrashed))
}

fn failed(err: SqlxError) -> DbErr {
    DbErr::Conn(RuntimeErr::SqlxError(Arc::new(err)))
}
